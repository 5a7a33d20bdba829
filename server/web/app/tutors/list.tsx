/** Tutors who may teach, those who joined last first. */
import { useEffect, useState } from "preact/hooks";
import { LANGUAGES } from "../courses/choices";
import { languageName, money } from "../format";
import { tutors as tutorsIcon } from "../icons/places";
import { More } from "../parts/more";
import { usePages } from "../parts/pages";
import { Empty, Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { type Asked, call } from "../server";
import { me } from "../session";
import type { TutorView } from "../wire";
import { t } from "./texts";

type Filter = Pick<Asked<"tutor.list">, "subject" | "language">;

// Somebody types a word in less.
const TYPING_MS = 250;

export default function Tutors() {
  const [filter, setFilter] = useState<Filter>({});
  const { items: value, error, reload, more } = usePages((cursor: string | null) => call("tutor.list", { ...filter, cursor }), [filter]);
  return (
    <>
      <Title
        beside={
          me.value?.role === "student" && (
            <a class="button" href="/bookings">
              {t().lessons}
            </a>
          )
        }
      >
        {t().tutors}
      </Title>
      <section class="courses" aria-label={t().tutors}>
        <Filters filter={filter} change={setFilter} />
        <p class="visually-hidden" role="status">
          {value && t().found(value.length)}
        </p>
        {value === undefined ? (
          error === undefined ? <Loading heights={["10rem", "10rem", "10rem"]} /> : <Failure error={error} again={reload} />
        ) : value.length === 0 ? (
          <Empty icon={tutorsIcon} title={t().none}>
            <p>{t().noneWhy}</p>
            {Object.values(filter).some(Boolean) && (
              <button type="button" class="button" onClick={() => setFilter({})}>
                {t().clear}
              </button>
            )}
          </Empty>
        ) : (
          <ul class="course-list">
            {value.map((tutor) => (
              <Card key={tutor.id} tutor={tutor} />
            ))}
          </ul>
        )}
        <More more={more} />
      </section>
    </>
  );
}

function Filters({ filter, change }: { filter: Filter; change: (filter: Filter) => void }) {
  const [words, setWords] = useState(filter.subject ?? "");
  useEffect(() => setWords(filter.subject ?? ""), [filter.subject]);
  useEffect(() => {
    const wanted = words.trim();
    if (wanted === (filter.subject ?? "")) return undefined;
    const timer = setTimeout(() => change({ ...filter, subject: wanted === "" ? null : wanted }), TYPING_MS);
    return () => clearTimeout(timer);
  }, [words, filter]);
  return (
    <search class="filters row">
      <div class="field grow">
        <input type="search" aria-label={t().search} placeholder={t().search} maxLength={100} value={words} onInput={({ currentTarget }) => setWords(currentTarget.value)} />
      </div>
      <div class="field">
        <select aria-label={t().language} value={filter.language ?? ""} onChange={({ currentTarget }) => change({ ...filter, language: currentTarget.value === "" ? null : currentTarget.value })}>
          <option value="">{t().allLanguages}</option>
          {LANGUAGES.map((language) => (
            <option key={language} value={language}>
              {languageName(language)}
            </option>
          ))}
        </select>
      </div>
    </search>
  );
}

function Card({ tutor: { id, name, title, description, subjects, languages, hourly_rate } }: { tutor: TutorView }) {
  return (
    <li class="course card">
      <h2>
        <a href={`/tutors/${id}`}>{name}</a>
      </h2>
      {title !== "" && <p>{title}</p>}
      <p class="row">
        {subjects.map((subject) => (
          <span class="chip accent" key={subject}>
            {subject}
          </span>
        ))}
        {languages.map((language) => (
          <span class="chip" key={language}>
            {languageName(language)}
          </span>
        ))}
      </p>
      <p class="soft lines">{description}</p>
      {hourly_rate !== null && (
        <p class="prices">
          <strong>{t().perHour(money(hourly_rate))}</strong>
        </p>
      )}
    </li>
  );
}
