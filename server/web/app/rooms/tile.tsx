/** Somebody in the call: picture or initials, name, and how it is with them. */
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import handIcon from "../icons/hand.svg";
import microphoneOffIcon from "../icons/microphone-off.svg";
import type { Remote } from "../media/call";
import { useSpeaking } from "../media/level";
import { Icon } from "../parts/icon";
import { seatGraceMs } from "../server";
import { useSecondsLeft } from "./countdown";
import { t } from "./texts";

/** The browser plays no sound before the page was touched. */
export const isSilenced = signal(false);

export function startSound(): void {
  isSilenced.value = false;
  for (const video of document.querySelectorAll("video")) void video.play();
}

export function Picture({ stream, isOwn = false, isShown, label }: { stream: MediaStream | null; isOwn?: boolean; isShown: boolean; label: string }) {
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const element = video.current;
    if (element === null) return;
    element.srcObject = stream;
    if (stream === null) return;
    element.play().catch((error: DOMException) => {
      if (error.name === "NotAllowedError") isSilenced.value = true;
    });
  }, [stream]);
  // What is taken off the page while it waits to play would be kept by the browser, and with it all that it stood in.
  useEffect(() => {
    const element = video.current;
    return () => {
      if (element !== null) element.srcObject = null;
    };
  }, []);
  // oxlint-disable-next-line jsx-a11y/media-has-caption -- people who talk right now have none
  return <video ref={video} class={`${isOwn ? "mirrored" : ""} ${isShown ? "" : "dark"}`} autoplay playsInline muted={isOwn} aria-label={label} />;
}

interface TileOptions {
  name: string;
  isOwn?: boolean;
  isHost: boolean;
  stream: MediaStream | null;
  sound: MediaStream | null;
  isSeen: boolean;
  isHeard: boolean;
  hasHandUp: boolean;
  /** Since when they are away. */
  awaySince: number | undefined;
  link: Remote["link"];
  reaction: string | undefined;
}

export function Tile({ name, isOwn = false, isHost, stream, sound, isSeen, isHeard, hasHandUp, awaySince, link, reaction }: TileOptions) {
  const isSpeaking = useSpeaking(isHeard ? sound : null);
  const label = [name, isOwn && t().you, isHost && t().host, !isHeard && t().muted, hasHandUp && t().handUp].filter(Boolean).join(", ");
  const isAway = awaySince !== undefined;
  return (
    <figure class={`tile ${isSpeaking ? "speaking" : ""} ${isAway || link === "interrupted" ? "away" : ""}`} aria-label={label}>
      <span class="initials" aria-hidden="true">
        {initials(name)}
      </span>
      <Picture stream={stream} isOwn={isOwn} isShown={isSeen} label={name} />
      {hasHandUp && (
        <span class="raised" role="img" aria-label={t().handUp}>
          <Icon drawing={handIcon} />
        </span>
      )}
      {reaction !== undefined && (
        <span class="reaction" role="status">
          {reaction}
        </span>
      )}
      {isAway ? <Away since={awaySince} /> : link !== "connected" && <p class="state-of">{link === "connecting" ? t().connecting : t().interrupted}</p>}
      <figcaption>
        {!isHeard && <Icon drawing={microphoneOffIcon} />}
        <span>
          {name}
          {isOwn && ` (${t().you})`}
        </span>
        {isHost && <span class="host">{t().host}</span>}
      </figcaption>
    </figure>
  );
}

function Away({ since }: { since: number }) {
  // Whoever knows that somebody is away has been connected.
  return <p class="state-of figures">{t().reconnecting(useSecondsLeft(since + (seatGraceMs() ?? 0)))}</p>;
}

function initials(name: string): string {
  const words = name.split(" ").filter((word) => word !== "");
  return [words[0], words.length > 1 ? words.at(-1) : ""].map((word) => word?.charAt(0) ?? "").join("").toLocaleUpperCase();
}
