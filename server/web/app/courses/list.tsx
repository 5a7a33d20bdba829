/** Published courses, newest first. */
import { languageName, money } from "../format";
import { courses as icon } from "../icons/places";
import { type Asked, call } from "../server";
import type { CourseSummary } from "../wire";
import { ByLanguage, Catalogue, type FiltersOptions, Narrow, Search } from "./catalogue";
import { LEVELS } from "./choices";
import { t } from "./texts";

type Filter = Pick<Asked<"course.list">, "q" | "level" | "language">;

export default function Courses() {
  return (
    <Catalogue
      title={t().courses}
      beside={
        <a class="button" href="/tutors">
          {t().tutors}
        </a>
      }
      icon={icon}
      words={t()}
      load={(filter: Filter, cursor) => call("course.list", { ...filter, cursor })}
      Filters={Filters}
      Card={Card}
    />
  );
}

function Filters({ filter: { q, level, language }, change }: FiltersOptions<Filter>) {
  return (
    <>
      <Search label={t().search} maxLength={200} value={q ?? ""} search={(words) => change({ q: words })} />
      <ByLanguage words={t()} value={language} choose={(one) => change({ language: one })} />
      <Narrow label={t().level} all={t().allLevels} options={LEVELS} value={level} choose={(one) => change({ level: one })} />
    </>
  );
}

function Card({ item: course }: { item: CourseSummary }) {
  return (
    <li class="course card">
      <h2>
        <a href={`/courses/${course.id}`}>{course.title}</a>
      </h2>
      <p class="faint">{t().by(course.tutor.name)}</p>
      <p class="row">
        <span class="chip accent">{languageName(course.language)}</span>
        <span class="chip">{course.level}</span>
        <span class="chip">{t().sessionCount(course.total_sessions)}</span>
      </p>
      <p class="soft lines">{course.description}</p>
      <p class="prices">
        {course.price_per_session && <strong>{t().perSession(money(course.price_per_session))}</strong>}
        {course.price_full_course && <strong>{t().whole(money(course.price_full_course))}</strong>}
      </p>
    </li>
  );
}
