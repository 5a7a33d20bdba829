/** Below a chart: what each of its colours stands for. */

/** `entries`: the class that gives the colour, and its name. */
export function Legend({ entries }: { entries: readonly (readonly [kind: string, name: string])[] }) {
  return (
    <figcaption class="row">
      {entries.map(([kind, name]) => (
        <span key={kind}>
          <i class={kind} /> {name}
        </span>
      ))}
    </figcaption>
  );
}
