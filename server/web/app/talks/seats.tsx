/** How many seats of a talk are taken: in dots, and in words. */
import type { SeatCount } from "../wire";
import { t } from "./texts";

export function Seats({ seats: { taken, total } }: { seats: SeatCount }) {
  return (
    <p class="seats" role="status">
      <span aria-hidden="true">
        {Array.from({ length: total }, (_, seat) => (
          <i key={seat} class={seat < taken ? "taken" : ""} />
        ))}
      </span>
      {t().seats(taken, total)}
    </p>
  );
}
