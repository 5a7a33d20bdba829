/** From what stands in the form's fields to what the server is told. */
import { typed } from "../format";
import { Refused, type Asked } from "../server";
import { t } from "./texts";

interface Chosen {
  languages: readonly string[];
  isAdult: boolean;
}

export function read(values: Record<string, string>, { languages, isAdult }: Chosen): Asked<"tutor_profile.update"> {
  return {
    title: values["title"] ?? "",
    description: values["description"] ?? "",
    subjects: parts(values["subjects"] ?? ""),
    languages: [...languages],
    hourly_rate: rate(values["hourly_rate"] ?? ""),
    experience_years: years(values["experience_years"] ?? ""),
    is_adult: isAdult,
  };
}

/** "conversation, IELTS" as two; nobody means the empty one after a comma. */
export function parts(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

function rate(text: string) {
  if (text.trim() === "") return null;
  const money = typed(text);
  if (money === null) throw new Refused("bad_request", t().rateHint, { hourly_rate: t().rateHint });
  return { amount: money.amount, currency: "USD" as const };
}

function years(text: string): number | null {
  if (text.trim() === "") return null;
  if (!/^\d{1,2}$/.test(text.trim())) throw new Refused("bad_request", t().yearsWrong, { experience_years: t().yearsWrong });
  return Number(text);
}
