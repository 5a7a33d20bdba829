/** Before the call: the own picture and sound, who is inside, and one button. Devices that do not come keep nobody out. */
import { useEffect, useRef, useState } from "preact/hooks";
import { instant } from "../format";
import { opensAt, untilOpen, useNow } from "../lessons/door";
import { useBusy } from "../parts/busy";
import { Icon } from "../parts/icon";
import { words } from "../parts/states";
import { Title } from "../parts/title";
import cameraIcon from "../icons/camera.svg";
import cameraOffIcon from "../icons/camera-off.svg";
import microphoneIcon from "../icons/microphone.svg";
import microphoneOffIcon from "../icons/microphone-off.svg";
import type { Devices, Source } from "../media/devices";
import { chime, useLevel } from "../media/level";
import { codeOf, Refused } from "../server";
import { me } from "../session";
import { language } from "../texts";
import { useSecondsLeft } from "./countdown";
import { useKeys } from "./keys";
import type { LiveRoom, Phase } from "./live";
import { Sheet } from "./sheet";
import { Shortcuts } from "./shortcuts";
import { Picture } from "./tile";
import { t } from "./texts";

const ICONS = { microphone: [microphoneIcon, microphoneOffIcon], camera: [cameraIcon, cameraOffIcon] } as const;

export function Preview({ live, phase }: { live: LiveRoom; phase: Phase }) {
  const state = live.state.value;
  const door = useRef<HTMLElement>(null);
  const [hasKeys, setKeys] = useState(false);
  const flip = (source: Source) => void live.devices.switch(source, !live.devices.isOn[source].value);
  useKeys({
    M: () => flip("microphone"),
    V: () => flip("camera"),
    // Whatever can be done from here.
    ENTER: () => door.current?.querySelector<HTMLButtonElement>("button.primary")?.click(),
    "?": () => setKeys(true),
  });
  if (state === null) return null;
  return (
    <div class="lobby">
      <Title>{state.room.title}</Title>
      <section class="mirror" aria-label={t().preview}>
        <div class="tile">
          {live.devices.sent.camera.value === null && <p class="unseen">{live.devices.isAsked.value || !live.devices.isOn.camera.value ? t().pictureOff : t().opening}</p>}
          <Picture stream={live.devices.picture.value} isOwn isShown={live.devices.sent.camera.value !== null} label={t().preview} />
          <p class="own-name">
            {me.value?.first_name} {me.value?.last_name} ({t().you})
          </p>
          <div class="row">
            <Switch devices={live.devices} source="microphone" />
            <Switch devices={live.devices} source="camera" />
            <Meter devices={live.devices} />
          </div>
        </div>
        <DeviceTrouble devices={live.devices} />
        <details class="choose">
          <summary>{t().devices}</summary>
          <DeviceChoice devices={live.devices} />
        </details>
      </section>
      <section class="door card" ref={door}>
        <Inside live={live} />
        {live.trouble.value !== null && (
          <p class="alert" role="alert">
            {refusal(live.trouble.value)}
          </p>
        )}
        <Way live={live} phase={phase} />
      </section>
      {hasKeys && (
        <Sheet title={t().shortcuts} close={() => setKeys(false)}>
          <Shortcuts />
        </Sheet>
      )}
    </div>
  );
}

function Inside({ live }: { live: LiveRoom }) {
  const state = live.state.value;
  const names = live.others.value.map(({ name }) => name);
  return (
    <div class="inside" role="status">
      <p class="names">{names.length === 0 ? t().nobody : t().here(new Intl.ListFormat(language.value, { type: "conjunction" }).format(names), names.length)}</p>
      <p class="faint">{state && t().seats(state.people.length, state.room.cap)}</p>
      {state?.room.starts_at && (
        <p class="soft">
          <time dateTime={state.room.starts_at}>{instant(state.room.starts_at)}</time>
        </p>
      )}
    </div>
  );
}

