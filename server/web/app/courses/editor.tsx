/** A tutor's course: its text, its dates, who bought it, what it earns, and whether it is on sale. */
import { useState } from "preact/hooks";
import type { PageProperties } from "../feature";
import { atWallTime, day, money, wallTime, zone } from "../format";
import { Door } from "../lessons/door";
import { useBusy } from "../parts/busy";
import { Answers, Modal } from "../parts/dialog";
import { Field, Form, Submit } from "../parts/form";
import { useKeys } from "../parts/keys";
import { useLoaded } from "../parts/loaded";
import { More } from "../parts/more";
import { usePages } from "../parts/pages";
import { Failure, Loading, Missing, NoAccess, Pending } from "../parts/states";
import { Title } from "../parts/title";
import { toast } from "../parts/toast";
import { call, codeOf } from "../server";
import { me } from "../session";
import type { CourseView, Revenue, SessionView } from "../wire";
import { Fields, LIMITS, number, read } from "./fields";
import { isMissing, said, saying } from "./refusals";
import { Share } from "./share";
import { t } from "./texts";

const MINUTES = 90;

export default function Editor({ params }: PageProperties) {
  const id = params["id"] ?? "";
  const { value, error, reload } = useLoaded(
    async () => ({ course: await call("course.get", { course_id: id }), revenue: await call("course.revenue", { course_id: id }) }),
    [id],
  );
  if (value === undefined) {
    if (codeOf(error) === "permission_denied") return <NoAccess />;
    return isMissing(error) ? <Missing /> : <Pending title={t().course} heights={["4rem", "12rem", "12rem"]} error={error} again={reload} />;
  }
  const { course, revenue } = value;
  if (course.tutor.id !== me.value?.id) return <NoAccess />;
  return (
    <>
      <Title>{course.title}</Title>
      <div class="editor">
        <Sale course={course} revenue={revenue} changed={reload} />
        <Sessions course={course} revenue={revenue} changed={reload} />
        <Details key={course.id} course={course} changed={reload} />
        <Money revenue={revenue} />
        <Buyers course={course} />
        <Share link={course.share_link} qr={course.qr_svg} />
      </div>
    </>
  );
}

interface Options {
  course: CourseView;
  changed: () => Promise<void>;
}

function Sale({ course, revenue, changed }: Options & { revenue: Revenue }) {
  const [isBusy, alone] = useBusy();
  const [refusal, setRefusal] = useState<string>();
  const [isCancelling, setCancelling] = useState(false);
  const isPublished = course.publication === "published";
  const isOver = course.status === "completed" || course.status === "cancelled";
  async function turn(): Promise<void> {
    setRefusal(undefined);
    try {
      await call(isPublished ? "course.unpublish" : "course.publish", { course_id: course.id });
      toast(isPublished ? t().unpublishedNow : t().publishedNow);
      await changed();
    } catch (error) {
      setRefusal(said(error));
    }
  }
  return (
    <section class="card stack" aria-label={t().sale}>
      <p class="row">
        <span class={`chip ${isPublished ? "accent" : ""}`}>{isPublished ? t().published : t().draft}</span>
        <span class="chip">{t().status[course.status]}</span>
        <span class="faint">
          {t().students(course.current_students)} · {t().scheduled(course.scheduled_sessions, course.total_sessions)}
        </span>
      </p>
      {refusal !== undefined && (
        <p class="alert" role="alert">
          {refusal}
        </p>
      )}
      {isPublished && !isOver && <p class="faint">{t().unpublishWhy}</p>}
      {!isOver && (
        <div class="row">
          <button type="button" class={`button ${isPublished ? "" : "primary"}`} disabled={isBusy} aria-busy={isBusy} onClick={() => void alone(turn)}>
            {isPublished ? t().unpublish : t().publish}
          </button>
          {course.status === "upcoming" && (
            <button type="button" class="button danger" onClick={() => setCancelling(true)}>
              {t().cancelCourse}
            </button>
          )}
        </div>
      )}
      {isCancelling && (
        <Cancel
          title={t().cancelCourseSure}
          cost={t().cancelCourseCost(money(revenue.held), course.current_students)}
          confirm={t().cancelCourse}
          cancel={(reason) => call("course.cancel", { course_id: course.id, reason })}
          close={(isGone) => {
            setCancelling(false);
            if (isGone) void changed();
          }}
        />
      )}
    </section>
  );
}

