/** Return the path that a scanned or typed link leads to on this site, or `null` for one that leads elsewhere; what has no slash is the code of a talk. */
export function pathIn(text: string, origin: string): string | null {
  const said = text.trim();
  if (/^\w+$/.test(said)) return `/t/${said}`;
  const url = URL.canParse(said) ? new URL(said) : null;
  return url?.origin === origin ? url.pathname + url.search : null;
}
