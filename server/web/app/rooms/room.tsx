/** A room: the look into it, the call, and what is left of it. */
import { useLocation } from "preact-iso";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { PageProperties } from "../feature";
import missing from "../icons/missing.svg";
import { giveFocusBack } from "../parts/focus";
import { Empty, NoAccess, Pending } from "../parts/states";
import { me } from "../session";
import { codeOf } from "../server";
import { CallView } from "./call";
import { LiveRoom } from "./live";
import { Over } from "./over";
import { Preview } from "./preview";
import { t } from "./texts";

const HEIGHTS = ["2.5rem", "18rem", "3rem"];

export default function RoomPage({ params }: PageProperties) {
  const id = params["id"] ?? "";
  const own = me.value?.id;
  // Another room, or another person, is another page.
  return own === undefined ? null : <Room key={`${id} ${own}`} id={id} own={own} />;
}

function Room({ id, own }: { id: string; own: string }) {
  const { query, path, route } = useLocation();
  const [isNew] = useState(query["new"] !== undefined);
  const [isStraight] = useState(isNew || query["straight"] !== undefined);
  const live = useMemo(() => new LiveRoom(id, own), []);
  useEffect(() => {
    void live.devices.open();
    // Who has just opened a talk, or asked for any, wants to be in it, and is asked nothing more.
    if (isStraight) {
      route(path, true);
      void live.join();
    }
    return () => live.close();
  }, []);

  const phase = live.phase.value;
  const before = useRef(phase.at);
  useEffect(() => {
    // What was pressed is gone with what was there before.
    if (before.current !== "loading") giveFocusBack(null);
    before.current = phase.at;
  }, [phase.at]);
  switch (phase.at) {
    case "loading":
      return <Pending title={t().room} heights={HEIGHTS} />;
    case "refused":
      return <Closed error={phase.error} />;
    case "inside":
      return <CallView live={live} isNew={isNew} />;
    case "over":
      return <Over live={live} why={phase.why} />;
    default:
      return <Preview live={live} phase={phase} />;
  }
}

function Closed({ error }: { error: unknown }) {
  switch (codeOf(error)) {
    case "permission_denied":
      return <NoAccess />;
    case "not_found":
    case "bad_request":
      return (
        <Empty icon={missing} title={t().missing} isPage>
          <p>{t().missingWhy}</p>
          <a class="button" href="/">
            {t().talks}
          </a>
        </Empty>
      );
    default:
      return <Pending title={t().room} heights={HEIGHTS} error={error} />;
  }
}