interface CancelOptions {
  title: string;
  cost: string;
  confirm: string;
  cancel: (reason: string) => Promise<unknown>;
  close: (isGone: boolean) => void;
}

function Cancel({ title, cost, confirm, cancel, close }: CancelOptions) {
  async function send({ reason = "" }: Record<string, string>): Promise<void> {
    await saying(cancel(reason));
    toast(t().cancelledNow);
    close(true);
  }
  return (
    <Modal title={title} close={() => close(false)}>
      <p class="alert">{cost}</p>
      <Form submit={send}>
        <Field name="reason" label={t().reason} hint={t().reasonHint} refusal={t().reasonHint} maxLength={500} required />
        <Answers close={() => close(false)} isCancelling>
          <Submit isDangerous>{confirm}</Submit>
        </Answers>
      </Form>
    </Modal>
  );
}

function Sessions({ course, revenue, changed }: Options & { revenue: Revenue }) {
  const [open, setOpen] = useState<SessionView | "new">();
  const [going, setGoing] = useState<SessionView>();
  const isOver = course.status === "completed" || course.status === "cancelled";
  const held = (session: SessionView) => revenue.sessions.find(({ session_id }) => session_id === session.id)?.held ?? { ...revenue.held, amount: 0 };
  return (
    <section class="card stack" aria-labelledby="sessions">
      <div class="row spread">
        <h2 id="sessions">{t().sessions}</h2>
        {!isOver && course.sessions.length < course.total_sessions && (
          <button type="button" class="button" onClick={() => setOpen("new")}>
            {t().addSession}
          </button>
        )}
      </div>
      <ol class="lines-of">
        {course.sessions.map((session) => (
          <li key={session.id}>
            <span class="number" aria-hidden="true">
              {session.number}
            </span>
            {session.status === "cancelled" ? (
              <div class="about">
                <s>{session.title}</s>
                <span class="faint">{t().sessionStatus.cancelled}</span>
              </div>
            ) : (
              <Door lesson={session} />
            )}
            {session.status === "scheduled" && (
              <span class="row actions">
                <button type="button" class="button quiet" aria-label={t().editSession(session.number)} onClick={() => setOpen(session)}>
                  {t().change}
                </button>
                <button type="button" class="button danger quiet" aria-label={`${t().cancelSession}: ${session.title}`} onClick={() => setGoing(session)}>
                  {t().cancelSession}
                </button>
              </span>
            )}
          </li>
        ))}
      </ol>
      {open !== undefined && (
        <SessionForm
          course={course}
          session={open === "new" ? null : open}
          close={(isChanged) => {
            setOpen(undefined);
            if (isChanged) void changed();
          }}
        />
      )}
      {going !== undefined && (
        <Cancel
          title={t().cancelSessionSure(going.title)}
          cost={t().cancelSessionCost(money(held(going)))}
          confirm={t().cancelSession}
          cancel={(reason) => call("course.session.cancel", { course_id: course.id, session_id: going.id, reason })}
          close={(isGone) => {
            setGoing(undefined);
            if (isGone) void changed();
          }}
        />
      )}
    </section>
  );
}

