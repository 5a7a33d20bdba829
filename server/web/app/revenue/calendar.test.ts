import { expect, it } from "vitest";
import { begins } from "./calendar";

it("has every day of a span, its first and its last too", () => {
  expect(begins({ since: "2028-02-27", until: "2028-03-01", by: "day" })).toEqual(["2028-02-27", "2028-02-28", "2028-02-29", "2028-03-01"]);
  expect(begins({ since: "2030-01-07", until: "2030-01-07", by: "day" })).toEqual(["2030-01-07"]);
});

it("has the months that a span touches, by their first day", () => {
  expect(begins({ since: "2029-11-30", until: "2030-01-01", by: "month" })).toEqual(["2029-11-01", "2029-12-01", "2030-01-01"]);
});
