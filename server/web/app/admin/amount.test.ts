import { expect, it } from "vitest";
import { minorUnits } from "./amount";

it("reads what people write", () => {
  expect(minorUnits("12.5", "USD")).toBe(1250);
  expect(minorUnits(" 12,50 ", "USD")).toBe(1250);
  expect(minorUnits("1200", "VND")).toBe(1200);
});

it("takes nothing else for an amount", () => {
  for (const text of ["", "0", "-1", "1.234", "1,000.00", "1e3", "ten"]) expect(minorUnits(text, "USD")).toBeUndefined();
  expect(minorUnits("1.5", "VND")).toBeUndefined();
});
