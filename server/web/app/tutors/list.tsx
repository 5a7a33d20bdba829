/** Tutors who may teach, those who joined last first. */
import { ByLanguage, Catalogue, type FiltersOptions, Search } from "../courses/catalogue";
import { money } from "../format";
import { tutors as icon } from "../icons/places";
import { type Asked, call } from "../server";
import { me } from "../session";
import type { TutorView } from "../wire";
import { Chips } from "./said";
import { t } from "./texts";

type Filter = Pick<Asked<"tutor.list">, "subject" | "language">;

export default function Tutors() {
  return (
    <Catalogue
      title={t().tutors}
      beside={
        me.value?.role === "student" && (
          <a class="button" href="/bookings">
            {t().lessons}
          </a>
        )
      }
      icon={icon}
      words={t()}
      load={(filter: Filter, cursor) => call("tutor.list", { ...filter, cursor })}
      Filters={Filters}
      Card={Card}
    />
  );
}

function Filters({ filter: { subject, language }, change }: FiltersOptions<Filter>) {
  return (
    <>
      <Search label={t().search} maxLength={100} value={subject ?? ""} search={(words) => change({ subject: words })} />
      <ByLanguage words={t()} value={language} choose={(one) => change({ language: one })} />
    </>
  );
}

function Card({ item: { id, name, title, description, subjects, languages, hourly_rate } }: { item: TutorView }) {
  return (
    <li class="course card">
      <h2>
        <a href={`/tutors/${id}`}>{name}</a>
      </h2>
      {title !== "" && <p>{title}</p>}
      <Chips subjects={subjects} languages={languages} />
      <p class="soft lines">{description}</p>
      {hourly_rate !== null && (
        <p class="prices">
          <strong>{t().perHour(money(hourly_rate))}</strong>
        </p>
      )}
    </li>
  );
}
