/** The heading of a page, which is the title of the window too. */
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

export function Title({ children, beside }: { children: string; beside?: ComponentChildren }) {
  useEffect(() => {
    document.title = `${children} · fourtalk`;
  }, [children]);
  return (
    <div class="title row spread">
      <h1>{children}</h1>
      {beside}
    </div>
  );
}