function SessionForm({ course, session, close }: { course: CourseView; session: SessionView | null; close: (isChanged: boolean) => void }) {
  const keyOf = useKeys();
  const taken = new Set(course.sessions.map(({ number: one }) => one));
  const free = Array.from({ length: course.total_sessions }, (_, place) => place + 1).find((one) => !taken.has(one)) ?? 1;
  async function save(values: Record<string, string>): Promise<void> {
    const told = { course_id: course.id, title: values["title"] ?? "", starts_at: atWallTime(values["starts_at"] ?? ""), duration_minutes: number(values, "duration_minutes") };
    if (session === null) {
      const added = { ...told, number: number(values, "number") };
      await saying(call("course.session.add", added, { key: keyOf(added) }));
    } else {
      await saying(call("course.session.update", { ...told, session_id: session.id }));
    }
    toast(t().saved);
    close(true);
  }
  return (
    <Modal title={session === null ? t().addSession : t().editSession(session.number)} close={() => close(false)}>
      <Form submit={save}>
        {session === null && <Field name="number" label={t().number} type="number" required defaultValue={String(free)} />}
        <Field name="title" label={t().title} maxLength={255} required defaultValue={session?.title ?? ""} />
        <Field
          name="starts_at"
          label={t().startsAt(zone.value.replaceAll("_", " "))}
          type="datetime-local"
          required
          defaultValue={session === null ? "" : wallTime(session.starts_at)}
        />
        <Field name="duration_minutes" hint={t().between(...LIMITS.minutes)} refusal={t().between(...LIMITS.minutes)} label={t().duration} type="number" required defaultValue={String(session?.duration_minutes ?? MINUTES)} />
        <Answers close={() => close(false)}>
          <Submit>{t().save}</Submit>
        </Answers>
      </Form>
    </Modal>
  );
}

function Details({ course, changed }: Options) {
  async function save(values: Record<string, string>): Promise<void> {
    const told = read(values);
    // With both prices either way may lead, and which one does is a term of what is sold.
    const hasBoth = told.price_per_session !== null && told.price_full_course !== null;
    await saying(call("course.update", { course_id: course.id, ...told, ...(hasBoth ? { price_type: course.price_type } : {}) }));
    toast(t().saved);
    await changed();
  }
  return (
    <section class="card stack" aria-labelledby="details">
      <h2 id="details">{t().details}</h2>
      <Form submit={save}>
        <Fields course={course} />
        <Submit>{t().save}</Submit>
      </Form>
    </section>
  );
}

function Money({ revenue }: { revenue: Revenue }) {
  const names = ["sold", "earned", "held", "expected", "refunded", "platform"] as const;
  return (
    <section class="card stack" aria-labelledby="revenue">
      <h2 id="revenue">{t().revenue}</h2>
      <dl class="figures-of">
        {names.map((name) => (
          <div key={name}>
            <dt>{t().sums[name]}</dt>
            <dd class="figures">{money(revenue[name])}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Buyers({ course }: { course: CourseView }) {
  const { items: value, error, reload, more } = usePages((cursor: string | null) => call("course.students", { course_id: course.id, cursor }), [course.id]);
  const titles = new Map(course.sessions.map(({ id, title }) => [id, title]));
  return (
    <section class="card stack" aria-labelledby="buyers">
      <h2 id="buyers">{t().buyers}</h2>
      {value === undefined ? (
        error === undefined ? <Loading heights={["4rem"]} /> : <Failure error={error} again={reload} />
      ) : value.length === 0 ? (
        <p class="soft">{t().noBuyers}</p>
      ) : (
        <ul class="lines-of">
          {value.map((buyer) => (
            <li key={buyer.purchase_id}>
              <div class="about">
                <strong>{buyer.name}</strong>
                <span class="soft">{buyer.session_id === null ? t().item.full_course : (titles.get(buyer.session_id) ?? t().item.session)}</span>
                <span class="faint">
                  {day(buyer.created_at)} · {t().source[buyer.attribution]}
                </span>
              </div>
              <span class="chip">{t().purchaseStatus[buyer.status]}</span>
              <span class="amount figures">{money(buyer.price)}</span>
            </li>
          ))}
        </ul>
      )}
      <More more={more} />
    </section>
  );
}
