/** One hold, explained: why, who was there, where the money went, and how to prove it without us. */
import { useEffect, useRef } from "preact/hooks";
import type { PageProperties } from "../feature";
import { clock, instant, money, time } from "../format";
import { AttendancePanel } from "../lessons/panel";
import { copy } from "../parts/copy";
import { Sum } from "../parts/cost";
import { useLoaded } from "../parts/loaded";
import { Missing, NoAccess, Pending } from "../parts/states";
import { Title } from "../parts/title";
import { call, codeOf, subscribe } from "../server";
import { me } from "../session";
import { language } from "../texts";
import type { Attendance, HoldDetail, Money, Snapshot } from "../wire";
import { Dispute } from "./dispute";
import { Download } from "./download";
import { t } from "./texts";
import { Timeline } from "./timeline";

export default function Hold({ params }: PageProperties) {
  const id = params["id"] ?? "";
  const { value: hold, error, reload } = useLoaded(() => call("hold.get", { hold_id: id }), [id, language.value]);
  const lesson = hold?.lesson_id ?? null;
  const { value: room, reload: renewRoom } = useLoaded(async () => (lesson === null ? null : call("room.get", { room_id: lesson })), [lesson]);
  useEffect(
    () =>
      subscribe(`user:${me.value?.id ?? ""}`, {
        onReset: () => undefined,
        onEvent: ({ ev }) => (ev === "hold.released" || ev === "hold.refunded") && void reload(),
      }),
    [reload],
  );
  useEffect(() => {
    if (lesson === null) return undefined;
    return subscribe(`room:${lesson}`, {
      onReset: () => undefined,
      onEvent: ({ ev }) => ["session.started", "session.ended", "room.closed", "room.updated"].includes(ev) && void renewRoom(),
    });
  }, [lesson]);
  if (hold === undefined) {
    const code = codeOf(error);
    if (code === "permission_denied") return <NoAccess />;
    return ["hold_not_found", "not_found", "bad_request"].includes(code) ? <Missing /> : <Pending title={t().hold} heights={["4rem", "10rem", "12rem"]} error={error} again={reload} />;
  }
  return <Explained hold={hold} room={room ?? null} />;
}

function Explained({ hold, room }: { hold: HoldDetail; room: Snapshot | null }) {
  // What came last decided: a correction replaces the settlement's three parts.
  const last = hold.adjustments.at(-1) ?? hold;
  const attendance = last.attendance ?? hold.attendance;
  return (
    <div class="hold-page">
      <Title>{room?.title ?? t().hold}</Title>
      <p class="row">
        <span class={`chip ${hold.status === "released" ? "accent" : ""}`}>{t().status[hold.status]}</span>
        {hold.cause !== null && <span class="chip">{t().causes[hold.cause]}</span>}
        <span class="faint">{t().sources[hold.source_kind]}</span>
      </p>
      <section class="card stack">
        <p class="price">
          <strong>{money(hold.amount)}</strong>
        </p>
        <h2>{t().explanation}</h2>
        <p class="text">{hold.explanation}</p>
        <dl class="sums">
          <Sum name={t().placed} value={instant(hold.placed_at)} />
          {hold.settled_at !== null && <Sum name={t().settled} value={instant(hold.settled_at)} />}
          {room?.starts_at && room.ends_at && <Sum name={t().outside} value={`${instant(room.starts_at)} – ${time(room.ends_at)}`} />}
        </dl>
      </section>
      {hold.status === "held" && room?.state === "live" && hold.student_id === me.value?.id && (
        <div class="card">
          <AttendancePanel roomId={room.id} />
        </div>
      )}
      {attendance !== null && <Presence attendance={attendance} room={room} isMeasured={hold.cause !== "outcome"} />}
      <Division hold={hold} tutor={last.tutor_share} platform={last.platform_share} student={last.refunded} />
      {hold.adjustments.length > 0 && (
        <section class="card stack">
          <h2>{t().later}</h2>
          <ul class="lines-of">
            {hold.adjustments.map((one) => (
              <li key={one.at}>
                <div class="about">
                  <strong>{t().causes[one.cause]}</strong>
                  {one.reason !== null && <span class="soft">{one.reason}</span>}
                  <span class="faint">{instant(one.at)}</span>
                </div>
              </li>
            ))}
          </ul>
        </section>
      )}
      {hold.status !== "held" && <Dispute hold={hold} isAllBack={last.refunded.amount === hold.amount.amount} />}
      <Proof hold={hold} />
    </div>
  );
}

