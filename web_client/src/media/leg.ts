/**
 * One transport of ours, sending or receiving, with the repair of its path.
 *
 * A leg knows how to connect, produce and consume over signalling, watches its own ICE state, and restarts ICE when
 * `pathHealth.ts` says so. It cannot rebuild itself: that takes both legs and is asked of the session through `onLost`.
 */
import type { Device, types } from "mediasoup-client";
import type { AnyCommand, MediaSource, ResultFor } from "../protocol";
import { RefusalError } from "../net/refusal";
import { consumerOptions, dataConsumerOptions, iceParameters, toWire, transportOptions } from "./ortc";
import { dueAction, isUnstable, NEW_PATH, onIceState, onRestart, type PathHealth } from "./pathHealth";

/** Send a command and wait for its result; rejects on a refusal, a timeout or a lost socket. */
export type Send = <T extends AnyCommand>(command: T) => Promise<ResultFor<T>>;

export interface SourceTag extends types.AppData {
  readonly source: MediaSource;
  readonly label: string;
}

export class Leg {
  private path: PathHealth = NEW_PATH;
  private restarting = false;

  private constructor(
    readonly direction: "send" | "recv",
    readonly epoch: number,
    readonly transport: types.Transport,
    private readonly rtpCapabilities: types.RtpCapabilities,
    private readonly send: Send,
    private readonly onLost: () => void,
  ) {
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
  static async open(
    direction: "send" | "recv",
    device: Device,
    send: Send,
    onLost: () => void,
  ): Promise<Leg> {
    const options = await send({ type: "create_transport", direction });
    const local = transportOptions(options);
    const transport = direction === "send" ? device.createSendTransport(local) : device.createRecvTransport(local);
    return new Leg(direction, options.media_epoch, transport, device.recvRtpCapabilities, send, onLost);
  }

  get unstable(): boolean {
    return isUnstable(this.path, performance.now());
  }

  get connected(): boolean {
    return this.path.ice === "connected";
  }

  close(): void {
    this.transport.close();
  }

  /** Look after the path; called often, acts when the table of times says so. */
  tend(nowMs: number): void {
    const action = dueAction(this.path, nowMs);
    if (action === "rebuild") this.onLost();
    else if (action === "restart_ice" && !this.restarting) void this.restartIce(nowMs);
  }

  /** Receive a Producer; the Consumer is paused at the relay until `resume_consumer`. */
  async consume(producer: string, streamId: string): Promise<types.Consumer> {
    const wire = await this.send({
      type: "consume",
      transport: this.transport.id,
      producer,
      rtp_capabilities: toWire(this.rtpCapabilities),
    });
    const consumer = await this.transport.consume(consumerOptions(wire, streamId));
    await this.send({ type: "resume_consumer", consumer: wire.consumer });
    return consumer;
  }

  /** Receive a DataProducer. What is sent before our end is open would be lost (ORTC.md trap 22), so it resumes then. */
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
    const resume = (): void => {
      const command = { type: "resume_data_consumer", data_consumer: wire.data_consumer } as const;
      this.send(command).catch(() => this.onLost());
    };
    if (consumer.readyState === "open") resume();
    else consumer.on("open", resume);
    return consumer;
  }

  private answerProduce(): void {
    const { transport, send } = this;
    transport.on("produce", ({ kind, rtpParameters, appData }, done, failed) => {
      const { source, label } = appData as SourceTag;
      const command = {
        type: "produce",
        transport: transport.id,
        kind,
        rtp_parameters: toWire(rtpParameters),
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
      if (!this.transport.closed) await this.transport.restartIce({ iceParameters: iceParameters(answer.ice_parameters) });
    } catch (error) {
      // Without a socket the next try is due in 3 s; a transport the server no longer knows must be rebuilt.
      if (isGone(error)) this.onLost();
    } finally {
      this.restarting = false;
    }
  }
}

/** The server no longer has what we named. */
export function isGone(error: unknown): boolean {
  return error instanceof RefusalError && error.is("not_found");
}
