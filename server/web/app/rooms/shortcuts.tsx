/** Which keys do what. */
import { t } from "./texts";

export function Shortcuts() {
  return (
    <dl class="keys">
      {Object.entries(t().keys).map(([key, what]) => (
        <div key={key}>
          <dt>
            <kbd>{key}</kbd>
          </dt>
          <dd>{what}</dd>
        </div>
      ))}
    </dl>
  );
}
