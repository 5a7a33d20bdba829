/** What somebody bought: the lessons that come, and each purchase with where its money is. */
import { useEffect, useState } from "preact/hooks";
import { day, money } from "../format";
import { learning as learningIcon } from "../icons/places";
import { Door } from "../lessons/door";
import { Answers, Modal } from "../parts/dialog";
import { Form, Submit } from "../parts/form";
import { useKeys } from "../parts/keys";
import { More } from "../parts/more";
import { usePages } from "../parts/pages";
import { Empty, Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { toast } from "../parts/toast";
import { call, subscribe } from "../server";
import { me } from "../session";
import type { CourseView, PurchaseView, SessionView } from "../wire";
import { saying } from "./refusals";
import { t } from "./texts";

export default function Learning() {
  const { items: value, error, reload, more } = usePages(bought, []);
  // Money of a lesson that was settled has gone somewhere else.
  useEffect(
    () =>
      subscribe(`user:${me.value?.id ?? ""}`, {
        onReset: () => undefined,
        onEvent: ({ ev }) => (ev === "hold.released" || ev === "hold.refunded" || ev === "hold.placed") && void reload(),
      }),
    [reload],
  );
  return (
    <>
      <Title
        beside={
          <a class="button" href="/bookings">
            {t().bookings}
          </a>
        }
      >
        {t().learning}
      </Title>
      <div class="learning">
        {value === undefined ? (
          error === undefined ? <Loading heights={["6rem", "10rem", "10rem"]} /> : <Failure error={error} again={reload} />
        ) : value.length === 0 ? (
          <Empty icon={learningIcon} title={t().noPurchases}>
            <p>{t().noPurchasesWhy}</p>
            <a class="button primary" href="/courses">
              {t().find}
            </a>
          </Empty>
        ) : (
          <>
            <Next sessions={ahead(value)} />
            <h2>{t().purchases}</h2>
            <ul class="purchases">
              {value.map(({ purchase, course }) => (
                <Purchase key={purchase.id} purchase={purchase} course={course} changed={reload} />
              ))}
            </ul>
          </>
        )}
        <More more={more} />
      </div>
    </>
  );
}

interface Bought {
  purchase: PurchaseView;
  /** With its dates, where it can still be read. */
  course: CourseView | undefined;
}

/** A page of purchases and their courses, which come together: what is next stands above all of them. */
async function bought(cursor: string | null): Promise<{ items: Bought[]; next_cursor: string | null }> {
  const { items, next_cursor } = await call("purchase.list", { cursor, limit: 20 });
  const ids = [...new Set(items.map(({ course_id }) => course_id))];
  const courses = await Promise.all(ids.map((course_id) => call("course.get", { course_id }).catch(() => undefined)));
  return { items: items.map((purchase) => ({ purchase, course: courses[ids.indexOf(purchase.course_id)] })), next_cursor };
}

/** The sessions that somebody has a place in and that are not over, the next one first. */
function ahead(all: readonly Bought[]): SessionView[] {
  const rooms = new Set(all.flatMap(({ purchase }) => purchase.holds.filter(({ status }) => status === "held").map(({ lesson_id }) => lesson_id)));
  const courses = new Map(all.flatMap(({ course }) => (course === undefined ? [] : [[course.id, course] as const])));
  return [...courses.values()]
    .flatMap(({ sessions }) => sessions)
    .filter(({ room_id, status }) => rooms.has(room_id) && (status === "scheduled" || status === "in_progress"))
    .toSorted((one, other) => Date.parse(one.starts_at) - Date.parse(other.starts_at));
}

const NEXT = 3;

function Next({ sessions }: { sessions: readonly SessionView[] }) {
  if (sessions.length === 0) return null;
  return (
    <section class="card stack" aria-labelledby="next-lessons">
      <h2 id="next-lessons">{t().next}</h2>
      <ul class="lines-of">
        {sessions.slice(0, NEXT).map((session) => (
          <li key={session.id}>
            <Door lesson={session} />
          </li>
        ))}
      </ul>
    </section>
  );
}

interface Options {
  purchase: PurchaseView;
  course: CourseView | undefined;
  changed: () => Promise<unknown>;
}

function Purchase({ purchase, course, changed }: Options) {
  const [isAsking, setAsking] = useState(false);
  const { holds } = purchase;
  const dated = new Map(course?.sessions.map((session) => [session.id, session]));
  return (
    <li class="card stack">
      <div class="row spread">
        <h3>
          <a href={`/courses/${purchase.course_id}`}>{purchase.course_title}</a>
        </h3>
        <strong class="figures">{money(purchase.price)}</strong>
      </div>
      <p class="row">
        <span class={`chip ${purchase.status === "active" ? "accent" : ""}`}>{t().purchaseStatus[purchase.status]}</span>
        <span class="chip">{t().payment[purchase.payment]}</span>
        <span class="faint">
          {t().item[purchase.kind]} · {t().by(purchase.tutor.name)} · {t().boughtAt(day(purchase.created_at))}
        </span>
      </p>
      <ul class="lines-of">
        {holds.map((hold) => (
          <li key={hold.id}>
            <div class="about">
              <a href={`/holds/${hold.id}`}>{dated.get(hold.session_id ?? "")?.title ?? t().sessionNo(hold.number)}</a>
              {hold.session_id === null && <span class="faint">{t().undated}</span>}
            </div>
            <span class="chip">{t().holdStatus[hold.status]}</span>
            <span class="amount figures">{money(hold.amount)}</span>
          </li>
        ))}
      </ul>
      {purchase.refunded.amount > 0 && <p class="faint">{t().refunded(money(purchase.refunded))}</p>}
      {purchase.status === "active" && (
        <button type="button" class="button danger start" onClick={() => setAsking(true)}>
          {t().giveBack}
        </button>
      )}
      {isAsking && (
        <GiveBack
          purchase={purchase}
          course={course}
          close={(isGone) => {
            setAsking(false);
            if (isGone) void changed();
          }}
        />
      )}
    </li>
  );
}

function GiveBack({ purchase, course, close }: { purchase: PurchaseView; course: CourseView | undefined; close: (isGone: boolean) => void }) {
  const keyOf = useKeys();
  const begun = new Set(course?.sessions.filter(({ status }) => status !== "scheduled").map(({ id }) => id));
  const rest = purchase.holds.filter(({ status, session_id }) => status === "held" && !(session_id !== null && begun.has(session_id)));
  const amount = rest.reduce((sum, hold) => sum + hold.amount.amount, 0);
  async function giveBack(): Promise<void> {
    await saying(call("purchase.cancel", { purchase_id: purchase.id }, { key: keyOf(purchase.id) }));
    toast(t().gaveBack);
    close(true);
  }
  return (
    <Modal title={t().giveBackSure} close={() => close(false)}>
      <p class="soft">{t().giveBackWhy(money({ ...purchase.price, amount }))}</p>
      <Form submit={giveBack}>
        <Answers close={() => close(false)} isCancelling>
          <Submit isDangerous>{t().giveBack}</Submit>
        </Answers>
      </Form>
    </Modal>
  );
}
