/** Light, dark, or what the system says. */
import { signal } from "@preact/signals";
import { kept } from "./kept";

export type Theme = "system" | "light" | "dark";

const before = kept.get("theme");
export const theme = signal<Theme>(before === "light" || before === "dark" ? before : "system");

export function chooseTheme(wanted: Theme): void {
  theme.value = wanted;
  kept.set("theme", wanted === "system" ? null : wanted);
  applyTheme();
}

export function applyTheme(): void {
  if (theme.value === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme.value;
  // The browser's own bar follows.
  for (const bar of document.querySelectorAll<HTMLMetaElement>("meta[name=theme-color]")) {
    const { scheme } = bar.dataset;
    bar.media = theme.value === "system" ? `(prefers-color-scheme: ${scheme})` : theme.value === scheme ? "all" : "not all";
  }
}
