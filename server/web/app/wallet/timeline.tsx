/**
 * Presence as a picture: above, when the student was in the room; below, what it adds up to, with a mark at what is
 * needed, where it is measured and not only asked who came. The two have different axes: the upper is the clock, the lower is time that counts.
 */
import { clock, time } from "../format";
import type { Attendance, Instant } from "../wire";
import { layout, WIDTH } from "./spans";
import { t } from "./texts";

interface Options {
  attendance: Attendance;
  startsAt: Instant | null;
  endsAt: Instant | null;
  isMeasured: boolean;
}

export function Timeline({ attendance, startsAt, endsAt, isMeasured }: Options) {
  const { attended_s, total_s, percent, required_s, threshold_percent } = attendance;
  const drawn = layout(attendance, startsAt, endsAt);
  const isReached = !isMeasured || attended_s >= required_s;
  const needed = isMeasured ? clock(required_s) : null;
  return (
    <figure class="timeline">
      {drawn.spans !== null && startsAt !== null && endsAt !== null && (
        <>
          <figcaption>{t().presenceOf}</figcaption>
          <svg viewBox={`0 0 ${WIDTH} 16`} preserveAspectRatio="none" aria-hidden="true">
            <rect class="ground" width={WIDTH} height="16" rx="3" />
            {drawn.spans.map(({ x, width }) => (
              <rect key={x} class="there" x={x} width={width} height="16" />
            ))}
          </svg>
          <p class="ends faint">
            <time dateTime={startsAt}>{time(startsAt)}</time>
            <time dateTime={endsAt}>{time(endsAt)}</time>
          </p>
        </>
      )}
      <p class="ends">
        <span>{t().adds}</span>
        <span class="figures">{t().attended(clock(attended_s), clock(total_s), percent)}</span>
      </p>
      <svg viewBox={`0 0 ${WIDTH} 24`} preserveAspectRatio="none" role="img" aria-label={t().picture(clock(attended_s), clock(total_s), percent, needed)}>
        <rect class="ground" y="4" width={WIDTH} height="16" rx="3" />
        <rect class={isReached ? "there" : "short"} y="4" width={drawn.attended} height="16" />
        {needed !== null && <rect class="mark" x={drawn.required - 1} width="3" height="24" />}
      </svg>
      {needed !== null && (
        <p class="needed faint" style={{ paddingInlineStart: `min(${(drawn.required / WIDTH) * 100}%, 100% - 10rem)` }}>
          {t().required(needed, threshold_percent)}
        </p>
      )}
    </figure>
  );
}
