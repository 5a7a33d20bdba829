export { BACKOFF, type Backoff } from "./backoff.ts";
export {
  type CallOptions,
  type Client,
  connect,
  type EventMap,
  type EventOf,
  type OpMap,
  type Options,
  type Subscriber,
} from "./client.ts";
export type { State, Status } from "./engine.ts";
export { CallError, type Position, type Published, SignedOut } from "./wire.ts";