function Presence({ attendance, room, isMeasured }: { attendance: Attendance; room: Snapshot | null; isMeasured: boolean }) {
  const { intervals, tutor_attended_s, tutor_required_s } = attendance;
  return (
    <section class="card stack" aria-labelledby="presence">
      <h2 id="presence">{t().presence}</h2>
      <Timeline attendance={attendance} startsAt={room?.starts_at ?? null} endsAt={room?.ends_at ?? null} isMeasured={isMeasured} />
      {intervals.length === 0 ? (
        <p class="soft">{t().never}</p>
      ) : (
        <details>
          <summary>{t().spans}</summary>
          <table>
            <thead>
              <tr>
                <th scope="col">{t().from}</th>
                <th scope="col">{t().to}</th>
                <th scope="col">{t().knownBy}</th>
              </tr>
            </thead>
            <tbody>
              {intervals.map((span) => (
                <tr key={span.from}>
                  <td>{time(span.from, true)}</td>
                  <td>{time(span.to, true)}</td>
                  <td>{span.sources.join(", ")}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </details>
      )}
      <p class="soft">{t().tutorThere(clock(tutor_attended_s), isMeasured ? clock(tutor_required_s) : null)}</p>
    </section>
  );
}

function Division({ hold, tutor, platform, student }: { hold: HoldDetail; tutor: Money; platform: Money; student: Money }) {
  const isHeld = hold.status === "held";
  const { tutor_bps } = hold;
  const parts = isHeld
    ? [
        { name: t().toTutor, size: tutor_bps, shown: `${tutor_bps / 100} %`, kind: "tutor" },
        { name: t().toPlatform, size: 10_000 - tutor_bps, shown: `${100 - tutor_bps / 100} %`, kind: "platform" },
      ]
    : [
        { name: t().toTutor, size: tutor.amount, shown: money(tutor), kind: "tutor" },
        { name: t().toPlatform, size: platform.amount, shown: money(platform), kind: "platform" },
        { name: t().toStudent, size: student.amount, shown: money(student), kind: "student" },
      ];
  return (
    <section class="card stack">
      <h2>{isHeld ? t().divisionHeld : t().division}</h2>
      <div class="division" aria-hidden="true">
        {parts.map(({ size, kind }) => size > 0 && <i key={kind} class={kind} style={{ flexGrow: size }} />)}
      </div>
      <dl class="sums">
        {parts.map(({ name, shown, kind }) => (
          <div key={kind}>
            <dt class={`key ${kind}`}>{name}</dt>
            <dd class="figures">{shown}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Proof({ hold }: { hold: HoldDetail }) {
  const { value: key } = useLoaded(() => call("receipt.key", {}), []);
  if (hold.status === "held") {
    return (
      <section class="card stack">
        <h2>{t().proof}</h2>
        <p class="soft">{t().proofLater}</p>
      </section>
    );
  }
  const command = `fourtalk receipt verify receipt.json --key ${key?.key ?? "…"}`;
  return (
    <section class="card stack">
      <h2>{t().proof}</h2>
      <div class="row">
        <Download path={`/holds/${hold.id}/receipt`} name="receipt.json">{t().receipt}</Download>
        <Download path={`/holds/${hold.id}/receipt.pdf`}>{t().paper}</Download>
      </div>
      <p class="soft">{t().proofWhy}</p>
      <Copied name={t().command} text={command} />
      {key && <Copied name={t().key} text={key.key} />}
    </section>
  );
}

function Copied({ name, text }: { name: string; text: string }) {
  const shown = useRef<HTMLElement>(null);
  return (
    <div class="copied">
      <code ref={shown} aria-label={name}>
        {text}
      </code>
      <button type="button" class="button quiet" aria-label={`${t().copy}: ${name}`} onClick={() => void copy(text, shown.current)}>
        {t().copy}
      </button>
    </div>
  );
}
