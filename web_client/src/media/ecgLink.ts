/**
 * The ECG's channels: one unreliable DataConsumer per stream and the reliable `ctl` pair to the relay, or the WebSocket
 * that stands in for all of them.
 *
 * What the waveform view holds is an `EcgChannel` per stream id. It stays the same object while transports come and
 * go beneath it; only its `open` changes, so the view keeps its buffer and asks the relay for what it missed. A change
 * of way is told as an opening too: the view then says how far it has got (`have`) on the new way, while frames of both
 * go on coming in and fall out by their numbers. Nothing is lost and nothing drawn twice. `ecgLinkPath.ts` decides.
 *
 * Vital signs come on channels of their own and are folded here, those of the open patient's devices only.
 */
import { decode } from "@msgpack/msgpack";
import type { types } from "mediasoup-client";
import { createStore, type StoreApi } from "zustand/vanilla";
import { foldVital, NO_VITALS, type Vitals, withVersion } from "../ecg/vitals";
import type { Consult, DataProducerInfo } from "../protocol";
import type { EcgChannel } from "../waveform/channel";
import { type EcgProfile, type EcgWay, NEW_PATH, nextPath, type PathState } from "./ecgLinkPath";
import type { SocketEvents, WaveformSocket } from "./ecgLinkSocket";
import type { Leg } from "./leg";
import { PictureTimes } from "./pictureTimes";

const CONTROL = "ctl";
const LOOK_MS = 250;

/** Opens the WebSocket; it tries until it is closed. */
export type OpenSocket = (events: SocketEvents) => Pick<WaveformSocket, "open" | "sendControl" | "close">;

export interface EcgNews {
  readonly way: EcgWay | null;
  readonly vitals: Vitals;
}

export class EcgLink {
  readonly news: StoreApi<EcgNews> = createStore<EcgNews>(() => ({ way: null, vitals: NO_VITALS }));
  /** When the pictures were taken that stand beside the ECG; the relay tells it on `ctl`. */
  readonly pictures = new PictureTimes((message) => this.control.producer?.send(message));
  private readonly channels = new Map<number, StreamChannel>();
  private readonly streams = new Map<string, { info: DataProducerInfo; consumer: types.DataConsumer | null }>();
  private control: { producer: types.DataProducer | null; consumer: types.DataConsumer | null } = idle();
  /** Raised by `detach`: what finishes opening afterwards belongs to a closed transport. */
  private generation = 0;
  private path: PathState = NEW_PATH;
  private profile: EcgProfile = "auto";
  private openSocket: OpenSocket | null = null;
  private socket: ReturnType<OpenSocket> | null = null;
  /** Streams of the open patient, whether or not anything of them has come. */
  private wanted: ReadonlySet<number> = new Set();
  private patient: string | null = null;
  /** Devices that contradict their binding to the open patient. */
  private mismatched: ReadonlySet<string> = new Set();
  private timer: ReturnType<typeof setInterval> | undefined;
  private isDisposed = false;

  constructor(private readonly onTrouble: () => void) {}

  /** Regular work; call every half second. */
  tend(nowMs: number): void {
    if (this.control.producer !== null && this.control.consumer !== null) this.pictures.tend(nowMs);
  }

  /** What is to be received: the streams of the consult as it is now. */
  follow(consult: Consult): void {
    const patient = consult.context?.patient.id ?? null;
    this.patient = patient;
    const sources = Object.values(consult.data_producers).flatMap(({ waveform }) => waveform ?? []);
    this.wanted = new Set(sources.filter((stream) => stream.patient === patient).map(({ stream_id }) => stream_id));
    const version = consult.context?.version ?? null;
    const isDoubtful = this.newMismatch(consult);
    this.news.setState(({ vitals }) => ({ vitals: withVersion(isDoubtful ? NO_VITALS : vitals, version) }));
    this.look();
  }

  /** Let the WebSocket stand in where data channels do not work, or always. */
  allowSocket(open: OpenSocket, profile: EcgProfile = "auto"): void {
    if (this.isDisposed) return;
    this.openSocket = open;
    this.profile = profile;
    this.timer ??= setInterval(() => this.look(), LOOK_MS);
    this.look();
  }

  get chosenProfile(): EcgProfile {
    return this.profile;
  }

  /** This display takes the WebSocket always, or only where it must. */
  setProfile(profile: EcgProfile): void {
    this.profile = profile;
    this.look();
  }

