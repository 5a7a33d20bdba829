/** What a page shows while it has nothing, or nothing for this person. */
import type { ComponentChildren } from "preact";
import lock from "../icons/lock.svg";
import missing from "../icons/missing.svg";
import trouble from "../icons/trouble.svg";
import { Refused } from "../server";
import { Icon } from "./icon";
import { t } from "./texts";
import { Title } from "./title";

/** The shape of what comes; it appears after a moment, so that what is fast does not flicker. */
export function Loading({ heights }: { heights: readonly string[] }) {
  return (
    <div class="stack" role="status" aria-label={t().loading}>
      {heights.map((height, place) => (
        <div class="skeleton" key={place} style={{ height }} />
      ))}
    </div>
  );
}

interface EmptyOptions {
  icon: string;
  title: string;
  /** It stands for the whole page, and has its heading. */
  isPage?: boolean;
  children?: ComponentChildren;
}

export function Empty({ icon, title, isPage = false, children }: EmptyOptions) {
  return (
    <div class="state">
      <Icon drawing={icon} />
      {isPage ? <Title>{title}</Title> : <h2>{title}</h2>}
      {children}
    </div>
  );
}

export function Failure({ error, again }: { error: unknown; again?: () => void }) {
  return (
    <div class="state" role="alert">
      <Icon drawing={trouble} />
      <h2>{t().wrong}</h2>
      <p>{words(error)}</p>
      {again && (
        <button type="button" class="button" onClick={again}>
          {t().again}
        </button>
      )}
    </div>
  );
}

interface PendingOptions {
  /** What sort of thing it is about. */
  title: string;
  heights: readonly string[];
  error?: unknown;
  again?: () => void;
}

/** A page that does not know yet what it is about, or cannot find it out: it has a heading from the start. */
export function Pending({ title, heights, error, again }: PendingOptions) {
  return (
    <div class="pending stack">
      <Title>{title}</Title>
      {error === undefined ? <Loading heights={heights} /> : <Failure error={error} {...(again && { again })} />}
    </div>
  );
}

export function NoAccess() {
  return (
    <Empty icon={lock} title={t().noAccess} isPage>
      <p>{t().noAccessWhy}</p>
    </Empty>
  );
}

export function Missing() {
  return (
    <Empty icon={missing} title={t().missing} isPage>
      <p>{t().missingWhy}</p>
      <a class="button" href="/">
        {t().home}
      </a>
    </Empty>
  );
}

/** An error in the reader's language where its code is known, else in the server's words. */
export function words(error: unknown): string {
  if (error instanceof Refused) {
    const { errors } = t();
    return errors[error.code] ?? (error.code.endsWith("_not_found") ? errors.not_found : undefined) ?? error.message;
  }
  return t().errors.internal ?? String(error);
}
