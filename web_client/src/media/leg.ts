/**
 * One transport of ours, sending or receiving, with the repair of its path.
 *
 * A leg knows how to connect, produce and consume over signalling, watches its own ICE state, and restarts ICE when
 * `pathHealth.ts` says so. It cannot rebuild itself: that takes both legs and is asked of the session through `onLost`.
 */
import type { Device, types } from "mediasoup-client";
import { RefusalError } from "../net/refusal";
import type { AnyCommand, JsonObject, MediaSource, ResultFor } from "../protocol";
import {
  consumerOptions,
  dataConsumerOptions,
  iceParameters,
  iceServers,
  offerOf,
  toWire,
  transportOptions,
} from "./ortc";
import { dueAction, isUnstable, NEW_PATH, onIceState, onRestart, type PathHealth } from "./pathHealth";
import { RedundantSound } from "./red";
import { type LossReports, type Offer, onLoss, type Route, routesOf, shouldLeave, type Via } from "./route";

/** Send a command and wait for its result; rejects on a refusal, a timeout or a lost socket. */
export type Send = <T extends AnyCommand>(command: T) => Promise<ResultFor<T>>;

export interface SourceTag extends types.AppData {
  readonly source: MediaSource;
  readonly label: string;
}

/** `failed`: no path for 15 s; `lossy`: one that is not worth keeping; `gone`: the server no longer has it. */
export type LossOfLeg = "failed" | "lossy" | "gone";

export interface LegOptions {
  readonly direction: "send" | "recv";
  readonly device: Device;
  readonly send: Send;
  readonly route: Route;
  readonly onLost: (leg: Leg, reason: LossOfLeg) => void;
  /** For the network test, which tries one way at a time. */
  readonly narrow?: (local: types.TransportOptions) => types.TransportOptions;
}

export class Leg {
  private path: PathHealth = NEW_PATH;
  private restarting = false;
  private losses: LossReports = [];
  private readonly red: RedundantSound;

  private constructor(
    readonly direction: "send" | "recv",
    readonly transport: types.Transport,
    private readonly offer: Offer<JsonObject>,
    private readonly route: Route,
    private readonly rtpCapabilities: types.RtpCapabilities,
    private readonly send: Send,
    private readonly onLost: LegOptions["onLost"],
  ) {
    this.red = RedundantSound.of(transport);
    transport.on("connect", ({ dtlsParameters }, done, failed) => {
      const command = {
        type: "connect_transport",
        transport: transport.id,
        dtls_parameters: toWire(dtlsParameters),
      } as const;
      send(command).then(done, failed);
    });
    transport.on("connectionstatechange", (state) => {
      this.path = onIceState(this.path, state, performance.now());
    });
    if (direction === "send") this.answerProduce();
  }

  /** Ask the server for a transport and make ours to it. */
  static async open({ direction, device, send, route, onLost, narrow = (all) => all }: LegOptions): Promise<Leg> {
    const options = await send({ type: "create_transport", direction });
    const local = narrow(transportOptions(options, route));
    const transport = direction === "send" ? device.createSendTransport(local) : device.createRecvTransport(local);
    return new Leg(direction, transport, offerOf(options), route, device.recvRtpCapabilities, send, onLost);
  }

  /** Ways that the server offered with this Transport. */
  get routes(): readonly Route[] {
    return routesOf(this.offer);
  }

  /** Since when there has been no path; `null` while there is one. */
  get troubleSinceMs(): number | null {
    return this.path.troubleSinceMs;
  }

  /** One report of the share of packets lost on this leg, 0 to 1. */
  heardLoss(lost: number, via: Via | null): void {
    this.losses = onLoss(this.losses, lost);
    if (shouldLeave(via, this.losses, this.routes)) this.onLost(this, "lossy");
  }

  get unstable(): boolean {
    return isUnstable(this.path, performance.now());
  }

  /** Connected, or in the first silent seconds of a trouble that often heals. */
  get holds(): boolean {
    return this.path.ice === "connected" || (this.path.ice === "disconnected" && !this.unstable);
  }

  close(): void {
    this.transport.close();
  }

  /** Look after the path; called often, acts when the table of times says so. */
  tend(nowMs: number): void {
    const action = dueAction(this.path, nowMs);
    if (action === "rebuild") this.onLost(this, "failed");
    else if (action === "restart_ice" && !this.restarting) void this.restartIce(nowMs);
  }

