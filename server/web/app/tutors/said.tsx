/** What a tutor says of themselves, for whoever reads it. */
import { languageName, money } from "../format";
import type { ProfileView } from "../wire";
import { t } from "./texts";

type What = Pick<ProfileView, "description" | "subjects" | "languages" | "hourly_rate" | "experience_years">;

export function Said({ profile }: { profile: ProfileView }) {
  const { title, description, subjects, hourly_rate, experience_years } = profile;
  if (title === "" && description === "" && hourly_rate === null && experience_years === null && subjects.length === 0) return <p class="soft">{t().nothing}</p>;
  return (
    <div class="said">
      <h3>{title}</h3>
      <Facts of={profile} />
    </div>
  );
}

/** Everything but the heading. */
export function Facts({ of: { description, subjects, languages, hourly_rate, experience_years } }: { of: What }) {
  const figures = [hourly_rate && t().perHour(money(hourly_rate)), experience_years !== null && t().experience(experience_years)].filter(Boolean);
  return (
    <>
      <Chips subjects={subjects} languages={languages} />
      {figures.length > 0 && <p class="faint">{figures.join(" · ")}</p>}
      <p class="text">{description}</p>
    </>
  );
}

/** What they teach, and in which languages. */
export function Chips({ subjects, languages }: Pick<What, "subjects" | "languages">) {
  return (
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
  );
}
