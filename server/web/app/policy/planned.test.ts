import { expect, it } from "vitest";
import type { PolicyVersion } from "../wire";
import { replacedBy } from "./planned";

const day = (no: number) => Date.UTC(2026, 10, no);
const version = (no: number, from: number, is_replaced = false) =>
  ({ terms: { version: no }, effective_from: new Date(from).toISOString(), is_replaced }) as unknown as PolicyVersion;
const versions = [version(5, day(20)), version(4, day(15)), version(3, day(18), true), version(2, day(1)), version(1, 0)];
const numbers = (from: number) => replacedBy(versions, from, day(10)).map(({ terms }) => terms.version);

it("names what would never come into force, the next first", () => {
  expect(numbers(day(10))).toEqual([4, 5]);
  expect(numbers(day(16))).toEqual([5]);
});

it("counts what begins at the same moment, and nothing that has begun or was replaced before", () => {
  expect(numbers(day(20))).toEqual([5]);
  expect(numbers(day(21))).toEqual([]);
  expect(numbers(0)).toEqual([4, 5]);
});
