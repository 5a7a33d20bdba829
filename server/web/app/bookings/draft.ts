/**
 * What somebody has written so far who asks for a lesson: kept for this tab, so that it is there again after a top-up, whose
 * page is another site's.
 */
import type { Id } from "../wire";

export type Draft = Readonly<Record<string, string>>;

export const draft = {
  get(own: Id, tutor: Id): Draft {
    try {
      return JSON.parse(sessionStorage.getItem(nameOf(own, tutor)) ?? "{}");
    } catch {
      return {};
    }
  },
  set(own: Id, tutor: Id, written: Draft | null): void {
    try {
      if (written === null) sessionStorage.removeItem(nameOf(own, tutor));
      else sessionStorage.setItem(nameOf(own, tutor), JSON.stringify(written));
    } catch {
      // Private windows of some browsers have no storage.
    }
  },
};

function nameOf(own: Id, tutor: Id): string {
  return `fourtalk.ask.${own}.${tutor}`;
}
