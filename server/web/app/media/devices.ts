/**
 * Camera, microphone and screen of the person at the page: asked for, switched, changed, and why they do not come.
 *
 * A muted microphone stays open, so that it is back at once; a camera that is off is let go, so that its light goes out.
 */
import { computed, signal } from "@preact/signals";
import { kept } from "../kept";

export type Source = "microphone" | "camera";
/** Why a device does not come; each has its own way out. */
export type Trouble = "blocked" | "missing" | "busy" | "insecure" | "unknown";

const CONSTRAINTS: Record<Source, MediaTrackConstraints> = {
  microphone: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
  // A tile is seldom wider, and three copies of it are sent.
  camera: { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 24 } },
};
const KINDS = { microphone: "audioinput", camera: "videoinput" } as const;

export class Devices {
  readonly microphone = signal<MediaStreamTrack | null>(null);
  readonly camera = signal<MediaStreamTrack | null>(null);
  readonly screen = signal<MediaStreamTrack | null>(null);
  readonly isOn = { microphone: signal(kept.get("microphone.off") === null), camera: signal(kept.get("camera.off") === null) };
  readonly trouble = signal<Partial<Record<Source, Trouble>>>({});
  readonly list = signal<readonly MediaDeviceInfo[]>([]);
  /** Both were asked for, with or without success. */
  readonly isAsked = signal(false);
  /** For the page's own eyes and for the level. */
  readonly picture = computed(() => streamOf(this.camera.value));
  readonly sound = computed(() => streamOf(this.microphone.value));
  /** What others get. */
  readonly sent = {
    microphone: computed(() => this.microphone.value),
    camera: computed(() => (this.isOn.camera.value ? this.camera.value : null)),
    screen: computed(() => this.screen.value),
  };
  #isClosed = false;
  readonly #changed = () => void this.#look();

  /** One question for both; if that fails each alone, so that a missing camera leaves the voice. */
  async open(): Promise<void> {
    this.#isClosed = false;
    navigator.mediaDevices?.addEventListener("devicechange", this.#changed);
    const wanted: Source[] = this.isOn.camera.value ? ["microphone", "camera"] : ["microphone"];
    if (!(await this.#ask(wanted))) await this.#askEach(wanted);
    this.isAsked.value = true;
    await this.#look();
  }

  async switch(source: Source, isOn: boolean): Promise<void> {
    this.isOn[source].value = isOn;
    kept.set(`${source}.off`, isOn ? null : "1");
    const track = this[source].value;
    if (source === "microphone" && track !== null) track.enabled = isOn;
    else if (isOn) await this.#ask([source]);
    if (source === "camera" && !isOn) this.#put("camera", null);
  }

  async choose(source: Source, id: string): Promise<void> {
    kept.set(source, id);
    if (source === "microphone" || this.isOn.camera.value) await this.#ask([source]);
  }

  /** Ask again for what did not come. */
  async retry(): Promise<void> {
    await this.#askEach(Object.keys(this.trouble.value) as Source[]);
    await this.#look();
  }

  get canShareScreen(): boolean {
    return "getDisplayMedia" in (navigator.mediaDevices ?? {});
  }

  async shareScreen(isOn: boolean): Promise<void> {
    this.screen.value?.stop();
    this.screen.value = null;
    if (!isOn) return;
    // Whoever closes the browser's own question has changed their mind.
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: true }).catch(() => null);
    const track = stream?.getVideoTracks()[0] ?? null;
    if (this.#isClosed) {
      track?.stop();
      return;
    }
    track?.addEventListener("ended", () => {
      this.screen.value = null;
    });
    this.screen.value = track;
  }

  /** Switch everything off until it is opened again: no light stays on after a call. */
  rest(): void {
    this.#isClosed = true;
    navigator.mediaDevices?.removeEventListener("devicechange", this.#changed);
    for (const kind of ["microphone", "camera", "screen"] as const) {
      this[kind].value?.stop();
      this[kind].value = null;
    }
  }

  async #askEach(sources: readonly Source[]): Promise<void> {
    await Promise.all(sources.map((source) => this.#ask([source])));
  }

  async #ask(sources: readonly Source[]): Promise<boolean> {
    const asked = Object.fromEntries(sources.map((source) => [source === "microphone" ? "audio" : "video", constraints(source)]));
    let trouble: Trouble | undefined;
    try {
      // Without TLS there is nothing to ask.
      if (!("mediaDevices" in navigator)) throw new DOMException("", "SecurityError");
      const stream = await navigator.mediaDevices.getUserMedia(asked);
      for (const track of stream.getTracks()) this.#put(track.kind === "audio" ? "microphone" : "camera", track);
    } catch (error) {
      trouble = isSecureContext ? nameOf(error) : "insecure";
    }
    // Of two that were asked for together nobody knows which one failed.
    if (trouble === undefined || sources.length === 1)
      this.trouble.value = Object.fromEntries(
        [...Object.entries(this.trouble.value).filter(([source]) => !sources.includes(source as Source)), ...(trouble === undefined ? [] : sources.map((source) => [source, trouble]))],
      );
    return trouble === undefined;
  }

  #put(source: Source, track: MediaStreamTrack | null): void {
    this[source].value?.stop();
    // The page was left, or the camera switched off, while the device was opened.
    if (track !== null && (this.#isClosed || (source === "camera" && !this.isOn.camera.value))) track.stop();
    else this[source].value = track;
    if (source === "microphone" && track !== null) track.enabled = this.isOn.microphone.value;
    track?.addEventListener("ended", () => {
      if (this[source].value !== track) return;
      // It was pulled out: nobody sees or hears anything of it. Another one may do.
      this[source].value = null;
      void this.#ask([source]);
    });
  }

  async #look(): Promise<void> {
    const all = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    this.list.value = all.filter(({ deviceId }) => deviceId !== "");
    const isFound = (Object.keys(this.trouble.value) as Source[]).filter(
      (source) => this.trouble.value[source] === "missing" && all.some(({ kind }) => kind === KINDS[source]),
    );
    await this.#askEach(isFound);
  }
}

function constraints(source: Source): MediaTrackConstraints {
  const id = kept.get(source);
  return { ...CONSTRAINTS[source], ...(id === null ? {} : { deviceId: { ideal: id } }) };
}

function streamOf(track: MediaStreamTrack | null): MediaStream | null {
  return track === null ? null : new MediaStream([track]);
}

function nameOf(error: unknown): Trouble {
  switch (error instanceof DOMException ? error.name : "") {
    case "NotAllowedError":
    case "SecurityError":
      return "blocked";
    case "NotFoundError":
    case "OverconstrainedError":
      return "missing";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "unknown";
  }
}
