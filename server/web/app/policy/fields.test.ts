import { expect, it } from "vitest";
import type { Policy } from "../wire";
import { changes, read, tier, written } from "./fields";

const terms = { version: 3, course_platform_bps: 3000, min_price: 1999, tiers_count_everything: false, booking_tiers: [{ from_earned: 0, fee_bps: 1500 }] } as unknown as Policy;

it("writes and reads the same value", () => {
  for (const [unit, value] of [["basis_points", 3333], ["minor_units", 1999], ["percent", 20], ["truth", true], ["choice", "refund"]] as const)
    expect(read(unit, written(unit, value))).toBe(value);
  expect(read("minor_units", "19,99")).toBe(1999);
});

it("leaves what is no number for the server to refuse", () => {
  expect(read("percent", "many")).toBe("many");
  expect(read("percent", "")).toBe("");
  expect(read("basis_points", "30.005")).toBe(3000.5);
});

it("sends only what is different", () => {
  expect(changes(terms, { course_platform_bps: 3000, min_price: 2500, booking_tiers: [tier("0", "15")] })).toEqual({ min_price: 2500 });
  expect(changes(terms, { booking_tiers: [tier("0", "12.5")] })).toEqual({ booking_tiers: [{ from_earned: 0, fee_bps: 1250 }] });
});
