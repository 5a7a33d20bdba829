/** Where a talk's link leads: what it is, who is inside, and the way in. Who is logged in is at the door at once. */
import { useLocation } from "preact-iso";
import { useEffect } from "preact/hooks";
import type { PageProperties } from "../feature";
import { languageName } from "../format";
import { talks as talksIcon } from "../icons/places";
import { useLoaded } from "../parts/loaded";
import { Empty, Missing, Pending } from "../parts/states";
import { Title } from "../parts/title";
import { me } from "../session";
import { call, codeOf } from "../server";
import { Seats } from "./seats";
import { t } from "./texts";

// A household of visitors shares sixty requests a minute.
const EVERY_MS = 5_000;

export default function Invitation({ params }: PageProperties) {
  const { route } = useLocation();
  const code = params["code"] ?? "";
  const { value: talk, error, reload } = useLoaded(() => call("talk.get", { talk_id: code }), [code]);
  const isOver = talk?.state === "closed" || talk?.state === "closing";
  useEffect(() => {
    const timer = setInterval(() => document.hidden || void reload(), EVERY_MS);
    return () => clearInterval(timer);
  }, [reload]);
  useEffect(() => {
    if (talk !== undefined && !isOver && me.value) route(`/rooms/${talk.room_id}`, true);
  }, [talk?.room_id, isOver, me.value?.id]);

  if (talk === undefined) {
    const isMissing = codeOf(error) === "not_found";
    return isMissing ? <Missing /> : <Pending title={t().talk} heights={["2.5rem", "12rem"]} error={error} again={() => void reload()} />;
  }
  if (isOver)
    return (
      <Empty icon={talksIcon} title={t().over} isPage>
        <p>{t().overWhy(talk.title)}</p>
        <a class="button primary" href="/">
          {t().others}
        </a>
      </Empty>
    );
  const next = encodeURIComponent(`/rooms/${talk.room_id}`);
  return (
    <div class="invitation">
      <p class="soft">{t().invites(talk.host.name)}</p>
      <Title>{talk.title}</Title>
      <p class="row">
        <span class="chip accent">{languageName(talk.language)}</span>
        {talk.level && <span class="chip">{talk.level}</span>}
        {talk.topic && <span class="chip">{talk.topic}</span>}
      </p>
      {talk.description && <p>{talk.description}</p>}
      <div class="card">
        <Seats seats={talk.seats} />
        {me.value === null && (
          <>
            <a class="button primary wide" href={`/register?next=${next}`}>
              {t().register}
            </a>
            <a class="button wide" href={`/login?next=${next}`}>
              {t().logIn}
            </a>
            <p class="faint">{t().why}</p>
          </>
        )}
      </div>
    </div>
  );
}
