/**
 * Beside the picture of a lesson: who was there how long, and what that means for the money. A student sees the own time
 * and a mark at what is needed, the tutor everybody's, and the button that ends the lesson.
 */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { money } from "../format";
import { Answers, Modal } from "../parts/dialog";
import { Form, Submit } from "../parts/form";
import { useLoaded } from "../parts/loaded";
import { Failure, Loading } from "../parts/states";
import { toast } from "../parts/toast";
import { call, subscribe } from "../server";
import { me } from "../session";
import type { AttendanceRow, AttendanceView, EndPreview, Id } from "../wire";
import { TimeLeft } from "./door";
import { t } from "./texts";

const minutes = (seconds: number) => Math.floor(seconds / 60);
// Nobody who lacks a second should read that nothing is missing.
const minutesUp = (seconds: number) => Math.ceil(seconds / 60);

// Nobody's minute is longer; who reads the dialog sees it change.
const FORESEEN_EVERY_MS = 10_000;

// The server tells of each person about once a minute; what it told counts over what was fetched before.
type Told = Readonly<Record<string, Pick<AttendanceRow, "attended_s" | "required_s" | "reached">>>;

export function AttendancePanel({ roomId }: { roomId: Id }) {
  // By how much the lesson's clock is ahead of the server's. It may be set while somebody looks, so it is asked now and then.
  const [ahead, setAhead] = useState(0);
  // Who has left is no participant any more, and still stands in the table.
  const names = useRef(new Map<string, string>());
  const { value, error, reload } = useLoaded(
    async () => {
      const seen = await call("room.attendance", { room_id: roomId });
      const room = await call("room.get", { room_id: roomId });
      setAhead(room.ahead_s * 1000);
      return { seen, room };
    },
    [roomId],
  );
  const [told, setTold] = useState<Told>({});
  useEffect(() => {
    const renew = async () => {
      await reload();
      setTold({});
    };
    // Without an answer it goes on as it did.
    const renewClock = () => call("room.get", { room_id: roomId }).then((room) => setAhead(room.ahead_s * 1000), () => undefined);
    const ends = [
      subscribe(`user:${me.value?.id ?? ""}`, {
        onReset: () => void renew(),
        onEvent: (event) => {
          if (event.ev !== "attendance.updated" || event.d.room_id !== roomId) return;
          const { user_id, ...row } = event.d;
          if (user_id === me.value?.id) void renewClock();
          setTold((before) => ({ ...before, [user_id]: row }));
        },
      }),
      subscribe(`room:${roomId}`, {
        onReset: () => undefined,
        onEvent: ({ ev }) => ["session.started", "session.ended", "participant.joined", "room.updated", "room.closed"].includes(ev) && void renew(),
      }),
    ];
    return () => {
      for (const end of ends) end();
    };
  }, [roomId]);
  if (value === undefined) return error === undefined ? <Loading heights={["6rem"]} /> : <Failure error={error} again={reload} />;
  const { seen, room } = value;
  for (const { user_id, name } of room.participants) names.current.set(user_id, name);
  const people = updated(seen, told);
  const tutor = room.host;
  const isTutor = tutor === me.value?.id;
  // One-to-one it is who came that counts, not how long.
  const isBooking = room.kind === "booking";
  return (
    <section class="attendance stack" aria-labelledby="attendance">
      <div class="row spread">
        <h2 id="attendance">{t().attendance}</h2>
        {room.starts_at !== null && room.ends_at !== null && !seen.frozen && <TimeLeft starts={room.starts_at} ends={room.ends_at} ahead={ahead} />}
      </div>
      {isTutor ? (
        <Everybody people={people.filter(({ user_id }) => user_id !== tutor)} names={names.current} isBooking={isBooking} />
      ) : (
        <Own row={people.find(({ user_id }) => user_id === me.value?.id)} scheduled={seen.scheduled_s} isBooking={isBooking} />
      )}
      {seen.frozen && <p class="faint">{t().final}</p>}
      {isTutor && room.state === "live" && <End roomId={roomId} isBooking={isBooking} />}
    </section>
  );
}

function updated({ people, scheduled_s }: AttendanceView, told: Told): AttendanceRow[] {
  const known = new Set(people.map(({ user_id }) => user_id));
  const late = Object.keys(told).filter((user_id) => !known.has(user_id));
  const rows = [...people, ...late.map((user_id) => ({ user_id, attended_s: 0, required_s: 0, percent: 0, reached: false, intervals: [], confidence: "none" }))];
  return rows.map((row) => {
    const news = told[row.user_id];
    // Cut to whole percent, and no more than all of it, as the server shows it.
    return news === undefined ? row : { ...row, ...news, percent: Math.min(100, Math.floor((news.attended_s * 100) / scheduled_s)) };
  });
}

