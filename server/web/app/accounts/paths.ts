/** A path of this site, whatever a link says: nobody is sent elsewhere after the login. */
export function ownPath(wanted: string | undefined): string {
  return wanted !== undefined && /^\/(?![/\\])\P{Cc}*$/u.test(wanted) ? wanted : "/";
}
