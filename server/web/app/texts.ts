/**
 * The language of the page. Each feature has its texts in a dictionary of its own, beside its pages:
 *
 *     const en = { title: "Free talks", people: (n: number) => plural(n, { one: "1 person", other: `${n} people` }) };
 *     const vi: typeof en = { … };
 *     export const t = texts({ en, vi });
 *
 * English gives the keys, and the compiler refuses a language that lacks one. `t()` inside a component follows a switch.
 */
import { signal } from "@preact/signals";
import { kept } from "./kept";

export const LANGUAGES = { en: "English", vi: "Tiếng Việt" } as const;
export type Language = keyof typeof LANGUAGES;

export const language = signal<Language>(first());

export function speak(wanted: Language): void {
  language.value = wanted;
  kept.set("language", wanted);
}

export function isLanguage(text: string | null): text is Language {
  return text !== null && text in LANGUAGES;
}

export function texts<Texts>(dictionaries: Record<Language, Texts>): () => Texts {
  return () => dictionaries[language.value];
}

export function plural(n: number, forms: { one: string; other: string }): string {
  return new Intl.PluralRules(language.value).select(n) === "one" ? forms.one : forms.other;
}

function first(): Language {
  const before = kept.get("language");
  if (isLanguage(before)) return before;
  return globalThis.navigator?.languages?.map((tag) => tag.slice(0, 2)).find(isLanguage) ?? "en";
}
