/** Whether every invariant held when the server last looked at them. */
import { fromNow } from "../format";
import { useLoaded } from "../parts/loaded";
import { serverNow } from "../server";
import { t } from "./texts";

interface Report {
  status: "ok" | "violated";
  checked_at: string;
  violations: readonly { name: string; rows: number }[];
  transfers: number;
}

export function Integrity() {
  const { value, error } = useLoaded(look, []);
  if (value === undefined)
    return <p class="integrity faint">{error === undefined ? t().integrity.looking : t().integrity.unknown}</p>;
  const isWhole = value.violations.length === 0;
  return (
    <p class={`integrity ${isWhole ? "" : "broken"}`} role={isWhole ? undefined : "alert"}>
      <i class={`dot ${isWhole ? "good" : "bad"}`} />
      {isWhole ? t().integrity.whole : t().integrity.broken(value.violations.map(({ name, rows }) => `${name} (${rows})`).join(", "))}
      <span class="faint">{t().integrity.checked(fromNow(value.checked_at, serverNow()), value.transfers)}</span>
    </p>
  );
}

/** No operation of the socket: it is what a monitor asks. Where something is broken, its status says so too. */
async function look(): Promise<Report> {
  const response = await fetch("/health/integrity");
  return response.json();
}