  /** The page is left. */
  dispose(): void {
    this.isDisposed = true;
    clearInterval(this.timer);
    this.socket?.close();
    this.socket = null;
    this.detach();
  }

  /** DataProducer ids that are received, or about to be. */
  get held(): ReadonlySet<string> {
    return new Set(this.streams.keys());
  }

  /** Sources whose frames flow. */
  get sources(): readonly DataProducerInfo[] {
    return [...this.streams.values()].flatMap(({ info, consumer }) => (consumer === null ? [] : [info]));
  }

  /** The channel of one stream, the same object for the life of the page. */
  channel(streamId: number): EcgChannel {
    return this.streamChannel(streamId);
  }

  /** Open the sending half of `ctl`. */
  async openControl(leg: Leg): Promise<void> {
    if (this.control.producer !== null) return;
    await this.keep(leg.produceData(CONTROL), (producer) => {
      this.control.producer = producer;
      producer.once("close", () => this.lostControl());
    });
  }

  /** Open the receiving half of `ctl`. */
  async listen(leg: Leg): Promise<void> {
    if (this.control.consumer !== null) return;
    const onMessage = (bytes: ArrayBuffer): void => {
      const message = new Uint8Array(bytes);
      if (!this.pictures.takeControl(message, performance.now())) this.takeControl(message);
    };
    await this.keep(leg.consumeData(CONTROL, onMessage), (consumer) => {
      this.control.consumer = consumer;
      consumer.once("close", () => this.lostControl());
    });
  }

  /** Receive one source. */
  async consume(leg: Leg, info: DataProducerInfo): Promise<void> {
    const { waveform } = info;
    const channel = waveform === null ? null : this.streamChannel(waveform.stream_id);
    const take = (message: ArrayBuffer): void => {
      if (channel === null) this.takeVital(message, info);
      else channel.takeFrame(message, performance.now());
    };
    this.streams.set(info.id, { info, consumer: null });
    try {
      await this.keep(leg.consumeData(info.id, take), (consumer) => {
        this.streams.set(info.id, { info, consumer });
        consumer.once("close", () => {
          this.streams.delete(info.id);
          this.refreshOpen();
          this.onTrouble();
        });
      });
    } catch (error) {
      this.streams.delete(info.id);
      throw error;
    }
  }

  close(dataProducer: string): void {
    const stream = this.streams.get(dataProducer);
    this.streams.delete(dataProducer);
    stream?.consumer?.close();
    this.refreshOpen();
  }

  /** The transports are gone, and every channel with them. */
  detach(): void {
    this.generation += 1;
    this.pictures.restart();
    this.streams.clear();
    this.control = idle();
    this.refreshOpen();
  }

  /**
   * (W22) Whether a device at the open patient has just reported somebody else. Whose numbers it sent before is not known
   * either; a blood pressure above all would come back with the next binding. Those of other devices are soon renewed.
   */
  private newMismatch({ mismatches }: Consult): boolean {
    const devices = Object.values(mismatches).flatMap(({ device, patient }) =>
      patient === this.patient ? device : [],
    );
    const isNew = devices.some((device) => !this.mismatched.has(device));
    this.mismatched = new Set(devices);
    return isNew;
  }

  private async keep<T extends { close: () => void }>(opening: Promise<T>, store: (opened: T) => void): Promise<void> {
    const { generation } = this;
    const opened = await opening;
    if (generation !== this.generation) {
      opened.close();
      return;
    }
    store(opened);
    this.refreshOpen();
  }

  private lostControl(): void {
    this.control = idle();
    this.refreshOpen();
    this.onTrouble();
  }

  private streamChannel(streamId: number): StreamChannel {
    const known = this.channels.get(streamId);
    if (known !== undefined) return known;
    const made = new StreamChannel((message) => this.sendControl(message));
    this.channels.set(streamId, made);
    this.refreshOpen();
    return made;
  }

  private sendControl(message: Uint8Array<ArrayBuffer>): void {
    if (this.path.active === "socket") this.socket?.sendControl(message);
    else this.control.producer?.send(message);
  }

  private takeControl(message: Uint8Array): void {
    for (const channel of this.channels.values()) channel.takeControl(message);
  }

  /** A message that came by socket: a frame names its stream itself, anything else is of the vital signs. */
  private takeFromSocket(message: ArrayBuffer): void {
    const streamId = streamOf(message);
    if (streamId === null) this.takeVital(message, null);
    else this.channels.get(streamId)?.takeFrame(message);
  }

