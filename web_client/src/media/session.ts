/**
 * The media of one page: what it sends, what it receives, and the repair of both.
 *
 * The consult's state is the only input that matters. Whenever it changes, or a path breaks, or a socket returns, the
 * session is *kicked*: one serial task compares what should be (transports of the present media generation, a Consumer for
 * every Producer of the others, a Producer for every track that is on) with what is, and makes up the difference.
 * Nothing is replayed, so it does not matter which event was missed while the network was away. A media reset is no
 * special case either: the generation differs, so both transports go and everything is made again, with no page reload.
 *
 * Path repair is `leg.ts`, which way media take `route.ts`, sending `local.ts`, sizes of pictures `views.ts`, the ECG's
 * channels `ecgLink.ts`; what people see is drawn from `state`.
 */

import type { Device, types } from "mediasoup-client";
import { createStore, type StoreApi } from "zustand/vanilla";
import type { AnySignal, Consult, ConsumerLayers, DataProducerInfo, JsonObject, LineQuality } from "../protocol";
import { EcgLink } from "./ecgLink";
import { foldSent, readFigures, type SessionFigures } from "./figures";
import { isGone, Leg, type LossOfLeg, type Send } from "./leg";
import { LocalSources, type LocalState, NOTHING_SENT } from "./local";
import { routerCapabilities } from "./ortc";
import { planReceiving, type Wishes } from "./plan";
import { nextRoute, type Route, type Via } from "./route";
import { foldSources, keyOf, type RemoteSource } from "./sources";
import { type FrameMark, observeFrames, restartClock } from "./videoAge";
import { OUT_OF_SIGHT, type View, Views } from "./views";

export interface RemoteMedia extends RemoteSource {
  /** The newest live track; the one before stays until a new one is there, so that the last picture can be greyed. */
  readonly track: MediaStreamTrack | null;
  readonly frames: FrameMark | undefined;
  /** What the relay said last about what it sends us of this picture. */
  readonly layers: ConsumerLayers | null;
}

/** Our own line, towards us. */
export interface Line {
  readonly estimateBps: number | null;
  readonly roundTripMs: number | null;
  readonly lost: number | null;
  readonly via: Via | null;
}

const UNKNOWN_LINE: Line = { estimateBps: null, roundTripMs: null, lost: null, via: null };

export interface MediaState {
  /** `waiting` for a first path, `unstable` while one is repaired. */
  readonly path: "waiting" | "good" | "unstable";
  readonly remote: readonly RemoteMedia[];
  readonly local: LocalState;
  /** ECG sources whose channel is open. */
  readonly ecg: readonly DataProducerInfo[];
  readonly line: Line;
}

/** A page that will need it soon (device check) fetches it early; a screen that shows no media never does. */
export const loadLibrary = () => import("mediasoup-client");

async function browserDevice(): Promise<Device> {
  const { Device } = await loadLibrary();
  return Device.factory();
}

const TEND_MS = 500;
/** Reports of what we send come every second or two. */
const SENT_EVERY = 4;
/** Short: while a worker is replaced the server declines at once, and every second counts on a wall. */
const RETRY_MS = [100, 200, 400, 700, 1_000] as const;

export class MediaSession {
  readonly store: StoreApi<MediaState> = createStore<MediaState>(() => ({
    path: "waiting",
    remote: [],
    local: NOTHING_SENT,
    ecg: [],
    line: UNKNOWN_LINE,
  }));
  readonly local: LocalSources;
  readonly ecg: EcgLink;
  readonly views: Views;

  private device: Device | null = null;
  private legs: { send: Leg | null; recv: Leg | null } = { send: null, recv: null };
  /** Which way media take; what did not work is not tried again as long as the page lives and something else does. */
  private route: Route = "any";
  private onlineSinceMs = 0;
  private readonly layers = new Map<string, ConsumerLayers>();
  private ticks = 0;
  /** The store raises it when all Transports of before are gone. */
  private generation = 0;
  private readonly consumers = new Map<string, types.Consumer>();
  private readonly opening = new Set<string>();
  private consult: Consult | null = null;
  private folded: { epoch: number; sources: readonly RemoteSource[] } = { epoch: 0, sources: [] };
  private me = "";
  private routerRtp: JsonObject | null = null;
  private isOnline = false;
  private isClosed = false;
  private running: Promise<void> | null = null;
  private isKicked = false;
  private failures = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(
    private readonly send: Send,
    private readonly wishes: Wishes,
    private readonly makeDevice: () => Promise<Device> = browserDevice,
  ) {
    this.local = new LocalSources(
      send,
      (local) => this.store.setState({ local }),
      () => this.kickLater(),
    );
    this.ecg = new EcgLink(() => this.kickLater());
    this.views = new Views(
      () => this.videoConsumers(),
      (consumer, view) => this.tellView(consumer, view),
    );
    this.timer = setInterval(() => void this.tend(), TEND_MS);
    // While the socket connects; a failure shows when it is used.
    loadLibrary().catch(() => undefined);
  }

