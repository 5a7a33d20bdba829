/**
 * Who is logged in. The access token stands in memory only; the refresh token in a cookie that no script can read.
 *
 * All tabs share the cookie, and a refresh token works once: a second use that does not follow at once ends the session,
 * because a thief may have the other. So one tab at a time refreshes (Web Locks), and all hear of a login and a logout
 * (BroadcastChannel).
 */
import { computed, signal } from "@preact/signals";
import { ownZone, zone } from "./format";
import { kept } from "./kept";
import { forget, recall, see, seenAt, showSeen } from "./seen";
import { authenticateBy, call, closeSocket, openSocket, type Asked } from "./server";
import { isLanguage, language, speak } from "./texts";
import type { Account, Tokens, UpdatedAccount } from "./wire";

/** `null`: nobody is logged in; `undefined`: not known yet. */
export const me = signal<Account | null | undefined>(kept.get("member") === null ? null : undefined);
export const isMember = computed(() => me.value !== null && me.value !== undefined);

// Of the half hour that an access token holds, so that one that is just used does not expire on its way.
const SPARE_MS = 60_000;
// A server that starts again needs a second or two.
const AWAY_MS = 3_000;
const tabs = new BroadcastChannel("fourtalk.session");
let token: { text: string; until: number } | null = null;
let refreshing: Promise<string | null> | null = null;

export async function logIn(fields: Asked<"auth.login">): Promise<void> {
  begin(await call("auth.login", fields));
  tellTabs();
}

export async function register(fields: Omit<Asked<"auth.register">, "timezone" | "locale">): Promise<void> {
  begin(await call("auth.register", { ...fields, timezone: ownZone, locale: language.value }));
  tellTabs();
}

export async function logOut(): Promise<void> {
  await call("auth.logout", {});
  end();
  tellTabs();
}

/** End every session of the account, this one too. */
export async function logOutEverywhere(): Promise<void> {
  await call("login.end_all", {});
  await logOut();
}

/** Change the own account; a new password ends all sessions but this one. */
export async function update(fields: Asked<"me.update">): Promise<void> {
  const answer: UpdatedAccount = await call("me.update", fields);
  const { access_token, expires_in_s, refresh_token: _, ...account } = answer;
  if (access_token !== undefined && access_token !== null) {
    keep(access_token, expires_in_s ?? 0);
    tellTabs();
  }
  know(account);
}

/** Fetch the own account again: somebody else has changed it. */
export async function renew(): Promise<void> {
  know(await call("me.get", {}));
}

/** Take up the session of an earlier visit or of another tab, if there is one. */
export async function resume(): Promise<void> {
  token = null;
  try {
    if (kept.get("member") === null || (await accessToken()) === null) end();
  } catch {
    // The server is away: who it was is not known, and not denied either.
    await remember();
  }
}

/** Be who was here last, until the server says who it is: the socket asks for that. */
async function remember(): Promise<void> {
  const seen = await recall("me.get", {});
  if (seen === undefined || me.peek() !== undefined) {
    setTimeout(() => void resume(), AWAY_MS);
    return;
  }
  openSocket(seen.answer.id);
  show(showSeen(seen));
}

authenticateBy((isRefused = false) => {
  if (isRefused) token = null;
  return kept.get("member") === null ? Promise.resolve(null) : accessToken();
});
tabs.addEventListener("message", () => void resume());

function tellTabs(): void {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a channel is of one origin
  tabs.postMessage("changed");
}

function accessToken(): Promise<string | null> {
  if (token !== null && token.until > Date.now()) return Promise.resolve(token.text);
  refreshing ??= alone(refresh).finally(() => {
    refreshing = null;
  });
  return refreshing;
}

async function refresh(): Promise<string | null> {
  try {
    const tokens = await call("auth.refresh", {});
    begin(tokens);
    return tokens.access_token;
  } catch (error) {
    // Without the server nothing is known; with its no, the session is over.
    if ((error as { code?: string }).code === "unauthorized") end();
    else throw error;
    return null;
  }
}

function alone<T>(work: () => Promise<T>): Promise<T> {
  // Only a secure context has locks; elsewhere two tabs that are slow may be logged out where one would not.
  return "locks" in navigator ? navigator.locks.request("fourtalk.refresh", work) : work();
}

function begin({ user, access_token, expires_in_s }: Tokens): void {
  const isNew = me.peek()?.id !== user.id;
  kept.set("member", user.id);
  keep(access_token, expires_in_s);
  know(user);
  if (isNew) openSocket(user.id);
}

function keep(text: string, expiresInS: number): void {
  token = { text, until: Date.now() + expiresInS * 1000 - SPARE_MS };
}

function know(account: Account): void {
  void see("me.get", {}, account);
  show(account);
}

function show(account: Account): void {
  me.value = account;
  zone.value = account.timezone;
  if (isLanguage(account.locale)) speak(account.locale);
}

function end(): void {
  seenAt.value = null;
  if (kept.get("member") !== null) void forget();
  kept.set("member", null);
  token = null;
  closeSocket();
  me.value = null;
  zone.value = ownZone;
}
