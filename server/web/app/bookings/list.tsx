/** One-to-one lessons of whoever looks, as student and as tutor, and everybody's for administrators. */
import { useEffect, useState } from "preact/hooks";
import { instant, money } from "../format";
import { learning as learningIcon } from "../icons/places";
import { More } from "../parts/more";
import { usePages } from "../parts/pages";
import { Empty, Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { call, subscribe } from "../server";
import { me } from "../session";
import type { BookingStatus, BookingView } from "../wire";
import { t } from "./texts";
import { name, sideOf, state } from "./words";

const STATES: readonly BookingStatus[] = ["requested", "scheduled", "active", "ended", "cancelled", "expired"];

export default function Bookings() {
  const id = me.value?.id ?? "";
  const [status, setStatus] = useState<BookingStatus | null>(null);
  const { items: value, error, reload, more } = usePages((cursor: string | null) => call("booking.list", { status, cursor, limit: 20 }), [id, status]);
  useEffect(() => subscribe(`user:${id}`, { onReset: () => undefined, onEvent: ({ ev }) => ev === "booking.updated" && void reload() }), [id, reload]);
  return (
    <>
      <Title
        beside={
          me.value?.role === "student" && (
            <a class="button" href="/tutors">
              {t().find}
            </a>
          )
        }
      >
        {t().bookings}
      </Title>
      <section class="wallet" aria-label={t().bookings}>
        <div class="filters row">
          <div class="field">
            <select aria-label={t().which} value={status ?? ""} onChange={({ currentTarget }) => setStatus(STATES.find((one) => one === currentTarget.value) ?? null)}>
              <option value="">{t().all}</option>
              {STATES.map((one) => (
                <option key={one} value={one}>
                  {t().status[one]}
                </option>
              ))}
            </select>
          </div>
        </div>
        <p class="visually-hidden" role="status">
          {value && t().found(value.length)}
        </p>
        {value === undefined ? (
          error === undefined ? <Loading heights={["4.5rem", "4.5rem", "4.5rem"]} /> : <Failure error={error} again={reload} />
        ) : value.length === 0 ? (
          <Empty icon={learningIcon} title={t().none}>
            <p>{t().noneWhy}</p>
          </Empty>
        ) : (
          <ul class="card lines-of">
            {value.map((booking) => (
              <Line key={booking.id} booking={booking} />
            ))}
          </ul>
        )}
        <More more={more} />
      </section>
    </>
  );
}

function Line({ booking }: { booking: BookingView }) {
  const side = sideOf(booking, me.value?.id);
  const { student_name, tutor_name } = booking;
  const isOpen = booking.status === "requested" || booking.status === "scheduled" || booking.status === "active";
  return (
    <li>
      <div class="about">
        <a href={`/bookings/${booking.id}`}>{name(booking, side)}</a>
        {booking.topic !== "" && <span class="soft">{side === "neither" ? t().lessonOf(student_name, tutor_name) : side === "student" ? tutor_name : student_name}</span>}
        <time class="faint" dateTime={booking.starts_at}>
          {instant(booking.starts_at)}
        </time>
      </div>
      <span class={`chip ${isOpen ? "accent" : ""}`}>{state(booking)}</span>
      <span class="amount figures">{booking.package_id === null ? money(booking.price) : t().ofPackage}</span>
    </li>
  );
}
