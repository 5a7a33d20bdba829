import { expect, it } from "vitest";
import { parts, read } from "./written";

it("takes what stands between commas as one subject each", () => {
  expect(parts(" conversation,IELTS , ,grammar, ")).toEqual(["conversation", "IELTS", "grammar"]);
});

it("leaves out what is not filled in, and asks for no more than the form has", () => {
  expect(read({ title: "T", hourly_rate: " ", experience_years: "" }, { languages: ["vi"], isAdult: true })).toEqual({
    title: "T", description: "", subjects: [], languages: ["vi"], hourly_rate: null, experience_years: null, is_adult: true,
  });
});

it("understands an amount as it is typed, and refuses at its field what is none", () => {
  expect(read({ hourly_rate: "12,50", experience_years: "3" }, { languages: [], isAdult: false })).toMatchObject({ hourly_rate: { amount: 1250, currency: "USD" }, experience_years: 3 });
  for (const [name, wrong] of [["hourly_rate", "much"], ["experience_years", "2.5"]] as const)
    expect(() => read({ [name]: wrong }, { languages: [], isAdult: false })).toThrow(expect.objectContaining({ fields: { [name]: expect.any(String) } }));
});
