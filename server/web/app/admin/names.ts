/** Who people are, of whom a list has only the ids. */
import { useEffect, useState } from "preact/hooks";
import { call } from "../server";
import type { NamedUser } from "../wire";

export interface Names {
  name: (id: string) => string;
  email: (id: string) => string;
}

/** Until it is known, and where nobody is found, an id stands for itself, cut short. */
export function useNames(ids: readonly string[]): Names {
  const [known, setKnown] = useState<ReadonlyMap<string, NamedUser>>(new Map());
  const missing = [...new Set(ids)].filter((id) => !known.has(id));
  useEffect(() => {
    if (missing.length === 0) return;
    void call("admin.user.names", { user_ids: missing.slice(0, MOST) }).then(
      ({ items }) => setKnown((before) => new Map([...before, ...items.map((one) => [one.id, one] as const)])),
      () => undefined,
    );
  }, [missing.join(" ")]);
  return {
    name: (id) => known.get(id)?.name ?? short(id),
    email: (id) => known.get(id)?.email ?? short(id),
  };
}

// As many as the server takes.
const MOST = 200;
const short = (id: string) => id.slice(0, 8);
