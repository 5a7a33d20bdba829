/** The parts of a room that list and journal both show. */
import { fromNow, instant } from "../format";
import type { RoomStatus, RoomView, SeatStatus } from "../wire";
import { t } from "./texts";

export function State({ state }: { state: RoomStatus }) {
  return (
    <span class={`chip state-${state}`}>
      {state === "live" && <i class="dot good" />}
      {t().states[state]}
    </span>
  );
}

export interface Sitting {
  user_id: string;
  name: string;
  no: number;
  state: SeatStatus;
}

/** Every seat, taken or free, as long as they can be counted at a glance; of a large class those that are taken. */
export function Seats({ seats, cap }: { seats: readonly Sitting[]; cap: number }) {
  const places = cap > GLANCE ? seats.map(({ no }) => no) : Array.from({ length: cap }, (_, index) => index + 1);
  if (cap > GLANCE && seats.length === 0) return <p class="faint">{t().seatsTaken(0, cap)}</p>;
  return (
    <ul class="seating" aria-label={t().seatsTaken(seats.length, cap)}>
      {places.map((no) => {
        const seat = seats.find((one) => one.no === no);
        return (
          <li key={no} class={seat?.state ?? "free"}>
            <i class="place" aria-hidden="true" />
            <span>
              {seat?.name ?? t().free}
              {seat && seat.state !== "connected" && <span class="faint"> · {t().seatStates[seat.state]}</span>}
            </span>
          </li>
        );
      })}
    </ul>
  );
}

const GLANCE = 8;

/** What is planned of it, and what falls due by itself. */
export function Times({ room, now: at }: { room: RoomView; now: string }) {
  const now = Date.parse(at);
  const due = room.timers.find(({ name }) => name in t().timers);
  return (
    <dl class="facts">
      {room.starts_at !== null && <Fact name={t().startsAt} value={instant(room.starts_at)} />}
      {room.ends_at !== null && <Fact name={t().endsAt} value={instant(room.ends_at)} />}
      {room.starts_at === null && <Fact name={t().openedAt} value={fromNow(room.created_at, now)} />}
      {due !== undefined && <Fact name={t().timers[due.name] ?? due.name} value={fromNow(due.due_at, now)} />}
      {room.ended_at !== null && <Fact name={t().endedAt} value={instant(room.ended_at)} />}
      <Fact
        name={t().evidence}
        value={`${room.evidence.count} · ${room.evidence.newest_at === null ? t().proofs[room.proof] : t().upTo(fromNow(room.evidence.newest_at, now))}`}
      />
    </dl>
  );
}

export function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
