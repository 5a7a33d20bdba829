/**
 * Beside the picture of a lesson: who was there how long, and what that means for the money. A student sees the own time
 * and a mark at what is needed, the tutor everybody's, and the button that ends the lesson.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import { Answers, Modal } from "../parts/dialog";
import { Form, Submit } from "../parts/form";
import { useLoaded } from "../parts/loaded";
import { Failure, Loading } from "../parts/states";
import { toast } from "../parts/toast";
import { call, serverNow, subscribe } from "../server";
import { me } from "../session";
import type { AttendanceRow, AttendanceView, Id, Snapshot } from "../wire";
import { t } from "./texts";

const minutes = (seconds: number) => Math.floor(seconds / 60);
// Nobody who lacks a second should read that nothing is missing.
const minutesUp = (seconds: number) => Math.ceil(seconds / 60);

// The server tells of each person about once a minute; what it told counts over what was fetched before.
type Told = Readonly<Record<string, Pick<AttendanceRow, "attended_s" | "required_s" | "reached">>>;

export function AttendancePanel({ roomId }: { roomId: Id }) {
  // Who has left is no participant any more, and still stands in the table.
  const names = useRef(new Map<string, string>());
  const { value, error, reload } = useLoaded(
    async () => ({ seen: await call("room.attendance", { room_id: roomId }), room: await call("room.get", { room_id: roomId }) }),
    [roomId],
  );
  const [told, setTold] = useState<Told>({});
  useEffect(() => {
    const renew = async () => {
      await reload();
      setTold({});
    };
    const ends = [
      subscribe(`user:${me.value?.id ?? ""}`, {
        onReset: () => void renew(),
        onEvent: (event) => {
          if (event.ev !== "attendance.updated" || event.d.room_id !== roomId) return;
          const { user_id, ...row } = event.d;
          setTold((before) => ({ ...before, [user_id]: row }));
        },
      }),
      subscribe(`room:${roomId}`, {
        onReset: () => undefined,
        onEvent: ({ ev }) => ["session.started", "session.ended", "participant.joined", "room.closed"].includes(ev) && void renew(),
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
  return (
    <section class="attendance stack" aria-labelledby="attendance">
      <h2 id="attendance">{t().attendance}</h2>
      {isTutor ? <Everybody people={people.filter(({ user_id }) => user_id !== tutor)} names={names.current} /> : <Own row={people.find(({ user_id }) => user_id === me.value?.id)} scheduled={seen.scheduled_s} />}
      {seen.frozen && <p class="faint">{t().final}</p>}
      {isTutor && room.state === "live" && <End room={room} people={people} />}
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

function Own({ row, scheduled }: { row: AttendanceRow | undefined; scheduled: number }) {
  if (row === undefined) return <p class="soft">{t().notBegun}</p>;
  const { attended_s, required_s, reached, percent } = row;
  return (
    <>
      <p class="minutes figures">
        <strong>{t().own(minutes(attended_s), minutes(scheduled))}</strong> <span class="faint">{percent} %</span>
      </p>
      <Bar row={row} total={scheduled} />
      {/* Said aloud when it turns, not each minute. */}
      <p role="status" class={reached ? "counts" : "soft"}>
        {reached ? t().reached(Math.round((required_s * 100) / scheduled)) : t().notYet(minutesUp(required_s - attended_s))}
      </p>
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

function Everybody({ people, names }: { people: readonly AttendanceRow[]; names: ReadonlyMap<string, string> }) {
  if (people.length === 0) return <p class="soft">{t().nobody}</p>;
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">{t().student}</th>
          <th scope="col">{t().minutes}</th>
          <th scope="col">{t().share}</th>
          <th scope="col">{t().counts}</th>
        </tr>
      </thead>
      <tbody>
        {people.map(({ user_id, attended_s, percent, reached }, place) => (
          <tr key={user_id}>
            <th scope="row">{names.get(user_id) ?? `${t().student} ${place + 1}`}</th>
            <td class="figures">{minutes(attended_s)}</td>
            <td class="figures">{percent} %</td>
            <td>{reached ? t().yes : t().no}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function End({ room, people }: { room: Snapshot; people: readonly AttendanceRow[] }) {
  const [isAsking, setAsking] = useState(false);
  const own = people.find(({ user_id }) => user_id === room.host);
  const students = people.filter(({ user_id }) => user_id !== room.host);
  const left = room.ends_at === null ? 0 : (Date.parse(room.ends_at) - serverNow()) / 1000;
  const lacking = own === undefined || own.reached ? 0 : own.required_s - own.attended_s;
  async function end(): Promise<void> {
    await call("room.close", { room_id: room.id });
    toast(t().ended);
    setAsking(false);
  }
  return (
    <>
      <button type="button" class="button danger start" onClick={() => setAsking(true)}>
        {t().end}
      </button>
      {isAsking && (
        <Modal title={t().endSure} close={() => setAsking(false)}>
          {left > 0 && <p class="soft">{t().endEarly(minutesUp(left))}</p>}
          <p class="soft">{t().endPaid(students.filter(({ reached }) => reached).length, students.length)}</p>
          {lacking > 0 && (
            <p class="alert" role="alert">
              {t().endTutor(minutesUp(lacking))}
            </p>
          )}
          <Form submit={end}>
            <Answers close={() => setAsking(false)}>
              <Submit isDangerous>{t().end}</Submit>
            </Answers>
          </Form>
        </Modal>
      )}
    </>
  );
}