function Own({ row, scheduled, isBooking }: { row: AttendanceRow | undefined; scheduled: number; isBooking: boolean }) {
  if (row === undefined) return <p class="soft">{t().notBegun}</p>;
  const { attended_s, required_s, reached, percent } = row;
  return (
    <>
      <p class="minutes figures">
        <strong>{t().own(minutes(attended_s), minutes(scheduled))}</strong> <span class="faint">{percent} %</span>
      </p>
      {isBooking ? (
        <p class="soft">{t().bookingRule}</p>
      ) : (
        <>
          <Bar row={row} total={scheduled} />
          {/* Said aloud when it turns, not each minute. */}
          <p role="status" class={reached ? "counts" : "soft"}>
            {reached ? t().reached(Math.round((required_s * 100) / scheduled)) : t().notYet(minutesUp(required_s - attended_s))}
          </p>
        </>
      )}
    </>
  );
}

function Bar({ row, total }: { row: AttendanceRow; total: number }) {
  const share = (seconds: number) => `${Math.min(100, (seconds * 100) / total)}%`;
  return (
    <div
      class={`measure ${row.reached ? "reached" : ""}`}
      role="meter"
      aria-label={t().attendance}
      aria-valuemin={0}
      aria-valuemax={minutes(total)}
      aria-valuenow={minutes(row.attended_s)}
      aria-valuetext={t().progress(minutes(row.attended_s), minutesUp(row.required_s))}
    >
      <i style={{ inlineSize: share(row.attended_s) }} />
      <b style={{ insetInlineStart: share(row.required_s) }} />
    </div>
  );
}

function Everybody({ people, names, isBooking }: { people: readonly AttendanceRow[]; names: ReadonlyMap<string, string>; isBooking: boolean }) {
  if (people.length === 0) return <p class="soft">{t().nobody}</p>;
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">{t().student}</th>
          <th scope="col">{t().minutes}</th>
          <th scope="col">{t().share}</th>
          {!isBooking && <th scope="col">{t().counts}</th>}
        </tr>
      </thead>
      <tbody>
        {people.map(({ user_id, attended_s, percent, reached }, place) => (
          <tr key={user_id}>
            <th scope="row">{names.get(user_id) ?? `${t().student} ${place + 1}`}</th>
            <td class="figures">{minutes(attended_s)}</td>
            <td class="figures">{percent} %</td>
            {!isBooking && <td>{reached ? t().yes : t().no}</td>}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function End({ roomId, isBooking }: { roomId: Id; isBooking: boolean }) {
  const [isAsking, setAsking] = useState(false);
  return (
    <>
      <button type="button" class="button danger start" onClick={() => setAsking(true)}>
        {t().end}
      </button>
      {isAsking && (
        <Ending roomId={roomId} close={() => setAsking(false)}>
          {isBooking ? <p class="soft">{t().endBooking}</p> : <Foresight roomId={roomId} />}
        </Ending>
      )}
    </>
  );
}

function Ending({ roomId, close, children }: { roomId: Id; close: () => void; children: ComponentChildren }) {
  async function end(): Promise<void> {
    await call("room.close", { room_id: roomId });
    toast(t().ended);
    close();
  }
  return (
    <Modal title={t().endSure} close={close}>
      {children}
      <Form submit={end}>
        <Answers close={close}>
          <Submit isDangerous>{t().end}</Submit>
        </Answers>
      </Form>
    </Modal>
  );
}

/** What it means for whose money, by the server's word; as long as the question stands, time goes on. */
function Foresight({ roomId }: { roomId: Id }) {
  const { value, error, reload } = useLoaded(() => call("room.end_preview", { room_id: roomId }), [roomId]);
  useEffect(() => {
    const timer = setInterval(() => void reload(), FORESEEN_EVERY_MS);
    return () => clearInterval(timer);
  }, [reload]);
  if (error !== undefined) return <Failure error={error} again={reload} />;
  return value === undefined ? <Loading heights={["9rem"]} /> : <Foreseen value={value} />;
}

function Foreseen({ value: { left_s, tutor_absent, to_tutor, to_platform, to_students, students } }: { value: EndPreview }) {
  return (
    <>
      {left_s > 0 && <p class="soft">{t().endEarly(minutesUp(left_s))}</p>}
      {tutor_absent && students.every(({ released }) => !released) && (
        <p class="alert" role="alert">
          {t().endTutor}
        </p>
      )}
      <dl class="foreseen">
        {([[t().toYou, to_tutor], [t().toPlatform, to_platform], [t().toStudents, to_students]] as const).map(([name, sum]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd class="figures">{money(sum)}</dd>
          </div>
        ))}
      </dl>
      {students.length === 0 ? (
        <p class="soft">{t().nothingHeld}</p>
      ) : (
        // A list that scrolls has to be reached by keyboard.
        // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <ul class="foreseen" tabIndex={0} aria-label={t().students}>
          {students.map(({ user_id, name, price, released }) => (
            <li key={user_id}>
              <span>{name}</span>
              <span class="figures soft">{(released ? t().paysYou : t().getsBack)(money(price))}</span>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
