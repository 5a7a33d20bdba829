/** Short news of what was just done, read aloud as well. */
import { signal } from "@preact/signals";

// Long enough to read two lines; what matters longer belongs into the page.
const SHOWN_MS = 5_000;
const shown = signal<readonly { id: number; text: string }[]>([]);
let last = 0;

export function toast(text: string): void {
  last += 1;
  const id = last;
  shown.value = [...shown.value, { id, text }];
  setTimeout(() => {
    shown.value = shown.value.filter((one) => one.id !== id);
  }, SHOWN_MS);
}

export function Toasts() {
  return (
    <div class="toasts" role="status">
      {shown.value.map(({ id, text }) => (
        <p key={id}>{text}</p>
      ))}
    </div>
  );
}
