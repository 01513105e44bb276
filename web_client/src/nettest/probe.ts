/**
 * Carrying the network test out, step by step, on the same paths that a consult takes.
 *
 * The socket is opened as a consult's is and answered by the gateway. Media go to the real media plane through a
 * Router of one's own (`/api/nettest`), each way alone: UDP candidates only, TCP candidates only, each TURN address only;
 * a way counts as open when a data channel opened over it, so DTLS and SCTP got through both ways and not merely one
 * ping. At the end a small moving picture is sent by whatever is best and must come back.
 *
 * What the outcome means is `verdict.ts`.
 */
import { encode } from "@msgpack/msgpack";
import type { types } from "mediasoup-client";
import { ApiError, type Http, ignoreBody } from "../common/http";
import { obj, str } from "../common/read";
import { foldReport, type SessionFigures } from "../media/figures";
import { Leg, type Send } from "../media/leg";
import { routerCapabilities } from "../media/ortc";
import { loadLibrary } from "../media/session";
import { RefusalError } from "../net/refusal";
import { type AnyCommand, type JsonObject, PROTOCOL_VERSION, type ResultFor } from "../protocol";
import {
  candidateTarget,
  fresh,
  measured,
  STEPS,
  type Step,
  type StepId,
  socketTarget,
  turnOrder,
  turnTarget,
} from "./verdict";

export interface ProbeOptions {
  readonly http: Http;
  /** Without a sign-in only the socket can be tested. */
  readonly isSignedIn: boolean;
  readonly onStep: (step: Step) => void;
  /** The picture that came back. */
  readonly onPicture: (track: MediaStreamTrack) => void;
  readonly signal: AbortSignal;
}

const STEP_TIMEOUT_MS = 8_000;
const SOCKET_SAMPLES = 3;
const MEDIA_WINDOW_MS = 3_000;
const FRAMES = 15;

class TimedOut extends Error {}

export async function probe(options: ProbeOptions): Promise<void> {
  const run = new Probe(options);
  const isReachable = await run.socket();
  if (isReachable && options.isSignedIn && !options.signal.aborted) await run.media();
  else run.skip(["udp", "tcp", "turn", "media"]);
}

class Probe {
  constructor(private readonly options: ProbeOptions) {}

  skip(ids: readonly StepId[]): void {
    for (const id of ids) this.options.onStep({ ...fresh(id), state: "skipped" });
  }

  /** @returns whether the hub can be reached at all. */
  async socket(): Promise<boolean> {
    const target = socketTarget(window.location);
    const websocket = this.begin({ ...fresh("websocket"), target });
    const samples: SocketSample[] = [];
    try {
      for (let i = 0; i < SOCKET_SAMPLES; i += 1) samples.push(await within(STEP_TIMEOUT_MS, openSocket()));
    } catch {
      this.options.onStep({ ...websocket, state: "blocked" });
      this.skip(["latency"]);
      return false;
    }
    // How long opening takes depends on TLS and proxies, and happens once: it is told and not judged.
    this.options.onStep({ ...websocket, state: "good", ms: Math.round(median(samples.map(({ openMs }) => openMs))) });
    this.options.onStep(measured(this.begin({ ...fresh("latency"), target }), median(samples.map((s) => s.answerMs))));
    return true;
  }

  async media(): Promise<void> {
    const { http, signal } = this.options;
    const udp = this.begin(fresh("udp"));
    try {
      const device = await this.device();
      await this.ways(device);
    } catch (error) {
      if (signal.aborted) return;
      this.options.onStep({ ...udp, state: "failed", code: codeOf(error) });
      this.skip(STEPS.slice(STEPS.indexOf("tcp")));
    } finally {
      await http.delete("/api/nettest").catch(ignoreBody);
    }
  }

  private async device(): Promise<types.Device> {
    const capabilities = await this.options.http.post("/api/nettest", {}, (body) => {
      return answerOf(body).router_rtp_capabilities as JsonObject;
    });
    const { Device } = await loadLibrary();
    const device = await Device.factory();
    await device.load({ routerRtpCapabilities: routerCapabilities(capabilities) });
    return device;
  }

