import { describe, expect, it } from "vitest";
import { isFor } from "./feature";
import { PLACES, ROUTES } from "./routes";
import { LANGUAGES } from "./texts";
import type { Account } from "./wire";

const student = { role: "student" } as Account;

describe("the table of routes", () => {
  it("has every address once", () => {
    const paths = ROUTES.map(({ path }) => path);

    expect(new Set(paths).size).toBe(paths.length);
  });

  it("has a page behind every place of the navigation, for the same people", () => {
    for (const place of PLACES) {
      const route = ROUTES.find(({ path }) => path === place.path);
      expect(route, place.path).toBeDefined();
      expect(Object.keys(place.name)).toEqual(Object.keys(LANGUAGES));
    }
  });
});

describe("who may open a page", () => {
  it("is everybody, members, or a role", () => {
    expect(isFor("everybody", null)).toBe(true);
    expect(isFor("members", null)).toBe(false);
    expect(isFor("members", undefined)).toBe(false);
    expect(isFor("members", student)).toBe(true);
    expect(isFor(["tutor", "admin"], student)).toBe(false);
  });
});
