/** What a booking is to whoever looks at it: how it stands, what may be done, and what that would mean for the money. */
import { instant, money } from "../format";
import { words } from "../parts/states";
import { codeOf, Refused } from "../server";
import type { BookingView, Id } from "../wire";
import { t } from "./texts";

/** Administrators are neither of the two. */
export type Side = "student" | "tutor" | "neither";
export type Deed = "accept" | "decline" | "withdraw" | "cancel";

export function sideOf({ student_id, tutor_id }: BookingView, own: Id | undefined): Side {
  return own === student_id ? "student" : own === tutor_id ? "tutor" : "neither";
}

/** What it is called where it has no topic. */
export function name({ topic, student_name, tutor_name }: BookingView, side: Side): string {
  if (topic !== "") return topic;
  return side === "neither" ? t().lessonOf(student_name, tutor_name) : t().lessonWith(side === "student" ? tutor_name : student_name);
}

/** Its state in a word or two. */
export function state(booking: BookingView): string {
  const { status, outcome } = booking;
  if (status === "ended" && outcome !== null) return t().outcomes[outcome];
  if (isDeclined(booking)) return t().declined;
  return isWithdrawn(booking) ? t().withdrawn : t().status[status];
}

/** How it stands, in a sentence. */
export function standing(booking: BookingView, side: Side): string {
  const { status, outcome, student_name, tutor_name, answer_by } = booking;
  switch (status) {
    case "requested":
      return side === "tutor" ? t().waitsForYou(student_name, instant(answer_by)) : t().waitsForTutor(tutor_name, instant(answer_by));
    case "scheduled":
      return t().agreed;
    case "active":
      return t().onNow;
    case "expired":
      return t().noAnswer;
    case "cancelled":
      if (isDeclined(booking)) return t().declinedBy(tutor_name);
      if (isWithdrawn(booking)) return t().withdrawnBy(student_name);
      return booking.cancelled_by === "system" ? t().cancelledUnpaid : t().cancelledBy(whoCancelled(booking));
    case "ended":
      if (outcome === "no_show_student") return t().studentAbsent(student_name);
      if (outcome === "no_show_tutor") return t().tutorAbsent(tutor_name);
      return outcome === "not_held" ? t().nobodyCame : t().held;
  }
}

/** What to offer somebody at a time; what they may do is the server's to say. */
export function deeds({ status, starts_at }: BookingView, side: Side, now: number): readonly Deed[] {
  switch (status) {
    case "requested":
      return side === "tutor" ? ["accept", "decline"] : side === "student" ? ["withdraw"] : ["cancel"];
    case "scheduled":
      return side === "neither" || now < Date.parse(starts_at) ? ["cancel"] : [];
    case "active":
      return side === "neither" ? ["cancel"] : [];
    default:
      return [];
  }
}

/** What becomes of the money, and of the tutor's standing, if it is called off at a time. */
export function consequence(booking: BookingView, side: Side, now: number): string {
  const { status, package_id, payment, price, free_cancel_until, late_cancel_percent } = booking;
  const isOfPackage = package_id !== null;
  const isLate = status === "scheduled" && now > Date.parse(free_cancel_until);
  const until = instant(free_cancel_until);
  if (side !== "student") {
    const back = isOfPackage ? t().studentLessonBack : t().studentGetsBack(money(price));
    return isLate && side === "tutor" ? `${back} ${t().lateStrike}` : back;
  }
  // A card that has brought nothing yet is let go.
  const mayCost = status === "scheduled" && late_cancel_percent < 100 && (isOfPackage || payment?.state === "AUTHORIZED");
  if (!mayCost) return isOfPackage ? t().lessonBack : t().freeAgain(money(price));
  if (!isLate) return isOfPackage ? t().lessonBackUntil(until) : t().allBack(money(price), until);
  if (isOfPackage) return t().lateTaken(until);
  // As the server cuts it: what comes back is rounded down.
  const back = Math.floor((price.amount * late_cancel_percent) / 100);
  if (back === 0) return t().lateAll(until, money(price));
  return t().late(until, money({ ...price, amount: price.amount - back }), money({ ...price, amount: back }));
}

/** A refusal in the reader's words, as a form shows it. */
export function refused(error: unknown, known: Readonly<Record<string, string>>, fields: Readonly<Record<string, string>> = {}): unknown {
  const text = known[codeOf(error)];
  if (!(error instanceof Refused) || text === undefined) return error;
  const field = fields[error.code];
  // The form has words of its own for some codes; this one is said as it stands.
  return new Refused("conflict", text, field === undefined ? {} : { [field]: text }, error.facts);
}

export function said(error: unknown): string {
  return t().refusals[codeOf(error)] ?? words(error);
}

function isDeclined({ status, accepted_at, cancelled_by }: BookingView): boolean {
  return status === "cancelled" && accepted_at === null && cancelled_by === "tutor";
}

function isWithdrawn({ status, accepted_at, cancelled_by }: BookingView): boolean {
  return status === "cancelled" && accepted_at === null && cancelled_by === "student";
}

function whoCancelled({ cancelled_by, student_name, tutor_name }: BookingView): string {
  switch (cancelled_by) {
    case "student":
      return student_name;
    case "tutor":
      return tutor_name;
    default:
      return t().administrator;
  }
}