  private async ways(device: types.Device): Promise<void> {
    let offer = { candidates: [] as readonly object[], servers: [] as readonly RTCIceServer[] };
    for (const protocol of ["udp", "tcp"] as const) {
      const step = this.begin(fresh(protocol));
      await this.way(device, step, (local) => {
        offer = { candidates: local.iceCandidates, servers: local.iceServers ?? [] };
        const target = candidateTarget(offer.candidates, protocol);
        const iceCandidates = local.iceCandidates.filter((candidate) => candidate.protocol === protocol);
        return target === null ? null : { target, local: { ...local, iceCandidates, iceServers: [] } };
      });
    }
    await this.turn(device, offer.servers);
    await this.picture(device);
  }

  /** TURN counts as open when one of its addresses is; the first that works is the one that is named. */
  private async turn(device: types.Device, servers: readonly RTCIceServer[]): Promise<void> {
    const offered = servers.flatMap((server) => [server.urls].flat().map((url) => ({ ...server, urls: url })));
    const step = this.begin(fresh("turn"));
    if (offered.length === 0) return this.options.onStep({ ...step, state: "absent" });
    for (const url of turnOrder(offered.map(({ urls }) => urls))) {
      const iceServers = offered.filter(({ urls }) => urls === url).slice(0, 1);
      const isOpen = await this.way(device, step, (local) => {
        const target = turnTarget(url);
        return target === null ? null : { target, local: { ...local, iceServers, iceTransportPolicy: "relay" } };
      });
      if (isOpen) return;
    }
  }

  /** One way alone. The step is told as good, slow, blocked or absent. */
  private async way(
    device: types.Device,
    step: Step,
    narrow: (
      local: types.TransportOptions,
    ) => { target: NonNullable<Step["target"]>; local: types.TransportOptions } | null,
  ): Promise<boolean> {
    let target: Step["target"] = null;
    const leg = await this.leg("send", device, (local) => {
      const narrowed = narrow(local);
      target = narrowed?.target ?? null;
      if (target !== null) this.options.onStep({ ...step, state: "running", target });
      return narrowed?.local ?? local;
    });
    try {
      if (target === null) {
        this.options.onStep({ ...step, state: "absent" });
        return false;
      }
      const begunMs = performance.now();
      await within(STEP_TIMEOUT_MS, leg.produceData("ctl"));
      const { roundTripMs } = await figuresOf(leg);
      this.options.onStep(measured({ ...step, target }, roundTripMs ?? performance.now() - begunMs));
      return true;
    } catch (error) {
      if (!(error instanceof TimedOut)) throw error;
      this.options.onStep({ ...step, target, state: "blocked" });
      return false;
    } finally {
      leg.close();
    }
  }

  /** A moving picture to the hub and back. */
  private async picture(device: types.Device): Promise<void> {
    const step = this.begin(fresh("media"));
    const [send, recv] = await Promise.all([this.leg("send", device), this.leg("recv", device)]);
    const source = movingPicture();
    try {
      const consumer = await within(STEP_TIMEOUT_MS, this.thereAndBack(send, recv, source.track));
      this.options.onPicture(consumer.track);
      const figures = await this.received(recv, consumer);
      if (figures === null) this.options.onStep({ ...step, state: "blocked" });
      else this.options.onStep(measured(step, figures.roundTripMs ?? 0, lostPercentOf(figures)));
    } catch (error) {
      if (!(error instanceof TimedOut)) throw error;
      this.options.onStep({ ...step, state: "blocked" });
    } finally {
      source.stop();
      send.close();
      recv.close();
    }
  }

  private async thereAndBack(send: Leg, recv: Leg, track: MediaStreamTrack): Promise<types.Consumer> {
    const producer = await send.transport.produce({
      track,
      encodings: [{ maxBitrate: 300_000 }],
      appData: { source: "camera", label: "" },
    });
    return recv.consume(producer.id, "nettest");
  }

  /** @returns null when no picture came. */
  private async received(recv: Leg, consumer: types.Consumer): Promise<SessionFigures | null> {
    const untilMs = performance.now() + STEP_TIMEOUT_MS;
    const sinceMs = performance.now();
    let figures = await figuresOf(recv, consumer);
    while (performance.now() < untilMs && !this.options.signal.aborted) {
      const isLongEnough = performance.now() - sinceMs >= MEDIA_WINDOW_MS;
      if (figures.framesDecoded >= FRAMES && isLongEnough) return figures;
      await pause(200);
      figures = await figuresOf(recv, consumer);
    }
    return figures.framesDecoded >= FRAMES ? figures : null;
  }

