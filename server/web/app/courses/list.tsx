/** Published courses, newest first. */
import { useEffect, useState } from "preact/hooks";
import { languageName, money } from "../format";
import { courses as coursesIcon } from "../icons/places";
import { More } from "../parts/more";
import { usePages } from "../parts/pages";
import { Empty, Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { type Asked, call } from "../server";
import type { CourseSummary } from "../wire";
import { LANGUAGES, LEVELS } from "./choices";
import { t } from "./texts";

type Filter = Pick<Asked<"course.list">, "q" | "level" | "language">;

// Somebody types a word in less.
const TYPING_MS = 250;

export default function Courses() {
  const [filter, setFilter] = useState<Filter>({});
  const { items: value, error, reload, more } = usePages((cursor: string | null) => call("course.list", { ...filter, cursor }), [filter]);
  return (
    <>
      <Title
        beside={
          <a class="button" href="/tutors">
            {t().tutors}
          </a>
        }
      >
        {t().courses}
      </Title>
      <section class="courses" aria-label={t().courses}>
        <Filters filter={filter} change={setFilter} />
        <p class="visually-hidden" role="status">
          {value && t().found(value.length)}
        </p>
        {value === undefined ? (
          error === undefined ? <Loading heights={["10rem", "10rem", "10rem"]} /> : <Failure error={error} again={reload} />
        ) : value.length === 0 ? (
          <Empty icon={coursesIcon} title={t().none}>
            <p>{t().noneWhy}</p>
            {Object.values(filter).some(Boolean) && (
              <button type="button" class="button" onClick={() => setFilter({})}>
                {t().clear}
              </button>
            )}
          </Empty>
        ) : (
          <ul class="course-list">
            {value.map((course) => (
              <Card key={course.id} course={course} />
            ))}
          </ul>
        )}
        <More more={more} />
      </section>
    </>
  );
}

function Filters({ filter, change }: { filter: Filter; change: (filter: Filter) => void }) {
  const [words, setWords] = useState(filter.q ?? "");
  useEffect(() => setWords(filter.q ?? ""), [filter.q]);
  useEffect(() => {
    if (words === (filter.q ?? "")) return undefined;
    const timer = setTimeout(() => change({ ...filter, q: words === "" ? null : words }), TYPING_MS);
    return () => clearTimeout(timer);
  }, [words, filter]);
  return (
    <search class="filters row">
      <div class="field grow">
        <input type="search" aria-label={t().search} placeholder={t().search} maxLength={200} value={words} onInput={({ currentTarget }) => setWords(currentTarget.value)} />
      </div>
      <div class="field">
        <select
          aria-label={t().language}
          value={filter.language ?? ""}
          onChange={({ currentTarget }) => change({ ...filter, language: currentTarget.value === "" ? null : currentTarget.value })}
        >
          <option value="">{t().allLanguages}</option>
          {LANGUAGES.map((language) => (
            <option key={language} value={language}>
              {languageName(language)}
            </option>
          ))}
        </select>
      </div>
      <div class="field">
        <select
          aria-label={t().level}
          value={filter.level ?? ""}
          onChange={({ currentTarget }) => change({ ...filter, level: LEVELS.find((level) => level === currentTarget.value) ?? null })}
        >
          <option value="">{t().allLevels}</option>
          {LEVELS.map((level) => (
            <option key={level} value={level}>
              {level}
            </option>
          ))}
        </select>
      </div>
    </search>
  );
}

function Card({ course }: { course: CourseSummary }) {
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
