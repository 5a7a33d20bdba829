/** The words of the protocol, subprotocol `fourtalk.v1.json`, and its two tables: errors and close codes. */

export const SUBPROTOCOL = "fourtalk.v1.json";

/** Where a client is in a channel: which life of the channel, and how many events of it. */
export interface Position {
  epoch: string;
  off: number;
}

/** One publication of a channel; without `off` it is volatile: not stored, not repeated. */
export interface Published<Name extends string = string, D = unknown> {
  ch: string;
  off?: number;
  ev: Name;
  /** Milliseconds of the Unix epoch. */
  ts: number;
  d: D;
}

export interface ErrorBody {
  code: number;
  name: string;
  message: string;
  retryable?: boolean;
  retry_after_ms?: number;
  d?: Record<string, unknown>;
}

/** What a channel's subscription begins with; `more` means that pages of history follow. */
export interface Opened extends Position {
  recovered: boolean;
  events: Published[];
  more: boolean;
}

export interface Connected {
  conn: string;
  user: { id: string; role: string };
  server_time: number;
  ping_s: number;
  pong_s: number;
  limits: { frame_bytes?: number; seat_grace_s?: number; [name: string]: unknown };
  subs: Record<string, Opened>;
}

/** Anything that the server may say. */
export interface Said extends Partial<Published<string, never>> {
  id?: number;
  ok?: unknown;
  err?: ErrorBody;
  ctl?: string;
}

/** A refusal: of the server, or of this library where there is no server to ask (`not_available`). */
export class CallError extends Error {
  readonly code: number;
  /** Milliseconds to wait before asking again, if the server said so. */
  readonly retryAfter: number | undefined;
  /** What the server knows about it, for programs. */
  readonly data: Record<string, unknown> | undefined;
  readonly retryable: boolean;

  constructor(body: ErrorBody) {
    super(body.message);
    this.code = body.code;
    this.name = body.name;
    this.retryAfter = body.retry_after_ms;
    this.data = body.d;
    this.retryable = body.retryable ?? false;
  }
}

/** Thrown by `ticket` or `token` when nobody is signed in any more: the client stops instead of trying again. */
export class SignedOut extends Error {}

export const INTERNAL = 100;
export const UNKNOWN_CHANNEL = 102;
export const ALREADY_SUBSCRIBED = 105;
export const BAD_REQUEST = 107;
export const NOT_AVAILABLE = 108;
export const TOO_MANY_REQUESTS = 111;
export const SEAT_EXPIRED = 123;
export const OVERLOADED = 130;
export const UNKNOWN_OUTCOME = 132;

/**
 * Whether the same request may go through in a moment without anybody doing anything.
 * `room_full` and `seat_expired` are retryable too, but somebody has to leave or to join first.
 */
export function passes(code: number): boolean {
  return [INTERNAL, TOO_MANY_REQUESTS, OVERLOADED, UNKNOWN_OUTCOME].includes(code);
}

export function notAvailable(message: string): CallError {
  return new CallError({ code: NOT_AVAILABLE, name: "not_available", message, retryable: true });
}

export function unknownOutcome(): CallError {
  const message = "no answer came; it may have happened: repeat it with the same key";
  return new CallError({ code: UNKNOWN_OUTCOME, name: "timeout_unknown_outcome", message, retryable: true });
}

/** What a client does after a close code: end, come with a new ticket, wait, come now; or the network is to blame. */
export type Verdict = "stop" | "ticket" | "wait" | "now" | "network";

export const PROTOCOL_ERROR = 1002;
export const NO_PONG = 4202;
export const STATE_INVALIDATED = 4203;
export const AUTH_FAILED = 4001;

/** The table of close codes; its ranges speak for codes that a later server may add. */
export function verdictOf(code: number): Verdict {
  if (code === AUTH_FAILED || code === 4007) return "ticket";
  if (code >= 4000 && code < 4100) return "stop";
  // RFC 6455's registry: 1013 "try again later" is what proxies say when they are full, 1012 "service restart".
  if ((code >= 4100 && code < 4200) || code === 1013) return "wait";
  if ((code >= 4200 && code < 4300) || code === 1012) return "now";
  return "network";
}
