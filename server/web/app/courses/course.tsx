/** The page of a course: what it is, when, with whom, for how much, and the way to buy it. */
import { useLocation } from "preact-iso";
import { useEffect } from "preact/hooks";
import type { PageProperties } from "../feature";
import { instant, languageName, money, zone } from "../format";
import { kept } from "../kept";
import { Answers, Modal } from "../parts/dialog";
import { useLoaded } from "../parts/loaded";
import { Missing, Pending } from "../parts/states";
import { Title } from "../parts/title";
import { call } from "../server";
import { isMember, me } from "../session";
import type { CourseView, PurchaseView, SessionView } from "../wire";
import { Buy } from "./buy";
import { isMissing } from "./refusals";
import { Share } from "./share";
import { t } from "./texts";

// No channel tells of places that are taken, so whoever looks asks again; a household of visitors shares sixty requests
// a minute, and what counts is asked once more when something is bought.
const FRESH_MS = 10_000;
const WHOLE = "course";

export default function Course({ params }: PageProperties) {
  const id = params["id"] ?? "";
  const { value: course, error, reload } = useLoaded(() => call("course.get", { course_id: id }), [id, me.value?.id]);
  const own = useLoaded(async () => (isMember.value ? (await call("purchase.list", { limit: 100 })).items : []), [id, me.value?.id]);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || void reload(), FRESH_MS);
    return () => clearInterval(timer);
  }, [reload]);

  if (course === undefined)
    return isMissing(error) ? <Missing /> : <Pending title={t().course} heights={["6rem", "10rem", "14rem"]} error={error} again={reload} />;
  const mine = (own.value ?? []).filter((one) => one.course_id === id && one.status !== "cancelled");
  return <About course={course} mine={mine} changed={() => Promise.all([reload(), own.reload()])} />;
}

interface Options {
  course: CourseView;
  mine: readonly PurchaseView[];
  changed: () => Promise<unknown>;
}

function About({ course, mine, changed }: Options) {
  const { query, path, route } = useLocation();
  const isOwn = course.tutor.id === me.value?.id;
  const hasWhole = mine.some(({ kind }) => kind === "full_course");
  const isOnSale = (course.status === "upcoming" || course.status === "ongoing") && course.publication === "published";
  // In the address, so that the way over the login or a top-up leads back to it.
  const wanted = isMember.value ? query["buy"] : undefined;
  // Nothing but the word means the whole of it: a session that is gone is not replaced by something dearer.
  const chosen = wanted === WHOLE ? null : course.sessions.find(({ id }) => id === wanted);
  const buy = (what: string) => {
    const here = `${path}?buy=${what}`;
    route(isMember.value ? here : `/login?next=${encodeURIComponent(here)}`);
  };

  return (
    <div class="course-page">
      <header class="stack">
        <Title>{course.title}</Title>
        <p class="row">
          <span>{t().by(course.tutor.name)}</span>
          <span class="chip accent">{languageName(course.language)}</span>
          <span class="chip">{course.level}</span>
          <span class="chip">{t().hours(course.duration_hours)}</span>
          <span class="chip">{t().status[course.status]}</span>
        </p>
        <Invitation tutor={course.tutor.id} />
        <p class="soft text">{course.description}</p>
      </header>
      <aside class="card stack">
        {course.price_full_course && (
          <div class="stack">
            <p class="price">
              <strong>{money(course.price_full_course)}</strong> <span class="faint">{t().sessionCount(course.total_sessions)}</span>
            </p>
            {!isOwn && !hasWhole && isOnSale && (
              <button type="button" class="button primary wide" disabled={course.seats_left === 0} onClick={() => buy(WHOLE)}>
                {t().buyWhole}
              </button>
            )}
          </div>
        )}
        {course.price_per_session && <p class="soft">{t().perSession(money(course.price_per_session))}</p>}
        <p class="soft" role="status">
          {t().seats(course.seats_left)}
        </p>
        {hasWhole && <p class="soft">{t().yoursWhole}</p>}
        {mine.length > 0 && (
          <a class="button" href="/learning">
            {t().toLearning}
          </a>
        )}
        {isOwn && (
          <a class="button" href={`/teach/courses/${course.id}`}>
            {t().edit}
          </a>
        )}
        <p class="faint">{t().guarantee}</p>
      </aside>
      <section class="stack sessions-of">
        <h2>{t().sessions}</h2>
        <p class="faint">{t().zoneNote(zone.value.replaceAll("_", " "))}</p>
        <ol class="session-list">
          {Array.from({ length: course.total_sessions }, (_, place) => {
            const session = course.sessions.find(({ number }) => number === place + 1);
            const isMine = hasWhole || mine.some(({ session_id }) => session_id !== null && session_id === session?.id);
            const canBuy = isOnSale && !isOwn && !isMine && course.price_per_session !== null;
            return <Session key={place} number={place + 1} session={session} isMine={isMine} {...(canBuy ? { buy } : {})} />;
          })}
        </ol>
      </section>
      <Share link={course.share_link} qr={course.qr_svg} />
      {chosen !== undefined && (
        <Buy
          key={wanted}
          course={course}
          session={chosen}
          close={(hasBought) => {
            route(path, true);
            if (hasBought) void changed();
          }}
        />
      )}
      {wanted !== undefined && chosen === undefined && (
        <Modal title={t().buyTitle} close={() => route(path, true)}>
          <p class="alert" role="alert">
            {t().gone}
          </p>
          <Answers close={() => route(path, true)} isDone />
        </Modal>
      )}
    </div>
  );
}

interface SessionOptions {
  number: number;
  session: SessionView | undefined;
  isMine: boolean;
  buy?: (id: string) => void;
}

function Session({ number, session, isMine, buy }: SessionOptions) {
  if (session === undefined) {
    return (
      <li>
        <span class="number" aria-hidden="true">
          {number}
        </span>
        <div class="about">
          <h3>{t().undated}</h3>
          <p class="faint">{t().undatedWhy}</p>
        </div>
      </li>
    );
  }
  const isOpen = session.status === "scheduled";
  return (
    <li>
      <span class="number" aria-hidden="true">
        {number}
      </span>
      <div class="about">
        <h3>{session.title}</h3>
        <p class="soft">
          <time dateTime={session.starts_at}>{instant(session.starts_at)}</time> · {t().minutes(session.duration_minutes)}
        </p>
        <p class="faint">{isOpen ? t().seats(session.seats_left) : t().sessionStatus[session.status]}</p>
      </div>
      {isMine && <span class="chip accent">{t().yours}</span>}
      {isOpen && buy && (
        <button type="button" class="button" aria-label={t().buySessionNamed(session.title)} disabled={session.seats_left === 0} onClick={() => buy(session.id)}>
          {t().buySession}
        </button>
      )}
    </li>
  );
}

/** Who comes by a tutor's link stays theirs: the code waits for the registration. */
function Invitation({ tutor }: { tutor: string }) {
  const { query } = useLocation();
  const code = query["ref"];
  const { value } = useLoaded(async () => (code === undefined ? undefined : call("referral.check", { code })), [code]);
  const isTheirs = value?.tutor_id === tutor;
  useEffect(() => {
    if (isTheirs && code !== undefined) kept.set("referral", code);
  }, [isTheirs]);
  return isTheirs && me.value === null ? <p class="notice">{t().invited(value.tutor_name)}</p> : null;
}
