/** A few choices side by side, one of them taken: radio buttons that look like one control. */
import { useId } from "preact/hooks";

export function Choice<Value extends string>({
  label,
  options,
  value,
  choose,
}: { label: string; options: readonly (readonly [Value, string])[]; value: Value; choose: (value: Value) => void }) {
  const name = useId();
  return (
    <div class="choice" role="radiogroup" aria-label={label}>
      {options.map(([option, text]) => (
        <label key={option}>
          <input type="radio" name={name} checked={option === value} onChange={() => choose(option)} />
          {text}
        </label>
      ))}
    </div>
  );
}
