/**
 * What a room's page knows of pictures and sound, whoever carries them: `peer.ts` (browser to browser) or `livekit.ts`
 * (through a media server). Who is in the room is the server's to say; a carrier only brings their media.
 */
import type { ReadonlySignal } from "@preact/signals";

export type Kind = "microphone" | "camera" | "screen";

/** Somebody else with a seat; a seat that was lost and given anew has a higher generation. */
export interface Seat {
  id: string;
  generation: number;
}

export interface Remote {
  /** Camera and microphone. */
  face: MediaStream;
  screen: MediaStream;
  link: "connecting" | "connected" | "interrupted";
}

export interface Call {
  readonly remotes: ReadonlySignal<ReadonlyMap<string, Remote>>;
  /** Why it ended by itself. */
  readonly end: ReadonlySignal<"elsewhere" | "lost" | null>;
  /** Send this track from now on; `null` sends nothing. */
  send: (kind: Kind, track: MediaStreamTrack | null) => Promise<void>;
  /** Who has a seat now. */
  meet: (others: readonly Seat[]) => void;
  /** A `room.signal` of somebody. */
  hear: (from: string, data: unknown) => void;
  /** The socket was away and is back: what was signalled meanwhile is lost. */
  again: () => void;
  /** The tracks that were sent go on. */
  leave: () => void;
}
