/** The call: tiles, what is said, and the controls. */
import { useEffect, useRef, useState } from "preact/hooks";
import cameraIcon from "../icons/camera.svg";
import cameraOffIcon from "../icons/camera-off.svg";
import chatIcon from "../icons/chat.svg";
import inviteIcon from "../icons/invite.svg";
import leaveIcon from "../icons/leave.svg";
import microphoneIcon from "../icons/microphone.svg";
import microphoneOffIcon from "../icons/microphone-off.svg";
import moreIcon from "../icons/more.svg";
import screenIcon from "../icons/screen.svg";
import { AttendancePanel } from "../lessons/panel";
import { useSpeaking } from "../media/level";
import { Icon } from "../parts/icon";
import { connection } from "../server";
import { Chat } from "./chat";
import { Invite } from "./invite";
import { useKeys } from "./keys";
import type { LiveRoom } from "./live";
import { More } from "./more";
import { DeviceTrouble } from "./preview";
import { Stay } from "./stay";
import { isSilenced, Picture, startSound, Tile } from "./tile";
import { t } from "./texts";

type Panel = "chat" | "invite" | "more";

export function CallView({ live, isNew }: { live: LiveRoom; isNew: boolean }) {
  const state = live.state.value;
  const isTalk = state?.room.kind === "talk";
  const [panel, setPanel] = useState<Panel | null>(isNew && isTalk ? "invite" : null);
  const toggle = (wanted: Panel) => setPanel((open) => (open === wanted ? null : wanted));
  const close = () => setPanel(null);
  const unread = useUnread(live, panel === "chat");
  useEffect(() => {
    document.title = `${state?.room.title ?? ""} · fourtalk`;
  }, [state?.room.title]);
  useEffect(keepAwake, []);
  useKeys({
    M: () => void live.devices.switch("microphone", !live.devices.isOn.microphone.value),
    V: () => void live.devices.switch("camera", !live.devices.isOn.camera.value),
    H: () => {
      live.hasHandUp.value = !live.hasHandUp.value;
    },
    ESCAPE: close,
    "?": () => setPanel("more"),
  });
  if (state === null) return null;
  return (
    <div class={`call ${panel === "chat" ? "with-chat" : ""} ${isTalk ? "" : "with-lesson"}`}>
      <header class="call-head">
        <h1>{state.room.title}</h1>
        <p class="faint figures">{t().seats(state.people.length, state.room.cap)}</p>
        {isTalk && (
          <button type="button" class="button" onClick={() => toggle("invite")}>
            <Icon drawing={inviteIcon} />
            {t().invite}
          </button>
        )}
      </header>
      {!isTalk && (
        // What scrolls, as on a phone, has to be reached by keyboard.
        // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <aside class="lesson card" tabIndex={0} aria-label={t().lesson}>
          <AttendancePanel roomId={live.id} />
        </aside>
      )}
      <Stage live={live} />
      {panel === "chat" && <Chat live={live} close={close} />}
      <div class="notes">
        <Notes live={live} />
      </div>
      <Controls live={live} panel={panel} toggle={toggle} unread={unread} />
      {panel === "invite" && <Invite room={live.id} close={close} />}
      {panel === "more" && <More live={live} close={close} invite={isTalk ? () => setPanel("invite") : null} />}
      {!isTalk && <Stay leave={() => void live.leave()} />}
      <News live={live} />
    </div>
  );
}

/** A phone that goes to sleep leaves the call. */
function keepAwake(): () => void {
  // Batteries that are low, and pages out of sight, get none.
  const lock = navigator.wakeLock?.request("screen").catch(() => null);
  return () => void lock?.then((held) => held?.release());
}

function Stage({ live }: { live: LiveRoom }) {
  const state = live.state.value;
  const remotes = live.call.value?.remotes.value;
  const shows = live.shows.value;
  const people = [...(state?.people ?? [])].toSorted((a, b) => Number(b.user_id === live.own) - Number(a.user_id === live.own) || a.seat_no - b.seat_no);
  const shared = people.find(({ user_id }) => user_id !== live.own && shows.get(user_id)?.screen && (remotes?.get(user_id)?.screen.getTracks().length ?? 0) > 0);
  return (
    <section class={`stage ${shared === undefined ? "" : "with-screen"}`} aria-label={t().stage}>
      {shared !== undefined && (
        <figure class="tile shared">
          <Picture stream={remotes?.get(shared.user_id)?.screen ?? null} isShown label={t().screenOf(shared.name)} />
          <figcaption>
            <span>{t().screenOf(shared.name)}</span>
          </figcaption>
        </figure>
      )}
      <div class="people" data-count={people.length}>
        {people.map((one) => {
          const isOwn = one.user_id === live.own;
          const remote = remotes?.get(one.user_id);
          const shown = isOwn ? live.ownShows.value : shows.get(one.user_id);
          return (
            <Tile
              key={one.user_id}
              name={one.name}
              isOwn={isOwn}
              isHost={one.role === "host" || one.role === "tutor"}
              stream={isOwn ? live.devices.picture.value : (remote?.face ?? null)}
              sound={isOwn ? live.devices.sound.value : (remote?.face ?? null)}
              isSeen={shown?.camera ?? true}
              isHeard={shown?.microphone ?? true}
              hasHandUp={shown?.hand ?? false}
              awaySince={isOwn ? undefined : state?.awaySince.get(one.user_id)}
              link={isOwn ? "connected" : (remote?.link ?? "connecting")}
              reaction={live.reactions.value.findLast(({ from }) => from === one.user_id)?.emoji}
            />
          );
        })}
      </div>
    </section>
  );
}

