/** A tutor's own courses, in every state. */
import { useEffect } from "preact/hooks";
import { money } from "../format";
import { teaching as teachingIcon } from "../icons/places";
import { More } from "../parts/more";
import { usePages } from "../parts/pages";
import { Empty, Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { call, subscribe } from "../server";
import { me, renew } from "../session";
import { t } from "./texts";

export default function Teaching() {
  const { items: value, error, reload, more } = usePages((cursor: string | null) => call("course.list", { mine: true, cursor }), []);
  return (
    <>
      <Title
        beside={
          <div class="row">
            <a class="button" href="/bookings">
              {t().bookings}
            </a>
            <a class="button" href="/teach/profile">
              {t().profile}
            </a>
            <a class="button" href="/teach/packages">
              {t().packages}
            </a>
            <a class="button" href="/teach/earnings">
              {t().earnings}
            </a>
            {me.value?.tutor_status === "approved" && (
              <a class="button primary" href="/teach/courses/new">
                {t().newCourse}
              </a>
            )}
          </div>
        }
      >
        {t().teaching}
      </Title>
      <Approval />
      <section class="courses" aria-label={t().teaching}>
        {value === undefined ? (
          error === undefined ? <Loading heights={["8rem", "8rem"]} /> : <Failure error={error} again={reload} />
        ) : value.length === 0 ? (
          <Empty icon={teachingIcon} title={t().noCourses}>
            <p>{t().noCoursesWhy}</p>
          </Empty>
        ) : (
          <ul class="course-list">
            {value.map((course) => (
              <li key={course.id} class="course card">
                <h2>
                  <a href={`/teach/courses/${course.id}`}>{course.title}</a>
                </h2>
                <p class="row">
                  <span class={`chip ${course.publication === "published" ? "accent" : ""}`}>{course.publication === "published" ? t().published : t().draft}</span>
                  <span class="chip">{t().status[course.status]}</span>
                  <span class="chip">{t().students(course.current_students)}</span>
                </p>
                <p class="soft">{t().scheduled(course.scheduled_sessions, course.total_sessions)}</p>
                <p class="prices">
                  {course.price_per_session && <strong>{t().perSession(money(course.price_per_session))}</strong>}
                  {course.price_full_course && <strong>{t().whole(money(course.price_full_course))}</strong>}
                </p>
              </li>
            ))}
          </ul>
        )}
        <More more={more} />
      </section>
    </>
  );
}

/** What has to happen before one may teach. */
export function Approval() {
  const { id, tutor_status } = me.value ?? {};
  useEffect(() => {
    // Without an answer what is known stays.
    const look = () => void renew().catch(() => undefined);
    return subscribe(`user:${id ?? ""}`, { onReset: look, onEvent: ({ ev }) => ev === "notification.created" && look() });
  }, [id]);
  return (
    <div class="approval" role="status">
      {tutor_status && tutor_status !== "approved" && (
        <p class="notice">
          {t().approval[tutor_status]} <a href="/teach/profile">{t().toProfile[tutor_status]}</a>
        </p>
      )}
    </div>
  );
}
