/**
 * The ECG's channels: one unreliable DataConsumer per stream and the reliable `ctl` pair to the relay.
 *
 * What the waveform view holds is an `EcgChannel` per stream id. It stays the same object while transports come and
 * go beneath it; only its `open` changes, so the view keeps its buffer and asks the relay for what it missed.
 */
import type { types } from "mediasoup-client";
import type { DataProducerInfo } from "../protocol";
import type { EcgChannel } from "../waveform/channel";
import type { Leg } from "./leg";

const CONTROL = "ctl";

export class EcgLink {
  private readonly channels = new Map<number, StreamChannel>();
  private readonly streams = new Map<string, { info: DataProducerInfo; consumer: types.DataConsumer | null }>();
  private control: { producer: types.DataProducer | null; consumer: types.DataConsumer | null } = idle();
  /** Raised by `detach`: what finishes opening afterwards belongs to a closed transport. */
  private generation = 0;

  constructor(private readonly onTrouble: () => void) {}

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
      for (const channel of this.channels.values()) channel.takeControl(new Uint8Array(bytes));
    };
    await this.keep(leg.consumeData(CONTROL, onMessage), (consumer) => {
      this.control.consumer = consumer;
      consumer.once("close", () => this.lostControl());
    });
  }

  /** Receive one source. */
  async consume(leg: Leg, info: DataProducerInfo): Promise<void> {
    const { waveform } = info;
    if (waveform === null) return;
    const channel = this.streamChannel(waveform.stream_id);
    this.streams.set(info.id, { info, consumer: null });
    try {
      await this.keep(
        leg.consumeData(info.id, (message) => channel.takeFrame(message)),
        (consumer) => {
          this.streams.set(info.id, { info, consumer });
          consumer.once("close", () => {
            this.streams.delete(info.id);
            this.refreshOpen();
            this.onTrouble();
          });
        },
      );
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
    this.streams.clear();
    this.control = idle();
    this.refreshOpen();
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
    const made = new StreamChannel((message) => this.control.producer?.send(message));
    this.channels.set(streamId, made);
    return made;
  }

  private refreshOpen(): void {
    const hasControl = this.control.producer !== null && this.control.consumer !== null;
    const flowing = new Set(this.sources.map(({ waveform }) => waveform?.stream_id));
    for (const [streamId, channel] of this.channels) channel.setOpen(hasControl && flowing.has(streamId));
  }
}

const idle = (): { producer: null; consumer: null } => ({ producer: null, consumer: null });

class StreamChannel implements EcgChannel {
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
  takeFrame(message: ArrayBuffer): void {
    const listeners = [...this.frames];
    for (const [index, listener] of listeners.entries()) {
      listener(index === listeners.length - 1 ? message : message.slice(0));
    }
  }

  takeControl(message: Uint8Array): void {
    for (const listener of this.controls) listener(message);
  }

  setOpen(open: boolean): void {
    if (this.isOpen === open) return;
    this.isOpen = open;
    for (const listener of this.openings) listener(open);
  }
}

function subscribe<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
