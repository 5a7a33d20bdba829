/** One one-to-one lesson, from the request to its money: how it stands, what it is, and what can be done about it. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { PageProperties } from "../feature";
import { clock, instant, money, time } from "../format";
import { opensAt, untilOpen, useNow } from "../lessons/door";
import { useBusy } from "../parts/busy";
import { Sum } from "../parts/cost";
import { giveFocusBack } from "../parts/focus";
import { useLoaded } from "../parts/loaded";
import { Missing, Pending } from "../parts/states";
import { Title } from "../parts/title";
import { toast } from "../parts/toast";
import { call, codeOf, serverNow, subscribe } from "../server";
import { me } from "../session";
import type { BookingView, Instant } from "../wire";
import { LiftStrike, Undo } from "./dialogs";
import { t } from "./texts";
import { deeds, name, said, type Side, sideOf, standing, state } from "./words";

const UNKNOWN = new Set(["not_found", "bad_request"]);

export default function Booking({ params: { id = "" } }: PageProperties) {
  const own = me.value?.id ?? "";
  const { value, error, reload } = useLoaded(() => call("booking.get", { booking_id: id }), [id, own]);
  useEffect(() => {
    const isOurs = (booking_id: string) => booking_id === id;
    return subscribe(`user:${own}`, {
      onReset: () => undefined,
      onEvent: (event) => (event.ev.startsWith("hold.") || (event.ev === "booking.updated" && isOurs(event.d.booking_id))) && void reload(),
    });
  }, [own, id, reload]);
  if (value === undefined)
    return UNKNOWN.has(codeOf(error)) ? <Missing /> : <Pending title={t().one} heights={["9rem", "14rem", "8rem"]} error={error} again={reload} />;
  return <About key={id} booking={value} changed={reload} />;
}

interface Options {
  booking: BookingView;
  changed: () => Promise<void>;
}

function About({ booking, changed }: Options) {
  const side = sideOf(booking, me.value?.id);
  return (
    <>
      <Title
        beside={
          <a class="button" href="/bookings">
            {t().back}
          </a>
        }
      >
        {name(booking, side)}
      </Title>
      <div class="wallet booking">
        <Standing booking={booking} side={side} changed={changed} />
        <Facts booking={booking} side={side} />
        <Paid booking={booking} />
      </div>
    </>
  );
}

function Standing({ booking, side, changed }: Options & { side: Side }) {
  const { status, room_id, version, answer_by, has_strike } = booking;
  const { reason } = booking;
  // The lesson's clock may be ahead of the server's, and its room says by how much.
  const { value: room } = useLoaded(async () => (room_id === null ? null : call("room.get", { room_id }).catch(() => null)), [room_id, version]);
  const ahead = (room?.ahead_s ?? 0) * 1000;
  const isComing = status === "scheduled" || status === "active";
  return (
    <section class="card stack" aria-labelledby="standing">
      <div aria-live="polite" class="stack">
        <h2 id="standing">{state(booking)}</h2>
        <p class="soft">{standing(booking, side)}</p>
        {has_strike && side !== "student" && <p class="notice soon">{t().strike}</p>}
      </div>
      {reason !== null && (
        <figure>
          <figcaption class="faint">{t().reasonGiven}</figcaption>
          <blockquote class="text">{reason}</blockquote>
        </figure>
      )}
      {status === "requested" && side === "tutor" && <AnswerTime until={answer_by} />}
      {isComing && side !== "neither" && <Enter booking={booking} ahead={ahead} />}
      <Deeds booking={booking} side={side} ahead={ahead} changed={changed} />
    </section>
  );
}

/** How long is left to answer, as it passes. */
function AnswerTime({ until }: { until: Instant }) {
  const left = Math.max(0, Date.parse(until) - useNow());
  return (
    <p class="faint figures" role="timer">
      {t().answerIn(clock(left / 1000))}
    </p>
  );
}

/** The way into the room, where cameras can be tried before its door opens. */
function Enter({ booking: { room_id, starts_at }, ahead }: { booking: BookingView; ahead: number }) {
  const now = useNow() + ahead;
  const opens = opensAt(starts_at);
  return (
    <p class="row">
      <a class={`button ${now < opens ? "" : "primary"}`} href={`/rooms/${room_id}`}>
        {t().enter}
      </a>
      {now < opens && (
        <span class="faint figures" role="timer">
          {untilOpen(opens, now)}
        </span>
      )}
    </p>
  );
}

