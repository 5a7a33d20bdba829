import { expect, it } from "vitest";
import { ownPath } from "./paths";

it("goes back to a page of ours, and nowhere else", () => {
  expect(ownPath("/settings?tab=1")).toBe("/settings?tab=1");
  for (const elsewhere of ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "javascript:alert(1)", "", undefined])
    expect(ownPath(elsewhere)).toBe("/");
});
