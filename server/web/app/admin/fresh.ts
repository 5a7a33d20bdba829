/** Something that changes by itself and that no channel tells of: asked for again while somebody looks. */
import { useEffect } from "preact/hooks";
import { subscribe } from "../server";

// An operator sees somebody come within this time; over the socket, asking is cheap.
const EVERY_MS = 2_000;
// Four people who come at once are one change.
const TOGETHER_MS = 150;

/** Ask again every two seconds, and at once when something happens in one of these rooms. */
export function useFresh(reload: () => Promise<unknown>, rooms: readonly string[]): void {
  useEffect(() => {
    const timer = setInterval(() => document.hidden || void reload(), EVERY_MS);
    return () => clearInterval(timer);
  }, [reload]);
  const followed = rooms.join(" ");
  useEffect(() => {
    if (followed === "") return undefined;
    let timer = 0;
    const soon = () => {
      clearTimeout(timer);
      timer = setTimeout(() => void reload(), TOGETHER_MS);
    };
    const ends = followed.split(" ").map((id) => subscribe(`room:${id}`, { onEvent: soon, onReset: () => undefined }));
    return () => {
      clearTimeout(timer);
      for (const end of ends) end();
    };
  }, [followed, reload]);
}