/** What one can do from here: come in, wait, or take what is offered. */
function Way({ live, phase }: { live: LiveRoom; phase: Phase }) {
  const state = live.state.value;
  const isBusy = live.isJoining.value;
  const now = useNow() + 1000 * (state?.room.ahead_s ?? 0);
  if (phase.at === "offered") return <Offer live={live} until={phase.until} />;
  if (phase.at === "waiting")
    return (
      <div class="stack" role="status">
        <p class="names">{t().position(phase.position)}</p>
        <p class="soft">{t().waitingWhy}</p>
        <button type="button" class="button wide" onClick={() => void live.leave()}>
          {t().stopWaiting}
        </button>
      </div>
    );
  const isSeated = state?.people.some(({ user_id }) => user_id === live.own) ?? false;
  const isFull = state !== null && !isSeated && state.people.length >= state.room.cap;
  const opens = state !== null && state.room.kind !== "talk" && state.room.starts_at !== null ? opensAt(state.room.starts_at) : 0;
  // The server has the last word on it; until then there is nothing to press.
  const isEarly = now < opens;
  const wasFull = codeOf(live.trouble.value) === "room_full";
  return (
    <div class="stack">
      {isFull && <p class="soft">{t().full}</p>}
      {isEarly && <p class="names figures">{untilOpen(opens, now)}</p>}
      <button type="button" class="button primary wide" disabled={isBusy || isEarly} aria-busy={isBusy} onClick={() => void live.join(isFull || wasFull)}>
        {isFull || wasFull ? t().wait : t().join}
      </button>
    </div>
  );
}

function Offer({ live, until }: { live: LiveRoom; until: number }) {
  const left = useSecondsLeft(until);
  // Whoever waits looks elsewhere meanwhile.
  useEffect(() => {
    chime();
    document.title = `${t().ready} · fourtalk`;
  }, []);
  return (
    <div class="stack">
      <p class="names" role="alert">
        {t().ready}
      </p>
      <p class="figures">{t().readyFor(left)}</p>
      <progress class="running" max={20} value={left} aria-hidden="true" />
      <button type="button" class="button primary wide" disabled={live.isJoining.value} aria-busy={live.isJoining.value} onClick={() => void live.join()}>
        {t().take}
      </button>
      <button type="button" class="button quiet wide" onClick={() => void live.leave()}>
        {t().stopWaiting}
      </button>
    </div>
  );
}

function Switch({ devices, source }: { devices: Devices; source: Source }) {
  const isOn = devices.isOn[source].value;
  return (
    <button type="button" class="round" aria-pressed={isOn} aria-label={t()[source]} title={t()[source]} onClick={() => void devices.switch(source, !isOn)}>
      <Icon drawing={ICONS[source][isOn ? 0 : 1]} />
    </button>
  );
}

function Meter({ devices }: { devices: Devices }) {
  const level = useLevel(devices.sound.value);
  return <meter class="level" min={0} max={1} value={level} aria-label={t().level} />;
}

export function DeviceTrouble({ devices }: { devices: Devices }) {
  const [isBusy, alone] = useBusy();
  const found = Object.entries(devices.trouble.value) as [Source, keyof ReturnType<typeof t>["trouble"]["camera"]][];
  if (found.length === 0) return null;
  return (
    <div class="device-trouble" role="status">
      {found.map(([source, trouble]) => (
        <p key={source}>{t().trouble[source][trouble]}</p>
      ))}
      <p>{t().stillWelcome}</p>
      <button type="button" class="button" disabled={isBusy} aria-busy={isBusy} onClick={() => void alone(() => devices.retry())}>
        {t().again}
      </button>
    </div>
  );
}

export function DeviceChoice({ devices }: { devices: Devices }) {
  return (
    <div class="pair">
      {(["microphone", "camera"] as const).map((source) => {
        const kind = source === "microphone" ? "audioinput" : "videoinput";
        const used = devices[source].value?.getSettings().deviceId ?? "";
        const all = devices.list.value.filter((device) => device.kind === kind);
        return (
          <label class="field" key={source}>
            <span class="label">{t().device[source]}</span>
            <select disabled={all.length === 0} value={used} onChange={({ currentTarget }) => void devices.choose(source, currentTarget.value)}>
              {all.map((device, place) => (
                <option key={device.deviceId} value={device.deviceId}>
                  {device.label || t().unnamed(place + 1)}
                </option>
              ))}
            </select>
          </label>
        );
      })}
    </div>
  );
}

export function refusal(error: unknown): string {
  return (error instanceof Refused ? t().errors[error.code] : undefined) ?? words(error);
}