/** What has to be known right now, in one line each, above the controls. */
function Notes({ live }: { live: LiveRoom }) {
  const { devices } = live;
  const isMuted = !devices.isOn.microphone.value;
  const [isProbing, setProbing] = useState(false);
  // A muted track is silent for ourselves too: what is said into it is heard by a second one.
  useEffect(() => setProbing(isMuted), [isMuted]);
  return (
    <>
      {connection.value.status !== "open" && <p>{t().socketAway}</p>}
      {live.others.value.length === 0 && <p>{t().alone}</p>}
      {isSilenced.value && (
        <button type="button" class="button primary" onClick={startSound}>
          {t().startSound}
        </button>
      )}
      {devices.screen.value !== null && (
        <p class="row">
          {t().sharing}
          <button type="button" class="button" onClick={() => void devices.shareScreen(false)}>
            {t().stopSharing}
          </button>
        </p>
      )}
      {isProbing && <Probe stream={devices.sound.value} />}
      <DeviceTrouble devices={devices} />
    </>
  );
}

/** "You are speaking, but muted." */
function Probe({ stream }: { stream: MediaStream | null }) {
  const [heard, setHeard] = useState<MediaStream | null>(null);
  useEffect(() => {
    const copy = stream?.getAudioTracks()[0]?.clone();
    if (copy === undefined) return undefined;
    copy.enabled = true;
    setHeard(new MediaStream([copy]));
    return () => copy.stop();
  }, [stream]);
  const isSpeaking = useSpeaking(heard);
  return <div role="status">{isSpeaking && <p>{t().mutedHint}</p>}</div>;
}

function Controls({ live, panel, toggle, unread }: { live: LiveRoom; panel: Panel | null; toggle: (panel: Panel) => void; unread: number }) {
  const { devices } = live;
  const bar = useRef<HTMLDivElement>(null);
  const isSharing = devices.screen.value !== null;
  function walk(event: KeyboardEvent): void {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    const buttons = [...(bar.current?.querySelectorAll("button") ?? [])];
    const place = buttons.findIndex((button) => button === document.activeElement);
    if (step !== 0 && place >= 0) buttons[(place + step + buttons.length) % buttons.length]?.focus();
  }
  return (
    <div class="controls" role="toolbar" aria-label={t().controls} tabIndex={-1} ref={bar} onKeyDown={walk}>
      {(["microphone", "camera"] as const).map((source) => {
        const isOn = devices.isOn[source].value;
        return (
          <button key={source} type="button" class="round" aria-pressed={isOn} aria-label={t()[source]} title={`${t()[source]} (${source === "microphone" ? "M" : "V"})`} onClick={() => void devices.switch(source, !isOn)}>
            <Icon drawing={source === "microphone" ? (isOn ? microphoneIcon : microphoneOffIcon) : isOn ? cameraIcon : cameraOffIcon} />
          </button>
        );
      })}
      {devices.canShareScreen && (
        <button type="button" class={`round ${isSharing ? "lit" : ""}`} aria-pressed={isSharing} aria-label={t().screen} title={t().screen} onClick={() => void devices.shareScreen(!isSharing)}>
          <Icon drawing={screenIcon} />
        </button>
      )}
      <button type="button" class="round" aria-expanded={panel === "chat"} aria-label={unread === 0 ? t().chat : `${t().chat}, ${t().unread(unread)}`} title={t().chat} onClick={() => toggle("chat")}>
        <Icon drawing={chatIcon} />
        {unread > 0 && (
          <span class="mark figures" aria-hidden="true">
            {unread > 9 ? "9+" : unread}
          </span>
        )}
      </button>
      <button type="button" class="round" aria-haspopup="dialog" aria-label={t().more} title={t().more} onClick={() => toggle("more")}>
        <Icon drawing={moreIcon} />
      </button>
      <button type="button" class="round leave" aria-label={t().leave} title={t().leave} onClick={() => void live.leave()}>
        <Icon drawing={leaveIcon} />
      </button>
    </div>
  );
}

/** Who came, went and raised a hand, for those who do not see it. */
function News({ live }: { live: LiveRoom }) {
  const [text, setText] = useState("");
  const before = useRef<{ people: ReadonlyMap<string, string>; hands: ReadonlySet<string> } | null>(null);
  const people = new Map(live.others.value.map(({ user_id, name }) => [user_id, name]));
  const hands = new Set([...live.shows.value].filter(([id, { hand }]) => hand && people.has(id)).map(([id]) => id));
  useEffect(() => {
    const last = before.current;
    before.current = { people, hands };
    if (last === null) return;
    const news = [
      ...[...people].filter(([id]) => !last.people.has(id)).map(([, name]) => t().joined(name)),
      ...[...last.people].filter(([id]) => !people.has(id)).map(([, name]) => t().hasLeft(name)),
      ...[...hands].filter((id) => !last.hands.has(id)).map((id) => t().raised(people.get(id) ?? t().somebody)),
    ];
    if (news.length > 0) setText(news.join(". "));
  }, [[...people.keys()].join(" "), [...hands].join(" ")]);
  return (
    <p class="visually-hidden" role="status">
      {text}
    </p>
  );
}

/** How many messages of others have come since the chat was last open. */
function useUnread(live: LiveRoom, isOpen: boolean): number {
  const lines = live.state.value?.lines ?? [];
  const [seen, setSeen] = useState(() => lines.at(-1)?.id);
  const last = lines.at(-1)?.id;
  useEffect(() => {
    if (isOpen) setSeen(last);
  }, [isOpen, last]);
  if (isOpen) return 0;
  const since = lines.findIndex(({ id }) => id === seen);
  return lines.slice(since + 1).filter(({ from }) => from !== live.own).length;
}
