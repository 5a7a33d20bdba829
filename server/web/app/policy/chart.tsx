/** Where the money of a period went, and would have gone: one bar for each set of terms, all to the same scale. */
import { money } from "../format";
import { Legend } from "../parts/legend";
import type { BackTestOutcome } from "../wire";
import { t } from "./texts";

const WIDTH = 600;
const BAR = 28;
const ROW = 60;
const PARTS = ["to_tutors", "to_platform", "to_students"] as const;

export function Chart({ rows }: { rows: readonly (readonly [string, BackTestOutcome])[] }) {
  const total = (one: BackTestOutcome) => PARTS.reduce((sum, part) => sum + one[part].amount, 0);
  const most = Math.max(1, ...rows.map(([, one]) => total(one)));
  const words = rows.map(([name, one]) => `${name}: ${PARTS.map((part) => `${t().parts[part]} ${money(one[part])}`).join(", ")}`).join(". ");
  return (
    <figure class="chart">
      <svg viewBox={`0 0 ${WIDTH} ${rows.length * ROW}`} role="img" aria-label={words}>
        {rows.map(([name, one], row) => {
          let left = 0;
          return (
            <g key={name} transform={`translate(0 ${row * ROW})`}>
              <text y={16}>{name}</text>
              {PARTS.map((part) => {
                const width = (one[part].amount / most) * WIDTH;
                const from = left;
                left += width;
                return <rect key={part} class={part} x={from} y={24} width={Math.max(0, width)} height={BAR} />;
              })}
            </g>
          );
        })}
      </svg>
      <Legend entries={PARTS.map((part) => [part, t().parts[part]] as const)} />
    </figure>
  );
}
