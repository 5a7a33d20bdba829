/** A page for the tests of components: something is drawn into it, and pressed as people do. */
import { type ComponentChild, render } from "preact";
import { LocationProvider } from "preact-iso";
import { vi } from "vitest";

/** Draw this instead of what was there. */
export function show(what: ComponentChild): void {
  render(null, document.body);
  render(<LocationProvider>{what}</LocationProvider>, document.body);
}

/** Press a button by its name as soon as it can be pressed, so often before anything can be drawn. */
export async function press(name: string, times = 1): Promise<void> {
  const button = await vi.waitFor(() => {
    const found = [...document.querySelectorAll("button")].find((one) => !one.disabled && nameOf(one) === name);
    if (found === undefined) throw new Error(`no button “${name}” in: ${document.body.textContent}`);
    return found;
  });
  for (let time = 0; time < times; time++) button.click();
}

function nameOf(button: HTMLButtonElement): string {
  return button.getAttribute("aria-label") ?? button.textContent ?? "";
}
