/** One room, step by step: what happened, who did it, and what was so after it. It grows while the room lives. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { PageProperties } from "../feature";
import { instant, zone } from "../format";
import { useLoaded } from "../parts/loaded";
import { Failure, Loading } from "../parts/states";
import { call } from "../server";
import { language } from "../texts";
import type { JournalEntry, JournalPage } from "../wire";
import { Frame } from "./frame";
import { useFresh } from "./fresh";
import { Fact, Seats, State, Times } from "./room";
import { namesOf, scenes } from "./steps";
import { t } from "./texts";
import { said } from "./words";

export default function Journal({ params }: PageProperties) {
  const id = params["id"] ?? "";
  return <Followed key={id} id={id} />;
}

function Followed({ id }: { id: string }) {
  const known = useRef<readonly JournalEntry[]>([]);
  const { value: page, error, reload } = useLoaded(() => grow(id, known), [id]);
  useFresh(reload, page === undefined || page.room.state === "closed" ? [] : [id]);
  return (
    <Frame title={page?.room.title ?? t().journal}>
      <p>
        <a href="/admin/live">{t().backToMap}</a>
      </p>
      {page === undefined ? (
        error === undefined ? <Loading heights={["8rem", "20rem"]} /> : <Failure error={error} again={reload} />
      ) : (
        <Walk page={page} steps={page.items} />
      )}
    </Frame>
  );
}

/** Fetch what the journal has beyond the steps that are known; what is written once never changes. */
async function grow(id: string, known: { current: readonly JournalEntry[] }, steps = known.current): Promise<JournalPage> {
  const page = await call("admin.room.journal", { room_id: id, cursor: steps.at(-1)?.seq ?? 0 });
  const further = page.items.length === 0 ? steps : [...steps, ...page.items];
  // Somebody else may have asked meanwhile, and know more.
  if (further.length > known.current.length) known.current = further;
  return page.next_cursor === null ? { ...page, items: known.current } : grow(id, known, further);
}

function Walk({ page: { room, now }, steps }: { page: JournalPage; steps: readonly JournalEntry[] }) {
  // `null`: at the newest, whatever comes.
  const [chosen, setChosen] = useState<number | null>(null);
  const at = Math.min(chosen ?? steps.length - 1, steps.length - 1);
  const walked = useMemo(() => scenes(steps), [steps]);
  const names = useMemo(() => namesOf(steps), [steps]);
  const scene = walked[at];
  const step = steps[at];
  const list = useRef<HTMLOListElement>(null);
  useEffect(() => {
    const chosenStep = list.current?.children[at] as HTMLElement | undefined;
    const box = list.current;
    // Not `scrollIntoView`, which would move the page too.
    if (chosenStep && box) {
      const from = chosenStep.offsetTop - box.offsetTop;
      if (from < box.scrollTop || from + chosenStep.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = from - box.clientHeight / 2;
    }
  }, [at]);
  if (scene === undefined || step === undefined) return null;
  const choose = (index: number) => setChosen(index >= steps.length - 1 ? null : Math.max(index, 0));

  return (
    <div class="journal">
      <section class="card stack now" aria-labelledby="room-now">
        <header class="row spread">
          <h2 id="room-now">{t().now}</h2>
          <State state={room.state} />
        </header>
        <p class="faint">
          {t().kinds[room.kind]} · {room.owner}
        </p>
        <Times room={room} now={now} />
        <dl class="facts">
          <Fact name={t().mediaGeneration} value={String(room.generation)} />
          <Fact name={t().runsOn} value={room.node === null ? t().nowhere : room.node.slice(0, 8)} />
          {room.reason !== null && <Fact name={t().reasons.reason} value={room.reason} />}
          {room.settled !== null && <Fact name={t().sections.money} value={room.settled ? t().settled : t().notSettled} />}
        </dl>
      </section>

      <section class="card stack scene" aria-labelledby="room-then">
        <header class="row spread">
          <h2 id="room-then">{chosen === null ? t().afterLast : t().afterStep(step.seq)}</h2>
          <State state={scene.state} />
        </header>
        <Seats seats={scene.seats} cap={room.cap} />
        {scene.waiting.length > 0 && <p class="faint">{t().waiting(scene.waiting.map((one) => names.get(one) ?? one).join(", "))}</p>}
        <div class="walk">
          <button type="button" class="button square" aria-label={t().stepBack} disabled={at === 0} onClick={() => choose(at - 1)}>
            ‹
          </button>
          <input
            type="range"
            min={0}
            max={steps.length - 1}
            value={at}
            aria-label={t().step}
            aria-valuetext={`${step.seq}: ${said(step, names)}`}
            onInput={({ currentTarget }) => choose(Number(currentTarget.value))}
          />
          <button type="button" class="button square" aria-label={t().stepOn} disabled={at === steps.length - 1} onClick={() => choose(at + 1)}>
            ›
          </button>
        </div>
        <p class="faint" role="status">
          {step.seq} / {room.events} · {said(step, names)}
        </p>
      </section>

      <section class="card steps" aria-labelledby="steps-title">
        <header class="row spread">
          <h2 id="steps-title">{t().journal}</h2>
          <span class="faint">{t().steps(steps.length)}</span>
        </header>
        <ol ref={list} aria-labelledby="steps-title">
          {steps.map((one, index) => (
            <li key={one.seq}>
              <button type="button" aria-current={index === at ? "step" : undefined} onClick={() => choose(index)}>
                <span class="figures faint">{one.seq}</span>
                <time dateTime={one.at} title={instant(one.at)}>
                  {clock(one.at)}
                </time>
                <span class="what">
                  {said(one, names)}
                  {one.off === null && <span class="chip">{t().inside}</span>}
                </span>
              </button>
            </li>
          ))}
        </ol>
        <details>
          <summary>{t().factsOf(step.seq)}</summary>
          <pre>{JSON.stringify({ type: step.type, at: step.at, recorded_at: step.recorded_at, fence: step.fence, off: step.off, actor: step.actor, ...step.facts }, null, 2)}</pre>
        </details>
      </section>
    </div>
  );
}

function clock(at: string): string {
  return new Intl.DateTimeFormat(language.value, { timeZone: zone.value, hourCycle: "h23", hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(new Date(at));
}