  /** The socket joined (again): from now on commands work. */
  online(me: string, routerRtpCapabilities: JsonObject): void {
    this.me = me;
    this.routerRtp = routerRtpCapabilities;
    this.isOnline = true;
    this.onlineSinceMs = performance.now();
    this.failures = 0;
    this.views.online();
    this.kick();
  }

  /** The socket is gone; media flow on by themselves and repairs wait. */
  offline(): void {
    this.isOnline = false;
    this.views.offline();
    clearTimeout(this.retry);
  }

  /** News about our own line and pictures; every other signal is somebody else's business. */
  heard(signal: AnySignal): void {
    if (signal.type === "consumer_layers") {
      this.layers.set(signal.consumer, signal);
      this.refreshRemote();
    } else if (signal.type === "line_quality") this.heardLine(signal);
    else if (signal.type === "transport_gone") this.lostTransport(signal.transport);
  }

  /** Its worker died; the others of the consult go on. */
  private lostTransport(id: string): void {
    const { send, recv } = this.legs;
    if (send?.transport.id !== id && recv?.transport.id !== id) return;
    this.dropLegs();
    this.kick();
  }

  /** For the technical report. */
  get wayOfMedia(): { readonly route: Route; readonly line: Line; readonly layers: readonly ConsumerLayers[] } {
    return { route: this.route, line: this.store.getState().line, layers: [...this.layers.values()] };
  }

  /** The consult changed. */
  update(consult: Consult, generation: number): void {
    this.consult = consult;
    // At once, not in the next look: a step that waits for a dead transport ends when that is closed.
    if (generation !== this.generation) this.dropLegs();
    this.generation = generation;
    if (this.wishes.ecg) this.ecg.follow(consult);
    this.ecg.pictures.keep(new Set(Object.keys(consult.producers)));
    this.refreshRemote();
    this.kick();
  }

  /** Figures for the report and for tests. */
  figures(): Promise<SessionFigures> {
    return readFigures(this.legs.recv?.transport ?? null, this.consumers);
  }

  close(): void {
    this.isClosed = true;
    clearInterval(this.timer);
    clearTimeout(this.retry);
    this.views.close();
    this.dropLegs();
    this.ecg.dispose();
    this.local.close();
  }

  /** Look at everything soon. */
  private kick(): void {
    this.isKicked = true;
    if (this.running !== null || !this.isOnline || this.isClosed) return;
    clearTimeout(this.retry);
    this.running = this.settle().finally(() => {
      this.running = null;
    });
  }

