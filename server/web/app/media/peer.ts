/**
 * Pictures and sound from browser to browser, each with each, for at most four people.
 *
 * Who comes into the room calls everybody who is there; the others answer. What follows on a connection (a restart of its way
 * through the network, from both sides at once) is "perfect negotiation" (WebRTC 1.0, 10.7): the polite side takes its own
 * offer back. Signals may be lost, so an offer is said again until it is answered, and offers are numbered, because one that
 * was said twice is answered twice.
 *
 * Each connection has a name of its own in everything it says. A name that is new says that the other side began anew (its
 * page was loaded again, its seat was lost), and the connection to its past is thrown away.
 */
import { signal } from "@preact/signals";
import type { Call, Kind, Remote, Seat } from "./call";

interface Words {
  description?: RTCSessionDescriptionInit;
  /** Number of the offer, and of the offer that an answer belongs to. */
  turn?: number;
  candidates?: readonly RTCIceCandidateInit[];
}

interface Message extends Words {
  link: string;
  /** Generation of the sender's seat. */
  seat: number;
}

interface Options {
  own: Seat;
  servers: readonly string[];
  /** Who was in the room before. */
  others: readonly Seat[];
  deliver: (to: string, message: unknown) => void;
}

type Tracks = Record<Kind, MediaStreamTrack | null>;

// In the order in which a connection has its places: filled or not, so that a camera that is switched on later needs no
// agreement.
const KINDS = ["microphone", "camera", "screen"] as const;
// Three copies go out over one line: so much three times is what a weak one at home gives. A screen is read, and shown one at a time.
const BITRATES: Partial<Record<Kind, number>> = { camera: 600_000, screen: 1_500_000 };
const ANSWERED_WITHIN_MS = 2_000;
// A phone that changes its network shows as "disconnected" for a moment and mostly heals by itself.
const HEALS_WITHIN_MS = 3_000;
// Ways through the network are found in bursts; a message each would be thirty where four people meet.
const TOGETHER_MS = 30;

export class PeerCall implements Call {
  readonly remotes = signal<ReadonlyMap<string, Remote>>(new Map());
  readonly end = signal(null);
  readonly #options: Options;
  readonly #peers = new Map<string, Peer>();
  readonly #tracks: Tracks = { microphone: null, camera: null, screen: null };

  constructor(options: Options) {
    this.#options = options;
    for (const { id, generation } of options.others) this.#open(id, generation).offer();
  }

  meet(others: readonly Seat[]): void {
    for (const [id, peer] of this.#peers) {
      const seat = others.find((other) => other.id === id);
      // A call may be quicker than the news of who calls.
      if (seat === undefined ? peer.isListed : seat.generation > peer.seat) this.#drop(id);
      else peer.isListed ||= seat !== undefined;
    }
  }