  private leg(
    direction: "send" | "recv",
    device: types.Device,
    narrow: (local: types.TransportOptions) => types.TransportOptions = (local) => local,
  ): Promise<Leg> {
    this.options.signal.throwIfAborted();
    return Leg.open({ direction, device, send: this.send, route: "any", onLost: () => undefined, narrow });
  }

  private readonly send: Send = <T extends AnyCommand>(command: T): Promise<ResultFor<T>> =>
    this.options.http.post("/api/nettest/call", { command }, (body) => answerOf(body) as unknown as ResultFor<T>);

  private begin(step: Step): Step {
    this.options.onStep({ ...step, state: "running" });
    return step;
  }
}

/** @throws RefusalError when the hub declined. */
function answerOf(body: unknown): Readonly<Record<string, unknown>> {
  const { ok, result, refusal } = obj(body);
  if (ok === true) return obj(result);
  const { code, en, zh } = obj(refusal);
  throw new RefusalError({ code: str(code) || "internal", en: str(en), zh: str(zh) });
}

function codeOf(error: unknown): string {
  if (error instanceof ApiError) return error.code;
  return error instanceof RefusalError ? error.body().code : "internal";
}

interface SocketSample {
  readonly openMs: number;
  readonly answerMs: number;
}

/**
 * Open the consult's socket and ask to be let in without a token: the gateway's "no" is the answer that is timed.
 *
 * The engine's first message is text `0{...}`; ours is a Socket.IO CONNECT as the consult sends it (PROTOCOL.md).
 */
function openSocket(): Promise<SocketSample> {
  return new Promise((resolve, reject) => {
    const scheme = window.location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${window.location.host}/socket.io/?EIO=4&transport=websocket`);
    socket.binaryType = "arraybuffer";
    const begunMs = performance.now();
    let askedMs = begunMs;
    const timer = setTimeout(() => socket.close(), STEP_TIMEOUT_MS);
    socket.onclose = () => {
      clearTimeout(timer);
      reject(new TimedOut("the socket closed"));
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") {
        if (!data.startsWith("0")) return;
        askedMs = performance.now();
        socket.send(encode({ type: 0, nsp: "/", data: { token: "network-test", protocol: PROTOCOL_VERSION } }));
        return;
      }
      resolve({ openMs: askedMs - begunMs, answerMs: performance.now() - askedMs });
      socket.close();
    };
  });
}

async function figuresOf(leg: Leg, consumer?: types.Consumer): Promise<SessionFigures> {
  const report = [...(await leg.transport.getStats()).values()] as unknown[];
  return foldReport(report, new Map(consumer === undefined ? [] : [["own", consumer]]));
}

function lostPercentOf({ consumers }: SessionFigures): number {
  const lost = consumers.reduce((sum, { packetsLost }) => sum + packetsLost, 0);
  const came = consumers.reduce((sum, { packetsReceived }) => sum + packetsReceived, 0);
  return lost <= 0 ? 0 : Math.round((100 * lost) / (lost + came));
}

/** A clock's hand, drawn: no camera is asked for and nobody is filmed. */
function movingPicture(): { readonly track: MediaStreamTrack; readonly stop: () => void } {
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
  const pen = canvas.getContext("2d");
  const draw = (): void => {
    if (pen === null) return;
    const angle = performance.now() / 400;
    pen.fillStyle = "#10303a";
    pen.fillRect(0, 0, 320, 180);
    pen.strokeStyle = "#74c4d5";
    pen.lineWidth = 10;
    pen.beginPath();
    pen.arc(160, 90, 62, angle, angle + 4.4);
    pen.stroke();
  };
  draw();
  const timer = setInterval(draw, 50);
  const [track] = canvas.captureStream(20).getVideoTracks();
  if (track === undefined) throw new Error("a canvas gives one track");
  return {
    track,
    stop: () => {
      clearInterval(timer);
      track.stop();
    },
  };
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new TimedOut("timed out")), timeoutMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