  /** @param info the device that sends it; a socket is told of the open patient's devices only, so it names none */
  private takeVital(message: ArrayBuffer, info: DataProducerInfo | null): void {
    if (info !== null && info.vitals?.patient !== this.patient) return;
    let value: unknown;
    try {
      value = decode(message);
    } catch {
      return;
    }
    const simulated = info?.vitals?.simulated === true;
    const honest = simulated && typeof value === "object" ? { ...value, sim: true } : value;
    this.news.setState(({ vitals }) => ({ vitals: foldVital(vitals, honest, performance.now()) }));
  }

  private refreshOpen(): void {
    this.look();
  }

  /** Look at both ways and use the better one. */
  private look(): void {
    const flowing = new Set(this.sources.map(({ waveform }) => waveform?.stream_id));
    const hasControl = this.control.producer !== null && this.control.consumer !== null;
    const heard = [...this.wanted].map((streamId) => this.channels.get(streamId)?.heardMs ?? null);
    const before = this.path.active;
    this.path = nextPath(this.path, {
      nowMs: performance.now(),
      profile: this.profile,
      isWanted: this.wanted.size > 0,
      isDataOpen: hasControl && [...this.wanted].every((streamId) => flowing.has(streamId)),
      isSocketOpen: this.socket?.open === true,
      dataHeardMs: heard.some((at) => at === null) ? null : Math.min(...heard.map((at) => at ?? 0)),
    });
    this.settleSocket();
    const bySocket = this.path.active === "socket";
    const hasMoved = before !== null && this.path.active !== null && before !== this.path.active;
    for (const [streamId, channel] of this.channels) {
      const isOpen = bySocket ? this.wanted.has(streamId) : hasControl && flowing.has(streamId);
      channel.setOpen(isOpen, hasMoved);
    }
    if (this.news.getState().way !== this.path.active) this.news.setState({ way: this.path.active });
  }

  private settleSocket(): void {
    if (!this.path.wantsSocket) {
      this.socket?.close();
      this.socket = null;
    } else if (this.socket === null && this.openSocket !== null && !this.isDisposed) {
      this.socket = this.openSocket({
        onOpen: () => this.look(),
        onClose: () => this.look(),
        onControl: (message) => this.takeControl(message),
        onMessage: (message) => this.takeFromSocket(message),
      });
    }
  }
}

/** Stream id of a frame; `null` for anything else. */
function streamOf(message: ArrayBuffer): number | null {
  if (message.byteLength < 8) return null;
  const view = new DataView(message);
  const isFrame = view.getUint8(0) === 0x45 && view.getUint8(1) === 0x43;
  return isFrame ? view.getUint32(4, true) : null;
}

const idle = (): { producer: null; consumer: null } => ({ producer: null, consumer: null });

class StreamChannel implements EcgChannel {
  /** When the data channel last brought a frame. */
  heardMs: number | null = null;
  private readonly frames = new Set<(message: ArrayBuffer) => void>();
  private readonly controls = new Set<(message: Uint8Array) => void>();
  private readonly openings = new Set<(open: boolean) => void>();
  private isOpen = false;

  constructor(private readonly send: (message: Uint8Array<ArrayBuffer>) => void) {}

  get open(): boolean {
    return this.isOpen;
  }

  onFrame(callback: (message: ArrayBuffer) => void): () => void {
    return subscribe(this.frames, callback);
  }

  onControl(callback: (message: Uint8Array) => void): () => void {
    return subscribe(this.controls, callback);
  }

  onOpenChange(callback: (open: boolean) => void): () => void {
    return subscribe(this.openings, callback);
  }

  sendControl(message: Uint8Array): void {
    // A copy of its own: what the caller encodes next must not change what is still queued.
    if (this.isOpen) this.send(message.slice());
  }

  /** Each listener may transfer the buffer away, so all but the last get a copy. */
  takeFrame(message: ArrayBuffer, heardMs: number | null = null): void {
    this.heardMs = heardMs ?? this.heardMs;
    const listeners = [...this.frames];
    for (const [index, listener] of listeners.entries()) {
      listener(index === listeners.length - 1 ? message : message.slice(0));
    }
  }

  takeControl(message: Uint8Array): void {
    for (const listener of this.controls) listener(message);
  }

  /** @param hasMoved another way than before: told although it was open all the time */
  setOpen(open: boolean, hasMoved = false): void {
    if (this.isOpen === open && !(open && hasMoved)) return;
    this.isOpen = open;
    for (const listener of this.openings) listener(open);
  }
}

function subscribe<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
