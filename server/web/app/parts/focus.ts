/**
 * Give the focus back once what had it is gone: to what had it before, or else to the page, so that the next Tab goes on
 * from there. Is it somewhere else by then, it stays.
 */
export function giveFocusBack(before: Element | null): void {
  // Until a dialog is out of the page, nothing around it can have the focus.
  queueMicrotask(() => {
    for (const element of [before, document.getElementById("main")])
      if (document.activeElement === document.body && element instanceof HTMLElement) element.focus({ preventScroll: true });
  });
}