  private kickLater(): void {
    const delayMs = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)] ?? 1_000;
    this.failures += 1;
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.kick(), delayMs);
  }

  private async settle(): Promise<void> {
    while (this.isKicked && this.isOnline && !this.isClosed) {
      this.isKicked = false;
      try {
        await this.makeUpDifference();
        this.failures = 0;
      } catch (error) {
        // A refusal, a timeout or a lost socket: the next look starts from whatever is true then.
        if (isGone(error)) this.dropLegs();
        this.kickLater();
        return;
      }
    }
  }

  private async makeUpDifference(): Promise<void> {
    const consult = this.consult;
    if (consult === null || this.routerRtp === null) return;
    if (this.lostOwnProducer(consult)) this.dropLegs();
    const device = await this.loadDevice(this.routerRtp);
    await Promise.all([this.settleReceiving(device, consult), this.settleSending(device, consult)]);
  }

  private async loadDevice(routerRtp: JsonObject): Promise<Device> {
    if (this.device !== null) return this.device;
    const device = await this.makeDevice();
    await device.load({ routerRtpCapabilities: routerCapabilities(routerRtp) });
    this.device = device;
    return device;
  }

  private async settleSending(device: Device, consult: Consult): Promise<void> {
    if (!this.local.wantsToSend && !this.wishes.ecg) return;
    const leg = await this.leg("send", device);
    await Promise.all([this.local.publish(leg), this.wishes.ecg ? this.ecg.openControl(leg) : undefined]);
    await this.local.align(new Map(Object.entries(consult.producers)));
  }

  private async settleReceiving(device: Device, consult: Consult): Promise<void> {
    const leg = await this.leg("recv", device);
    const dataProducers = Object.values(consult.data_producers);
    const plan = planReceiving({ producers: Object.values(consult.producers), dataProducers }, this.me, this.wishes, {
      producers: new Set([...this.consumers.keys(), ...this.opening]),
      dataProducers: this.ecg.held,
    });
    for (const id of plan.close) this.closeConsumer(id);
    for (const id of plan.closeData) this.ecg.close(id);
    const infos = plan.consumeData.flatMap((id) => dataProducers.filter((info) => info.id === id));
    const work = [
      ...plan.consume.map((id) => this.consume(leg, id)),
      ...infos.map((info) => this.ecg.consume(leg, info)),
      ...(this.wishes.ecg ? [this.ecg.listen(leg)] : []),
    ];
    // All are tried before one failure sends us round again: a Producer that has just gone must not hold up the rest.
    const failed = (await Promise.allSettled(work)).find((result) => result.status === "rejected");
    this.store.setState({ ecg: this.ecg.sources });
    if (failed !== undefined) throw failed.reason;
  }

  private async leg(direction: "send" | "recv", device: Device): Promise<Leg> {
    const present = this.legs[direction];
    if (present !== null && !present.transport.closed) return present;
    const { generation } = this;
    const leg = await Leg.open({
      direction,
      device,
      send: this.send,
      route: this.route,
      onLost: (lost, reason) => this.lost(lost, reason),
    });
    if (this.generation !== generation || this.isClosed) {
      leg.close();
      throw new Error("media were reset while a transport was being made");
    }
    this.legs[direction] = leg;
    return leg;
  }

  private async consume(leg: Leg, producer: string): Promise<void> {
    const info = this.consult?.producers[producer];
    if (info === undefined) return;
    this.opening.add(producer);
    try {
      const streamId = info.source.startsWith("screen") ? `${info.participant}-screen` : info.participant;
      const consumer = await leg.consume(producer, streamId, (id) => {
        if (info.kind === "video") this.views.introduce(keyOf(info), id);
      });
      this.consumers.set(producer, consumer);
      this.refreshRemote();
    } catch (error) {
      // Gone between the event and our question: the next event says so. Anything else is looked at again.
      if (!isGone(error) || this.consult?.producers[producer] !== undefined) throw error;
    } finally {
      this.opening.delete(producer);
    }
  }

  private closeConsumer(producer: string): void {
    const consumer = this.consumers.get(producer);
    this.consumers.delete(producer);
    if (consumer !== undefined) this.layers.delete(consumer.id);
    consumer?.close();
    this.refreshRemote();
  }

  /** The server closed a transport of ours (30 s without a sign of life): its Producers are missing in the consult. */
  private lostOwnProducer(consult: Consult): boolean {
    return this.local.confirmedGone(new Set(Object.keys(consult.producers)));
  }

  /** Both legs are built anew; by another way when this one is at fault and not the whole network. */
  private lost(leg: Leg, reason: LossOfLeg): void {
    const wasOnline = leg.troubleSinceMs !== null && leg.troubleSinceMs >= this.onlineSinceMs;
    if (reason === "lossy" || (reason === "failed" && wasOnline)) this.route = nextRoute(this.route, leg.routes);
    this.dropLegs();
    this.kick();
  }

  private dropLegs(): void {
    this.local.detach();
    this.ecg.detach();
    this.consumers.clear();
    this.layers.clear();
    this.legs.send?.close();
    this.legs.recv?.close();
    this.legs = { send: null, recv: null };
  }

  private refreshRemote(): void {
    const { consult } = this;
    if (consult === null) return;
    const now = {
      epoch: consult.media_epoch,
      producers: Object.values(consult.producers),
      participants: new Set(Object.keys(consult.participants)),
    };
    const sources = foldSources(this.folded, now, this.me, performance.now());
    this.folded = { epoch: now.epoch, sources };
    const before = new Map(this.store.getState().remote.map((media) => [media.key, media]));
    this.store.setState({ remote: sources.map((source) => this.withTrack(source, before.get(source.key))) });
  }

  private withTrack(source: RemoteSource, before: RemoteMedia | undefined): RemoteMedia {
    const consumer = source.producer === null ? undefined : this.consumers.get(source.producer);
    const track = consumer?.track ?? before?.track ?? null;
    const resumed = before?.paused === true && !source.paused;
    const frames = before?.frames;
    return {
      ...source,
      track,
      frames: resumed && frames !== undefined ? restartClock(frames, performance.now()) : frames,
      layers: consumer === undefined ? null : (this.layers.get(consumer.id) ?? null),
    };
  }

  private videoConsumers(): ReadonlyMap<string, string> {
    const sources = this.folded.sources.filter(({ kind }) => kind === "video");
    return new Map(
      sources.flatMap(({ key, producer }) => {
        const consumer = producer === null ? undefined : this.consumers.get(producer);
        return consumer === undefined ? [] : [[key, consumer.id] as const];
      }),
    );
  }

  private tellView(consumer: string, { width, height, rank }: View): Promise<unknown> {
    return this.send({ type: "view_consumer", consumer, width, height, rank });
  }

  private heardLine(news: LineQuality): void {
    const { recv } = this.legs;
    if (recv?.transport.id !== news.transport) return;
    this.store.setState(({ line }) => ({
      line: {
        estimateBps: news.estimate_bps,
        roundTripMs: news.round_trip_ms ?? line.roundTripMs,
        lost: news.lost,
        via: line.via ?? news.protocol,
      },
    }));
    recv.heardLoss(news.lost, this.store.getState().line.via);
  }

  /** Every half second: repair paths, read ages, let go of what was awaited too long. */
  private async tend(): Promise<void> {
    const nowMs = performance.now();
    if (this.isOnline) {
      this.legs.send?.tend(nowMs);
      this.legs.recv?.tend(nowMs);
    }
    this.ecg.tend(nowMs);
    this.refreshPath();
    if (this.folded.sources.some(({ producer }) => producer === null)) this.refreshRemote();
    this.ticks += 1;
    if (this.ticks % SENT_EVERY === 0) await this.refreshSent();
    await this.refreshAges();
  }

  /** How what we send arrives; a line may be bad in one direction only. */
  private async refreshSent(): Promise<void> {
    const { send } = this.legs;
    if (send === null || send.transport.closed || this.local.wantsToSend === false) return;
    try {
      const { via, lost } = foldSent([...(await send.transport.getStats()).values()] as unknown[]);
      if (lost !== null && this.legs.send === send && this.isOnline) send.heardLoss(lost, via);
    } catch {
      // Closed while we asked.
    }
  }

  private refreshPath(): void {
    const { send, recv } = this.legs;
    const isGood = recv?.holds === true && send?.unstable !== true;
    // A path that is built anew after it once worked is trouble to the person, not a beginning.
    const hasWorked = this.store.getState().path !== "waiting";
    const path = isGood ? "good" : hasWorked || recv?.unstable === true ? "unstable" : "waiting";
    if (this.store.getState().path !== path) this.store.setState({ path });
  }

  private async refreshAges(): Promise<void> {
    const { remote } = this.store.getState();
    if (!remote.some(({ kind }) => kind === "video")) return;
    const { consumers, via, roundTripMs } = await this.figures();
    const nowMs = performance.now();
    this.store.setState((state) => ({
      line: via === null ? state.line : { ...state.line, via, roundTripMs: roundTripMs ?? state.line.roundTripMs },
      remote: state.remote.map((media) => {
        const figure = consumers.find(({ producer }) => producer === media.producer);
        if (media.kind !== "video" || figure === undefined) return media;
        const reading = { consumer: figure.consumer, frames: figure.framesDecoded };
        const frames = observeFrames(media.frames, reading, nowMs);
        // Nothing is due of a picture that is switched off, or that we said we do not look at.
        const rests = media.paused || this.views.of(media.key) === OUT_OF_SIGHT;
        return { ...media, frames: rests ? restartClock(frames, nowMs) : frames };
      }),
    }));
  }
}
