/** How the connection is, once it is not: one line above everything, read aloud without interrupting. */
import { useEffect, useState } from "preact/hooks";
import { instant } from "../format";
import { seenAt } from "../seen";
import { connection } from "../server";
import type { CloseCodes } from "../wire";
import { t } from "./texts";

// A socket that comes back within this time is nobody's concern.
const PATIENCE_MS = 1_000;
const CODES: { [Name in keyof CloseCodes]?: CloseCodes[Name] } = {
  forbidden: 4003,
  protocol_version: 4004,
  connection_limit: 4005,
  drain: 4200,
};

export function Strip() {
  const { status, since, closeCode } = connection.value;
  const isAway = status === "offline" || (status !== "open" && closeCode !== undefined);
  const [isLate, setLate] = useState(false);
  useEffect(() => {
    setLate(false);
    if (!isAway) return undefined;
    const timer = setTimeout(() => setLate(true), since + PATIENCE_MS - Date.now());
    return () => clearTimeout(timer);
  }, [isAway]);
  return (
    <div role="status" class={isAway && isLate ? "strip" : ""}>
      {isAway && isLate && sentence(status === "stopped", closeCode)}
      {isAway && isLate && seenAt.value !== null && ` ${t().connection.seen(instant(new Date(seenAt.value).toISOString()))}`}
    </div>
  );
}

function sentence(isFinal: boolean, closeCode: number | undefined): string {
  const { connection: said } = t();
  if (!isFinal) return closeCode === CODES.drain ? said.restarting : said.offline;
  switch (closeCode) {
    case CODES.forbidden:
      return said.banned;
    case CODES.connection_limit:
      return said.crowded;
    case CODES.protocol_version:
      return said.outdated;
    default:
      return said.lost;
  }
}
