/** What a feature brings to the shell: its pages, and its places in the navigation. */
import type { ComponentType } from "preact";
import type { Language } from "./texts";
import type { Account } from "./wire";

export interface PageProperties {
  /** The parts of the path that have a name. */
  params: Record<string, string>;
}

export interface Route {
  /** `:name` stands for one part of a path. */
  path: string;
  /** A dynamic import, so that the page comes when it is opened. Its module exports the page as `default`. */
  page: () => Promise<{ default: ComponentType<PageProperties> }>;
  /** Who may open it. What somebody may *do* there is the server's to say. */
  for: "everybody" | "members" | readonly Account["role"][];
}

export interface Place {
  path: string;
  /** Other addresses below which it is still there. */
  also?: readonly string[];
  /** The drawing, as text. */
  icon: string;
  /** Not from the feature's dictionary, which comes with its pages. */
  name: Record<Language, string>;
  for: Route["for"];
}

export interface Feature {
  routes: readonly Route[];
  places: readonly Place[];
}

export function isFor(whom: Route["for"], account: Account | null | undefined): boolean {
  if (whom === "everybody") return true;
  if (account === null || account === undefined) return false;
  return whom === "members" || whom.includes(account.role);
}
