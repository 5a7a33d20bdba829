/** Where a page's connections come from: a WebSocket of its own, or the worker that all tabs share. */
import type { Options } from "./client.ts";
import type { Link, Socket } from "./engine.ts";
import { SUBPROTOCOL, SignedOut } from "./wire.ts";

/** A worker that was not blocked or broken has answered by then: it is one message there and one back. */
const ANSWER_MS = 3_000;
/** RFC 6455: the page goes away. */
const GOING_AWAY = 1001;

/** A connection of this page alone. */
export function directLink({ url, ticket, token }: Pick<Options, "url" | "ticket" | "token">): Link {
  return {
    credentials: async () => ({ ticket: await ticket() }),
    // A WebSocket hands its handlers more than they take; TypeScript compares properties more strictly than calls.
    open: () => new WebSocket(url, SUBPROTOCOL) as unknown as Socket,
    token,
  };
}

/** A connection through the shared worker; one of our own where there is no such thing, or it does not answer. */
export function sharedLink(options: Options): Link {
  const direct = directLink(options);
  let isShared = typeof SharedWorker !== "undefined";
  return {
    ...direct,
    credentials: () => (isShared ? Promise.resolve({}) : direct.credentials()),
    open: () => (isShared ? new PortSocket(options.worker!(), () => (isShared = false)) : direct.open()),
    supply: async (kind) => {
      try {
        if (kind === "ticket") return await direct.credentials();
        return options.token ? { token: await options.token() } : {};
      } catch (error) {
        return { signedOut: error instanceof SignedOut };
      }
    },
  };
}

/**
 * A port to the shared worker that looks like a WebSocket. Strings are the protocol's own messages, a number is a close
 * code; the worker speaks first. So a tab that was frozen is to the worker what a dead phone is to the server.
 */
class PortSocket implements Socket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  #port: MessagePort;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #leave = () => this.close();

  constructor(worker: SharedWorker, failed: () => void) {
    this.#port = worker.port;
    const fail = () => {
      failed();
      this.#end(0);
    };
    this.#timer = setTimeout(fail, ANSWER_MS);
    worker.onerror = fail;
    this.#port.onmessage = ({ data }) => {
      if (this.#timer !== undefined) {
        clearTimeout(this.#timer);
        this.#timer = undefined;
        this.onopen?.();
      }
      if (typeof data === "number") this.#end(data);
      else this.onmessage?.({ data });
    };
    globalThis.addEventListener?.("pagehide", this.#leave);
  }

  send(text: string): void {
    this.#port.postMessage(text);
  }

  close(): void {
    this.#port.postMessage(GOING_AWAY);
    this.#end(GOING_AWAY);
  }

  #end(code: number): void {
    clearTimeout(this.#timer);
    globalThis.removeEventListener?.("pagehide", this.#leave);
    this.#port.onmessage = null;
    this.#port.close();
    this.onclose?.({ code });
  }
}
