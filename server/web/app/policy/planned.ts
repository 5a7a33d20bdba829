/** Terms that are planned, and which of them others would come before. Pure. */
import type { PolicyVersion } from "../wire";

/** The versions that never come into force once newer terms begin at `from`, the next one first. Times are milliseconds. */
export function replacedBy(versions: readonly PolicyVersion[], from: number, now: number): readonly PolicyVersion[] {
  return versions
    .filter(({ effective_from, is_replaced }) => !is_replaced && Date.parse(effective_from) > now && Date.parse(effective_from) >= from)
    .toReversed();
}
