/** What is on offer, newest first, narrowed by words and by language: courses, and tutors. */
import type { ComponentChildren, ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { languageName } from "../format";
import { More } from "../parts/more";
import { type Page, usePages } from "../parts/pages";
import { Empty, Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import type { Id } from "../wire";
import { LANGUAGES } from "./choices";

// Somebody types a word in less.
const TYPING_MS = 250;

interface Words {
  search: string;
  language: string;
  allLanguages: string;
  found: (n: number) => string;
  none: string;
  noneWhy: string;
  clear: string;
}

export interface FiltersOptions<Filter> {
  filter: Filter;
  change: (part: Partial<Filter>) => void;
}

interface Options<Item, Filter> {
  title: string;
  beside: ComponentChildren;
  icon: string;
  words: Words;
  load: (filter: Filter, cursor: string | null) => Promise<Page<Item, string>>;
  Filters: ComponentType<FiltersOptions<Filter>>;
  /** A list item. */
  Card: ComponentType<{ item: Item }>;
}

export function Catalogue<Item extends { id: Id }, Filter extends object>({ title, beside, icon, words, load, Filters, Card }: Options<Item, Filter>) {
  const [filter, setFilter] = useState({} as Filter);
  const { items, error, reload, more } = usePages((cursor: string | null) => load(filter, cursor), [filter]);
  return (
    <>
      <Title beside={beside}>{title}</Title>
      <section class="courses" aria-label={title}>
        <search class="filters row">
          <Filters filter={filter} change={(part) => setFilter((all) => ({ ...all, ...part }))} />
        </search>
        <p class="visually-hidden" role="status">
          {items && words.found(items.length)}
        </p>
        {items === undefined ? (
          error === undefined ? <Loading heights={["10rem", "10rem", "10rem"]} /> : <Failure error={error} again={reload} />
        ) : items.length === 0 ? (
          <Empty icon={icon} title={words.none}>
            <p>{words.noneWhy}</p>
            {Object.values(filter).some(Boolean) && (
              <button type="button" class="button" onClick={() => setFilter({} as Filter)}>
                {words.clear}
              </button>
            )}
          </Empty>
        ) : (
          <ul class="course-list">
            {items.map((item) => (
              <Card key={item.id} item={item} />
            ))}
          </ul>
        )}
        <More more={more} />
      </section>
    </>
  );
}

/** Words to search for, as soon as somebody stops typing; blanks around them do not count. */
export function Search({ label, maxLength, value, search }: { label: string; maxLength: number; value: string; search: (words: string | null) => void }) {
  const [words, setWords] = useState(value);
  useEffect(() => setWords((typed) => (typed.trim() === value ? typed : value)), [value]);
  useEffect(() => {
    const wanted = words.trim();
    if (wanted === value) return undefined;
    const timer = setTimeout(() => search(wanted === "" ? null : wanted), TYPING_MS);
    return () => clearTimeout(timer);
  }, [words, value]);
  return (
    <div class="field grow">
      <input type="search" aria-label={label} placeholder={label} maxLength={maxLength} value={words} onInput={({ currentTarget }) => setWords(currentTarget.value)} />
    </div>
  );
}

interface NarrowOptions<Value extends string> {
  label: string;
  all: string;
  options: readonly Value[];
  name?: (value: Value) => string;
  value: string | null | undefined;
  choose: (value: Value | null) => void;
}

/** One of a few values, or all. */
export function Narrow<Value extends string>({ label, all, options, name = String, value, choose }: NarrowOptions<Value>) {
  return (
    <div class="field">
      <select aria-label={label} value={value ?? ""} onChange={({ currentTarget }) => choose(options.find((one) => one === currentTarget.value) ?? null)}>
        <option value="">{all}</option>
        {options.map((one) => (
          <option key={one} value={one}>
            {name(one)}
          </option>
        ))}
      </select>
    </div>
  );
}

export function ByLanguage({ words, value, choose }: { words: Words; value: string | null | undefined; choose: (value: string | null) => void }) {
  return <Narrow label={words.language} all={words.allLanguages} options={LANGUAGES} name={languageName} value={value} choose={choose} />;
}
