/** The front page: open talks, kept fresh while somebody looks. */
import { useEffect, useState } from "preact/hooks";
import { fromNow, languageName } from "../format";
import { talks as talksIcon } from "../icons/places";
import { Choice } from "../parts/choice";
import { Empty, Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { isMember, me } from "../session";
import { serverNow } from "../server";
import type { ListedTalk, TalkPage } from "../wire";
import { JoinAny } from "./any";
import type { Filter } from "./changes";
import { LANGUAGES, LEVELS, TOPIC_MAX } from "./choices";
import { useTalks } from "./list";
import { Seats } from "./seats";
import { StartTalk } from "./start";
import { t } from "./texts";

// Between two letters nobody waits longer.
const TYPED_MS = 400;

export default function Home() {
  const [filter, setFilter] = useState<Filter>({});
  const { value: page, error, reload } = useTalks(filter);
  return (
    <>
      {me.value === null ? <Welcome /> : <Title beside={<Ways filter={filter} />}>{t().title}</Title>}
      <section class="talks" aria-labelledby={isMember.value ? undefined : "open-talks"} aria-label={isMember.value ? t().title : undefined}>
        {me.value === null && <h2 id="open-talks">{t().title}</h2>}
        <Filters filter={filter} change={setFilter} />
        <p class="visually-hidden" role="status">
          {page && t().found(page.items.length)}
        </p>
        {page === undefined ? (
          error === undefined ? <Loading heights={["7rem", "7rem", "7rem"]} /> : <Failure error={error} again={reload} />
        ) : page.items.length === 0 ? (
          <None filter={filter} page={page} clear={() => setFilter({})} />
        ) : (
          <ul class="talk-list">
            {page.items.map((talk) => (
              <Row key={talk.id} talk={talk} />
            ))}
          </ul>
        )}
      </section>
    </>
  );
}

function Welcome() {
  useEffect(() => {
    document.title = `fourtalk · ${t().welcome}`;
  });
  return (
    <div class="welcome">
      <h1>{t().welcome}</h1>
      <p class="soft">{t().promise}</p>
      <a class="button primary" href="/register">
        {t().start}
      </a>
    </div>
  );
}

function Ways({ filter }: { filter: Filter }) {
  return (
    <div class="row">
      <a class="button" href="/scan">
        {t().scan}
      </a>
      <JoinAny filter={filter} />
      <StartTalk />
    </div>
  );
}

function Filters({ filter, change }: { filter: Filter; change: (filter: Filter) => void }) {
  const set = (more: Partial<Filter>) => change({ ...filter, ...more });
  return (
    <div class="filters row">
      <Choice
        label={t().where}
        options={[["everywhere", t().everywhere], ["nearby", t().nearby]]}
        value={filter.nearby ? "nearby" : "everywhere"}
        choose={(where) => set({ nearby: where === "nearby" })}
      />
      <Pick label={t().language} all={t().allLanguages} options={LANGUAGES} name={languageName} value={filter.language} pick={(language) => set({ language })} />
      <Pick label={t().level} all={t().allLevels} options={LEVELS} name={(level) => level} value={filter.level} pick={(level) => set({ level })} />
      <Topic value={filter.topic ?? ""} choose={(topic) => set({ topic: topic === "" ? null : topic })} />
    </div>
  );
}

function Topic({ value, choose }: { value: string; choose: (topic: string) => void }) {
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  useEffect(() => {
    const timer = setTimeout(() => typed.trim() !== value && choose(typed.trim()), TYPED_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  return (
    <div class="field">
      <input type="search" aria-label={t().topic} placeholder={t().topic} maxLength={TOPIC_MAX} value={typed} onInput={({ currentTarget }) => setTyped(currentTarget.value)} />
    </div>
  );
}

function Pick<Value extends string>({
  label,
  all,
  options,
  name,
  value,
  pick,
}: { label: string; all: string; options: readonly Value[]; name: (value: Value) => string; value: Value | null | undefined; pick: (value: Value | null) => void }) {
  return (
    <div class="field">
      <select aria-label={label} value={value ?? ""} onChange={({ currentTarget }) => pick(options.find((option) => option === currentTarget.value) ?? null)}>
        <option value="">{all}</option>
        {options.map((option) => (
          <option key={option} value={option}>
            {name(option)}
          </option>
        ))}
      </select>
    </div>
  );
}

function Row({ talk }: { talk: ListedTalk }) {
  // Under the page's own heading, or under that of the list.
  const Heading = isMember.value ? "h2" : "h3";
  const when = talk.starts_at ?? talk.created_at;
  return (
    <li class="talk card">
      <div class="about">
        <Heading>{talk.title}</Heading>
        <p class="row">
          <span class="chip accent">{languageName(talk.language)}</span>
          {talk.level && <span class="chip">{talk.level}</span>}
          {talk.topic && <span class="chip">{talk.topic}</span>}
        </p>
        <p class="faint">
          {t().by(talk.host.name)} · <time dateTime={when}>{(talk.starts_at ? t().begins : t().opened)(fromNow(when, serverNow()))}</time>
        </p>
      </div>
      <Seats seats={talk.seats} />
      <a class="button primary" href={isMember.value ? `/rooms/${talk.room_id}` : `/t/${talk.code}`} aria-label={t().joinWhat(talk.title)}>
        {t().join}
      </a>
    </li>
  );
}

function None({ filter, page, clear }: { filter: Filter; page: TalkPage; clear: () => void }) {
  const isNarrow = Object.values(filter).some((wanted) => Boolean(wanted));
  const isLost = filter.nearby && page.region === null;
  const title = isLost ? t().noPlace : filter.nearby ? t().noneNearby : isNarrow ? t().noneFound : t().none;
  return (
    <Empty icon={talksIcon} title={title}>
      <p>{isLost ? t().noPlaceWhy : t().noneWhy}</p>
      {isNarrow && (
        <button type="button" class="button" onClick={clear}>
          {t().showAll}
        </button>
      )}
    </Empty>
  );
}
