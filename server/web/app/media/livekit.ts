/** The call through a LiveKit server. A file of its own, loaded where a room asks for it: the library weighs more than all the rest. */
import { signal } from "@preact/signals";
import { DisconnectReason, type RemoteParticipant, Room, RoomEvent, Track } from "livekit-client";
import type { LiveKitAccess } from "../wire";
import type { Call, Kind, Remote } from "./call";

const SOURCES: Record<Kind, Track.Source> = {
  microphone: Track.Source.Microphone,
  camera: Track.Source.Camera,
  screen: Track.Source.ScreenShare,
};

export class LiveKitCall implements Call {
  readonly remotes = signal<ReadonlyMap<string, Remote>>(new Map());
  readonly end = signal<"elsewhere" | "lost" | null>(null);
  readonly #streams = new Map<string, { face: MediaStream; screen: MediaStream }>();
  // Layers of a picture that nobody looks at are not sent.
  readonly #room = new Room({ dynacast: true, adaptiveStream: false, publishDefaults: { simulcast: true } });
  #isLeft = false;
  /** A track of one kind after the other, so that the last one asked for is the one sent. */
  readonly #work: Record<Kind, Promise<void>> = { microphone: Promise.resolve(), camera: Promise.resolve(), screen: Promise.resolve() };
  readonly #opened: Promise<void>;

  constructor({ url, token }: LiveKitAccess) {
    const show = () => this.#show();
    for (const event of [
      RoomEvent.ParticipantConnected,
      RoomEvent.ParticipantDisconnected,
      RoomEvent.TrackSubscribed,
      RoomEvent.TrackUnsubscribed,
      RoomEvent.ConnectionStateChanged,
    ] as const)
      this.#room.on(event, show);
    this.#room.on(RoomEvent.Disconnected, (reason) => {
      if (!this.#isLeft) this.end.value = reason === DisconnectReason.DUPLICATE_IDENTITY ? "elsewhere" : "lost";
    });
    this.#opened = this.#room.connect(url, token).catch(() => {
      if (!this.#isLeft) this.end.value = "lost";
    });
  }

  send(kind: Kind, track: MediaStreamTrack | null): Promise<void> {
    this.#work[kind] = this.#work[kind].then(() => this.#send(kind, track)).catch(() => undefined);
    return this.#work[kind];
  }

  // Who is there, how they find each other and how they come back is the media server's affair.
  meet(): void {}
  hear(): void {}
  again(): void {}

  leave(): void {
    this.#isLeft = true;
    void this.#room.disconnect(false);
  }

  async #send(kind: Kind, track: MediaStreamTrack | null): Promise<void> {
    await this.#opened;
    const local = this.#room.localParticipant;
    const sent = local.getTrackPublication(SOURCES[kind])?.track;
    if (sent?.mediaStreamTrack === track) return;
    if (sent !== undefined) await local.unpublishTrack(sent, false);
    if (track !== null) await local.publishTrack(track, { source: SOURCES[kind], stopMicTrackOnMute: false });
  }

  #show(): void {
    const link = this.#room.state === "connected" ? "connected" : "interrupted";
    this.remotes.value = new Map([...this.#room.remoteParticipants.values()].map((one) => [one.identity, { ...this.#streamsOf(one), link }]));
  }

  #streamsOf(one: RemoteParticipant): { face: MediaStream; screen: MediaStream } {
    const streams = this.#streams.get(one.identity) ?? { face: new MediaStream(), screen: new MediaStream() };
    this.#streams.set(one.identity, streams);
    const publications = [...one.trackPublications.values()];
    fill(streams.face, publications.filter((publication) => !isScreen(publication)).flatMap(({ track }) => track?.mediaStreamTrack ?? []));
    fill(streams.screen, publications.filter(isScreen).flatMap(({ track }) => track?.mediaStreamTrack ?? []));
    return streams;
  }
}

function isScreen({ source }: { source: Track.Source }): boolean {
  return source === Track.Source.ScreenShare;
}

function fill(stream: MediaStream, tracks: readonly MediaStreamTrack[]): void {
  for (const track of stream.getTracks()) if (!tracks.includes(track)) stream.removeTrack(track);
  for (const track of tracks) stream.addTrack(track);
}
