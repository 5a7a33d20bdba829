/** Keeps the shell for times without a network: the page and its files. Answers of the API are kept by pages (`seen.ts`). */
export type {}; // a module of its own, so that `self` is the worker here
declare const self: ServiceWorkerGlobalScope;
declare const BUILD: string;
declare const SHELL: string[];

const NAME = `shell-${BUILD}`;

self.addEventListener("install", (event) => {
  event.waitUntil(
    (async () => {
      await (await caches.open(NAME)).addAll(SHELL);
      await self.skipWaiting();
    })(),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      const others = (await caches.keys()).filter((name) => name !== NAME);
      // After another client: what that one has seen may have had another shape.
      if (others.some((name) => name.startsWith("shell-"))) await Promise.all(others.map((name) => caches.delete(name)));
      await self.clients.claim();
    })(),
  );
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== self.location.origin) return;
  if (request.mode === "navigate") event.respondWith(online(request));
  else if (pathname.startsWith("/assets/")) event.respondWith(keptOrNew(request));
});

async function online(request: Request): Promise<Response> {
  try {
    return await fetch(request);
  } catch {
    return (await caches.match("/")) ?? Response.error();
  }
}

/** An asset never changes under its name, whoever asks for it: a script's request has other headers than our own has. */
async function keptOrNew(request: Request): Promise<Response> {
  const found = await caches.match(request, { ignoreVary: true });
  if (found !== undefined) return found;
  const response = await fetch(request);
  if (response.ok) await (await caches.open(NAME)).put(request, response.clone());
  return response;
}