  /**
   * Receive a Producer; the Consumer is paused at the relay until `resume_consumer`.
   *
   * @param beforeResume commands sent in it are carried out before anything flows
   */
  async consume(
    producer: string,
    streamId: string,
    beforeResume: (consumer: string) => void = () => undefined,
  ): Promise<types.Consumer> {
    const wire = await this.send({
      type: "consume",
      transport: this.transport.id,
      producer,
      rtp_capabilities: toWire(this.red.receiving(this.rtpCapabilities)),
    });
    const consumer = await this.transport.consume(consumerOptions(wire, streamId));
    beforeResume(wire.consumer);
    await this.send({ type: "resume_consumer", consumer: wire.consumer });
    return consumer;
  }

  /**
   * Receive a DataProducer; resolves once messages may flow.
   *
   * What is sent before our end is open would be lost (ORTC.md trap 22), so it is resumed only then.
   */
  async consumeData(dataProducer: string, onMessage: (bytes: ArrayBuffer) => void): Promise<types.DataConsumer> {
    const wire = await this.send({
      type: "consume_data",
      transport: this.transport.id,
      data_producer: dataProducer,
    });
    const consumer = await this.transport.consumeData(dataConsumerOptions(wire));
    consumer.binaryType = "arraybuffer";
    consumer.on("message", (data: unknown) => {
      if (data instanceof ArrayBuffer) onMessage(data);
    });
    await this.whenOpen(consumer, { type: "close_data_consumer", data_consumer: wire.data_consumer });
    await this.send({ type: "resume_data_consumer", data_consumer: wire.data_consumer });
    return consumer;
  }

  /** Open a reliable channel to the relay. */
  async produceData(label: string): Promise<types.DataProducer> {
    const producer = await this.transport.produceData({ label, ordered: true });
    await this.whenOpen(producer, { type: "close_data_producer", data_producer: producer.id });
    return producer;
  }

  /** One that does not open is given back at both ends: left behind, it would stand in the way of the next attempt. */
  private async whenOpen(
    channel: types.DataConsumer | types.DataProducer,
    giveBack: Extract<AnyCommand, { type: "close_data_consumer" | "close_data_producer" }>,
  ): Promise<void> {
    try {
      await opened(channel);
    } catch (error) {
      channel.close();
      // A lost socket or transport takes it back by itself.
      await this.send(giveBack).catch(() => undefined);
      throw error;
    }
  }

  private answerProduce(): void {
    const { transport, send } = this;
    transport.on("produce", ({ kind, rtpParameters, appData }, done, failed) => {
      const { source, label } = appData as SourceTag;
      const command = {
        type: "produce",
        transport: transport.id,
        kind,
        rtp_parameters: toWire(kind === "audio" ? this.red.sending(rtpParameters) : rtpParameters),
        source,
        label,
      } as const;
      send(command).then(({ producer }) => done({ id: producer }), failed);
    });
    transport.on("producedata", ({ sctpStreamParameters, label, protocol }, done, failed) => {
      const command = {
        type: "produce_data",
        transport: transport.id,
        label: label ?? "",
        protocol: protocol ?? "",
        sctp_stream_parameters: toWire(sctpStreamParameters),
      } as const;
      send(command).then(({ data_producer }) => done({ id: data_producer }), failed);
    });
  }

  private async restartIce(nowMs: number): Promise<void> {
    this.restarting = true;
    this.path = onRestart(this.path, nowMs);
    try {
      const answer = await this.send({ type: "restart_ice", transport: this.transport.id });
      if (this.transport.closed) return;
      // TURN credentials are short-lived: those the Transport was made with may have ended.
      const offer = { ...this.offer, servers: answer.ice_servers };
      await this.transport.updateIceServers({ iceServers: iceServers(offer, this.route) });
      await this.transport.restartIce({ iceParameters: iceParameters(answer.ice_parameters) });
    } catch (error) {
      // Without a socket the next try is due in 3 s; a transport the server no longer knows must be rebuilt.
      if (isGone(error)) this.onLost(this, "gone");
    } finally {
      this.restarting = false;
    }
  }
}

/** A channel that does not open in this time never will: its path is being repaired or rebuilt. */
const OPEN_TIMEOUT_MS = 15_000;

function opened(channel: types.DataConsumer | types.DataProducer): Promise<void> {
  if (channel.readyState === "open") return Promise.resolve();
  return new Promise((resolve, reject) => {
    const fail = (): void => reject(new Error("data channel did not open"));
    const timer = setTimeout(fail, OPEN_TIMEOUT_MS);
    const settle = (done: () => void) => (): void => {
      clearTimeout(timer);
      done();
    };
    // Producer and Consumer share these events, but their emitters' types do not unite.
    const events = channel as types.DataConsumer;
    events.once("open", settle(resolve));
    events.once("close", settle(fail));
    events.once("transportclose", settle(fail));
  });
}

/** The server no longer has what we named. */
export function isGone(error: unknown): boolean {
  return error instanceof RefusalError && error.is("not_found");
}