function Deeds({ booking, side, ahead, changed }: Options & { side: Side; ahead: number }) {
  const [asking, setAsking] = useState<"decline" | "withdraw" | "cancel" | "lift">();
  const [refusal, setRefusal] = useState<unknown>();
  const [isBusy, alone] = useBusy();
  const offered = deeds(booking, side, serverNow() + ahead);
  const canLift = side === "neither" && booking.has_strike;
  const buttons = `${offered.join()} ${canLift}`;
  const before = useRef(buttons);
  useEffect(() => {
    // What was pressed may be gone with what it has done.
    if (before.current !== buttons) giveFocusBack(null);
    before.current = buttons;
  }, [buttons]);

  async function accept(): Promise<void> {
    setRefusal(undefined);
    try {
      await call("booking.accept", { booking_id: booking.id, version: booking.version });
      toast(t().accepted);
    } catch (error) {
      setRefusal(error);
    }
    await changed();
  }

  const close = (isDone: boolean) => {
    setAsking(undefined);
    if (isDone) void changed();
  };
  return (
    <>
      {refusal !== undefined && (
        <p class="alert" role="alert">
          {said(refusal)}
        </p>
      )}
      {(offered.length > 0 || canLift) && (
        <div class="row">
          {offered.map((deed) =>
            deed === "accept" ? (
              <button key={deed} type="button" class="button primary" disabled={isBusy} aria-busy={isBusy} onClick={() => void alone(accept)}>
                {t().accept}
              </button>
            ) : (
              <button key={deed} type="button" class="button danger" onClick={() => setAsking(deed)}>
                {t()[deed]}
              </button>
            ),
          )}
          {canLift && (
            <button type="button" class="button" onClick={() => setAsking("lift")}>
              {t().liftStrike}
            </button>
          )}
        </div>
      )}
      {asking === "lift" && <LiftStrike booking={booking} close={close} />}
      {asking !== undefined && asking !== "lift" && <Undo deed={asking} booking={booking} side={side} ahead={ahead} changed={changed} close={close} />}
    </>
  );
}

function Facts({ booking, side }: { booking: BookingView; side: Side }) {
  const { student_name, student_timezone, tutor_id, tutor_name, tutor_timezone, starts_at, ends_at, minutes, status, free_cancel_until, late_cancel_percent, notes, requested_at } = booking;
  const others = [
    ...(side === "student" ? [] : [[student_name, student_timezone] as const]),
    ...(side === "tutor" ? [] : [[tutor_name, tutor_timezone] as const]),
  ];
  const seen = instant(starts_at);
  const elsewhere = others.map(([who, zone]) => [who, instant(starts_at, zone)] as const).filter(([, at]) => at !== seen);
  return (
    <section class="card stack" aria-labelledby="facts">
      <h2 id="facts">{t().facts}</h2>
      <dl class="sums">
        <div>
          <dt>{t().when}</dt>
          <dd class="figures">
            {seen} – {time(ends_at)}
            {elsewhere.map(([who, at]) => (
              <span key={who} class="faint block">
                {t().zones(who, at)}
              </span>
            ))}
          </dd>
        </div>
        <div>
          <dt>{t().length}</dt>
          <dd>{t().minutes(minutes)}</dd>
        </div>
        <div>
          <dt>{t().student}</dt>
          <dd>{student_name}</dd>
        </div>
        <div>
          <dt>{t().tutor}</dt>
          <dd>{side === "tutor" ? tutor_name : <a href={`/tutors/${tutor_id}`}>{tutor_name}</a>}</dd>
        </div>
        <div>
          <dt>{t().askedAt}</dt>
          <dd>{instant(requested_at)}</dd>
        </div>
        {(status === "requested" || status === "scheduled") && late_cancel_percent < 100 && (
          <Sum name={t().freeUntil} value={instant(free_cancel_until)} />
        )}
      </dl>
      {notes !== "" && (
        <div>
          <h3 class="faint">{t().notes}</h3>
          <p class="text">{notes}</p>
        </div>
      )}
    </section>
  );
}

function Paid({ booking: { price, package_id, payment, hold_id, student_id } }: { booking: BookingView }) {
  return (
    <section class="card stack" aria-labelledby="money">
      <h2 id="money">{t().money}</h2>
      <dl class="sums">
        <Sum name={t().price} value={package_id === null ? money(price) : t().byPackage} />
        {payment !== null && (
          <div>
            <dt>{t().payment}</dt>
            <dd>{t().payments[payment.state]}</dd>
          </div>
        )}
        {payment !== null && payment.captured.amount > 0 && (
          <Sum name={t().paid} value={money(payment.captured)} />
        )}
        {payment !== null && payment.refunded.amount > 0 && (
          <Sum name={t().cameBack} value={money(payment.refunded)} />
        )}
      </dl>
      {hold_id !== null && <p class="faint">{t().toHoldWhy}</p>}
      <p class="row">
        {package_id !== null && student_id === me.value?.id && (
          <a class="button" href={`/packages/${package_id}`}>
            {t().toPackage}
          </a>
        )}
        {hold_id !== null && (
          <a class="button" href={`/holds/${hold_id}`}>
            {t().toHold}
          </a>
        )}
      </p>
    </section>
  );
}