  hear(from: string, data: unknown): void {
    const message = data as Message;
    const peer = this.#listener(from, message);
    void peer?.hear(message).catch(() => {
      // What cannot be applied is of a past that the other side has forgotten, or we have.
      if (this.#peers.get(from) === peer) this.#open(from, message.seat).offer();
    });
  }

  async send(kind: Kind, track: MediaStreamTrack | null): Promise<void> {
    this.#tracks[kind] = track;
    await Promise.all([...this.#peers.values()].map((peer) => peer.send(kind, track)));
  }

  again(): void {
    for (const peer of this.#peers.values()) if (peer.state !== "connected") peer.restart();
  }

  leave(): void {
    for (const id of this.#peers.keys()) this.#drop(id);
  }

  /** The connection that a message is for, if it is for any. */
  #listener(from: string, { link, seat, description }: Message): Peer | undefined {
    const peer = this.#peers.get(from);
    if (peer?.other === link) return peer;
    if (description?.type === "answer") {
      if (peer === undefined) return undefined;
      // Another connection than ours was meant to answer: both begin anew.
      const listener = peer.other === null ? peer : this.#open(from, seat);
      if (listener === peer) listener.other = link;
      else listener.offer();
      return listener;
    }
    if (description?.type !== "offer" || (peer !== undefined && seat < peer.seat)) return undefined;
    // Both called at once: the polite one forgets its own call.
    if (peer?.other === null && !this.#isPoliteTo(from)) return undefined;
    const opened = this.#open(from, seat);
    opened.other = link;
    return opened;
  }

  #isPoliteTo(id: string): boolean {
    return this.#options.own.id < id;
  }

  #open(id: string, seat: number): Peer {
    const isListed = this.#peers.get(id)?.isListed ?? false;
    this.#peers.get(id)?.close();
    const link = crypto.randomUUID();
    const peer = new Peer({
      isPolite: this.#isPoliteTo(id),
      servers: this.#options.servers,
      tracks: this.#tracks,
      deliver: (words) => this.#options.deliver(id, { link, seat: this.#options.own.generation, ...words } satisfies Message),
      changed: () => this.#show(),
    });
    peer.seat = seat;
    peer.isListed = isListed;
    this.#peers.set(id, peer);
    this.#show();
    return peer;
  }

  #drop(id: string): void {
    this.#peers.get(id)?.close();
    this.#peers.delete(id);
    this.#show();
  }

  #show(): void {
    this.remotes.value = new Map([...this.#peers].map(([id, { face, screen, state }]) => [id, { face, screen, link: state }]));
  }
}

interface PeerOptions {
  isPolite: boolean;
  servers: readonly string[];
  tracks: Tracks;
  deliver: (words: Words) => void;
  changed: () => void;
}

class Peer {
  readonly face = new MediaStream();
  readonly screen = new MediaStream();
  /** The other side's name of the connection, once it has said something. */
  other: string | null = null;
  /** Generation of the other's seat. */
  seat = 0;
  /** The server has told of them. */
  isListed = false;
  readonly #options: PeerOptions;
  readonly #connection: RTCPeerConnection;
  #work: Promise<void> = Promise.resolve();
  #isOffering = false;
  #turn = 0;
  #healing = 0;
  #unanswered = 0;
  #found: RTCIceCandidateInit[] = [];
  #telling = 0;

  constructor(options: PeerOptions) {
    this.#options = options;
    const connection = new RTCPeerConnection({ iceServers: options.servers.map((urls) => ({ urls })), bundlePolicy: "max-bundle" });
    this.#connection = connection;
    connection.addEventListener("icecandidate", ({ candidate }) => {
      if (candidate !== null) this.#tell(candidate);
    });
    connection.addEventListener("negotiationneeded", () => void this.#negotiate());
    connection.addEventListener("connectionstatechange", () => this.#watch());
    connection.addEventListener("track", ({ track, transceiver }) => {
      const kind = KINDS[connection.getTransceivers().indexOf(transceiver)];
      (kind === "screen" ? this.screen : this.face).addTrack(track);
      options.changed();
    });
  }

  get state(): Remote["link"] {
    const state = this.#connection.connectionState;
    if (state === "connected") return "connected";
    return state === "disconnected" || state === "failed" ? "interrupted" : "connecting";
  }

  offer(): void {
    for (const kind of KINDS) {
      const bitrate = BITRATES[kind];
      const place = this.#connection.addTransceiver(this.#options.tracks[kind] ?? (kind === "microphone" ? "audio" : "video"), {
        direction: "sendrecv",
        ...(bitrate === undefined ? {} : { sendEncodings: [{ maxBitrate: bitrate }] }),
      });
      if (kind !== "microphone") place.setCodecPreferences(codecs());
    }
  }

  /** One message after the other: a way through the network is of the description before it. */
  hear(words: Words): Promise<void> {
    const done = this.#work.then(() => this.#take(words));
    this.#work = done.catch(() => undefined);
    return done;
  }

  async send(kind: Kind, track: MediaStreamTrack | null): Promise<void> {
    await this.#connection.getTransceivers()[KINDS.indexOf(kind)]?.sender.replaceTrack(track);
  }

  restart(): void {
    if (this.#connection.signalingState === "have-local-offer") this.#say();
    else this.#connection.restartIce();
  }

  close(): void {
    clearTimeout(this.#healing);
    clearTimeout(this.#unanswered);
    clearTimeout(this.#telling);
    this.#connection.close();
  }

  async #negotiate(): Promise<void> {
    this.#isOffering = true;
    try {
      this.#turn += 1;
      await this.#connection.setLocalDescription();
      this.#say();
    } catch {
      // It was closed meanwhile, or an offer of the other side came first.
    } finally {
      this.#isOffering = false;
    }
  }

  /** Say the offer, and again until it is answered; said again, it has the ways found so far. */
  #say(): void {
    clearTimeout(this.#unanswered);
    const { signalingState, localDescription } = this.#connection;
    if (signalingState !== "have-local-offer" || localDescription === null) return;
    this.#options.deliver({ description: localDescription.toJSON(), turn: this.#turn });
    this.#unanswered = setTimeout(() => this.#say(), ANSWERED_WITHIN_MS);
  }

  #tell(candidate: RTCIceCandidate): void {
    this.#found.push(candidate.toJSON());
    if (this.#found.length > 1) return;
    this.#telling = setTimeout(() => {
      this.#options.deliver({ candidates: this.#found });
      this.#found = [];
    }, TOGETHER_MS);
  }

  async #take({ description, turn = 0, candidates = [] }: Words): Promise<void> {
    if (this.#connection.signalingState === "closed") return;
    if (description?.type === "offer") await this.#answer(description, turn);
    else if (description !== undefined && turn === this.#turn && this.#connection.signalingState === "have-local-offer")
      await this.#connection.setRemoteDescription(description);
    // Some may be of an offer that was ignored, or of a description that was lost and is said again.
    await Promise.all(candidates.map((candidate) => this.#connection.addIceCandidate(candidate).catch(() => undefined)));
  }

  async #answer(description: RTCSessionDescriptionInit, turn: number): Promise<void> {
    const connection = this.#connection;
    const isCollision = this.#isOffering || connection.signalingState !== "stable";
    if (isCollision && !this.#options.isPolite) return;
    // Takes our own offer back, if it must.
    await connection.setRemoteDescription(description);
    await Promise.all(connection.getTransceivers().map((place, no) => this.#fill(place, KINDS[no])));
    await connection.setLocalDescription();
    if (connection.localDescription !== null) this.#options.deliver({ description: connection.localDescription.toJSON(), turn });
  }

  /** Take a place of the other's offer. */
  async #fill(place: RTCRtpTransceiver, kind: Kind | undefined): Promise<void> {
    if (kind === undefined || place.direction === "sendrecv") return;
    place.direction = "sendrecv";
    await place.sender.replaceTrack(this.#options.tracks[kind]);
    await limit(place.sender, BITRATES[kind]);
  }

  #watch(): void {
    clearTimeout(this.#healing);
    const { connectionState } = this.#connection;
    if (connectionState === "failed") this.restart();
    if (connectionState === "disconnected") this.#healing = setTimeout(() => this.restart(), HEALS_WITHIN_MS);
    this.#options.changed();
  }
}

/** What every browser speaks. An offer that names all that one knows, in three places, is longer than a signal may be. */
function codecs(): RTCRtpCodec[] {
  const known = RTCRtpReceiver.getCapabilities("video")?.codecs ?? [];
  return known.filter(
    ({ mimeType, sdpFmtpLine = "" }) =>
      mimeType === "video/VP8" || mimeType === "video/rtx" || (mimeType === "video/H264" && /packetization-mode=1.*profile-level-id=42e0/i.test(sdpFmtpLine)),
  );
}

async function limit(sender: RTCRtpSender, bitrate: number | undefined): Promise<void> {
  const parameters = sender.getParameters();
  if (bitrate === undefined || parameters.encodings.length === 0) return;
  for (const encoding of parameters.encodings) encoding.maxBitrate = bitrate;
  await sender.setParameters(parameters);
}
