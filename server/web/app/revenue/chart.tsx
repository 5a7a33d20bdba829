/** Where the money of lessons went, period by period: a column each, all to the same scale. */
import { money } from "../format";
import { Legend } from "../parts/legend";
import type { RevenuePeriod } from "../wire";
import { t } from "./texts";

const WIDTH = 600;
const HEIGHT = 160;
const GAP = 0.25;
// One day alone is a column, not a wall.
const MOST = 64;
const PARTS = ["to_platform", "to_tutors", "to_students"] as const;

interface Options {
  /** Of the whole span, in order. */
  all: readonly string[];
  periods: readonly RevenuePeriod[];
  name: (begins: string) => string;
}

export function Chart({ all, periods, name }: Options) {
  // What was taken back is no height, and stands in the table.
  const height = (one: RevenuePeriod, part: (typeof PARTS)[number]) => Math.max(0, one[part].amount);
  const most = Math.max(1, ...periods.map((one) => PARTS.reduce((sum, part) => sum + height(one, part), 0)));
  const step = WIDTH / all.length;
  const wide = Math.min(step * (1 - GAP), MOST);
  const words = periods.map((one) => `${name(one.begins)}: ${PARTS.map((part) => `${t().parts[part]} ${money(one[part])}`).join(", ")}`).join(". ");
  const ends = [...new Set([all[0], all.at(-1)])].filter((one) => one !== undefined);
  return (
    <figure class="chart over-time">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`${t().chart}. ${words}`}>
        {periods.map((one) => {
          const place = all.indexOf(one.begins);
          let top = HEIGHT;
          return PARTS.map((part) => {
            const tall = (height(one, part) / most) * HEIGHT;
            top -= tall;
            return <rect key={`${one.begins} ${part}`} class={part} x={(place + 0.5) * step - wide / 2} y={top} width={wide} height={tall} />;
          });
        })}
      </svg>
      <p class="row spread faint" aria-hidden="true">
        {ends.map((begins) => (
          <span key={begins}>{name(begins)}</span>
        ))}
      </p>
      <Legend entries={PARTS.map((part) => [part, t().parts[part]] as const)} />
    </figure>
  );
}
