/**
 * What this browser sends: camera, microphone and a shared screen, each at most once.
 *
 * A Producer is made on first use and never closed again while its transport lives: switching off pauses it and takes
 * the track away, switching on or changing the device puts a track in with `replaceTrack`. Closing and producing again
 * would recycle the m-line, and mediasoup-client 3.24 then forgets mid and transport-cc (ORTC.md trap 9).
 * After a rebuild `publish` makes new Producers for whatever is on, and muted stays muted.
 */
import type { types } from "mediasoup-client";
import type { PauseProducer, ResumeProducer } from "../protocol";
import { DeviceError, type DeviceProblem, openCamera, openMicrophone, openScreen } from "./devices";
import { cameraEncodings, screenEncodings, VOICE } from "./encodings";
import type { Leg, Send, SourceTag } from "./leg";

export type LocalKind = "camera" | "microphone" | "screen";

export const LOCAL_KINDS: readonly LocalKind[] = ["camera", "microphone", "screen"];

export interface LocalSource {
  /** What the person chose; it holds while the connection does not. */
  readonly on: boolean;
  readonly track: MediaStreamTrack | null;
  readonly problem: DeviceProblem | null;
  readonly busy: boolean;
}

export type LocalState = Readonly<Record<LocalKind, LocalSource>>;

const OFF: LocalSource = { on: false, track: null, problem: null, busy: false };

export const NOTHING_SENT: LocalState = { camera: OFF, microphone: OFF, screen: OFF };

function codingOf(kind: LocalKind, track: MediaStreamTrack): Partial<types.ProducerOptions> {
  if (kind === "microphone") return { codecOptions: VOICE };
  return { encodings: kind === "screen" ? screenEncodings() : cameraEncodings(track.getSettings()) };
}

export class LocalSources {
  private state: LocalState = NOTHING_SENT;
  private readonly producers = new Map<LocalKind, types.Producer<SourceTag>>();
  private leg: Leg | null = null;
  /** One change at a time per source: two quick clicks must end in what the second one said. */
  private readonly queues = new Map<LocalKind, Promise<void>>();
  private readonly producing = new Map<LocalKind, Promise<void>>();
  private readonly shown = new Set<string>();

  constructor(
    private readonly send: Send,
    private readonly onChange: (state: LocalState) => void,
    /** Something could not be told to the server: the session should look again. */
    private readonly onTrouble: () => void,
  ) {}

  get current(): LocalState {
    return this.state;
  }

  /**
   * Whether the server took away a Producer of ours that the consult once showed.
   *
   * One that was never shown does not count: our acknowledgement may overtake the event.
   */
  confirmedGone(present: ReadonlySet<string>): boolean {
    const ids = [...this.producers.values()].map(({ id }) => id);
    const gone = ids.some((id) => this.shown.has(id) && !present.has(id));
    for (const id of ids) if (present.has(id)) this.shown.add(id);
    return gone;
  }

  /** Take over a track opened before joining. */
  adopt(kind: LocalKind, track: MediaStreamTrack): Promise<void> {
    return this.queued(kind, () => this.put(kind, track));
  }

  /** Switch a source on or off. Device problems end in the state, never in an exception. */
  set(kind: LocalKind, on: boolean): Promise<void> {
    return this.queued(kind, () => (on ? this.switchOn(kind) : this.switchOff(kind)));
  }

  /** The person has read what was wrong. */
  forgive(kind: LocalKind): void {
    this.patch(kind, { problem: null });
  }

  /** Use another camera or microphone; opens it even when the source was off. */
  change(kind: "camera" | "microphone", deviceId: string): Promise<void> {
    return this.queued(kind, () => this.open(kind, deviceId));
  }

  /** Send everything that is on over this leg; called after each (re)build. */
  async publish(leg: Leg): Promise<void> {
    if (this.leg !== leg) this.detach();
    this.leg = leg;
    // Not queued behind a person who is still choosing a window to share.
    await Promise.all(LOCAL_KINDS.map((kind) => this.ensureProducer(kind)));
  }

  /** Tell the server again whatever it did not hear while the socket was gone. */
  async align(known: ReadonlyMap<string, { readonly paused: boolean }>): Promise<void> {
    for (const [kind, producer] of this.producers) {
      const paused = known.get(producer.id)?.paused;
      if (paused === undefined || paused === !this.state[kind].on) continue;
      await (this.state[kind].on ? this.resume(kind) : this.pause(kind));
    }
  }

  get wantsToSend(): boolean {
    return LOCAL_KINDS.some((kind) => this.state[kind].track !== null);
  }

  /** The leg is gone and its Producers with it; tracks and choices stay. */
  detach(): void {
    this.leg = null;
    this.producers.clear();
    this.producing.clear();
    this.shown.clear();
  }

  close(): void {
    this.detach();
    for (const kind of LOCAL_KINDS) this.state[kind].track?.stop();
    this.patchAll();
  }

  private async switchOn(kind: LocalKind): Promise<void> {
    const { track } = this.state[kind];
    if (kind !== "microphone" || track === null || track.readyState === "ended") return this.open(kind);
    track.enabled = true;
    this.patch(kind, { on: true, problem: null });
    await this.resume(kind);
  }

  private async switchOff(kind: LocalKind): Promise<void> {
    const { track } = this.state[kind];
    this.patch(kind, { on: false, problem: null });
    if (kind === "microphone") {
      // The microphone stays open: unmuting must be instant, and the browser shows that it is in use.
      if (track !== null) track.enabled = false;
    } else {
      // A camera that is off must have its lamp off.
      await this.producers.get(kind)?.replaceTrack({ track: null });
      track?.stop();
      this.patch(kind, { track: null });
    }
    await this.pause(kind);
  }

  private async open(kind: LocalKind, deviceId?: string): Promise<void> {
    this.patch(kind, { busy: true, problem: null });
    try {
      const track = await openers[kind](deviceId);
      await this.put(kind, track);
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      // Closing the browser's own picker is an answer, not a problem.
      const isDeclined = kind === "screen" && error.problem === "denied";
      this.patch(kind, { busy: false, problem: isDeclined ? null : error.problem });
    }
  }

  private async put(kind: LocalKind, track: MediaStreamTrack): Promise<void> {
    const before = this.state[kind].track;
    // The browser's own "stop sharing" button and an unplugged camera end the track behind our back.
    track.addEventListener("ended", () => {
      if (this.state[kind].track === track) void this.set(kind, false);
    });
    this.patch(kind, { on: true, track, busy: false, problem: null });
    const producer = this.producers.get(kind);
    if (producer === undefined) await this.ensureProducer(kind).catch(this.onTrouble);
    else {
      await producer.replaceTrack({ track });
      await this.resume(kind);
    }
    if (before !== null && before !== track) before.stop();
  }

  private async ensureProducer(kind: LocalKind): Promise<void> {
    const { leg } = this;
    const { track } = this.state[kind];
    if (leg === null || leg.transport.closed || track === null || this.producers.has(kind)) return;
    const running = this.producing.get(kind) ?? this.produce(kind, leg, track);
    this.producing.set(kind, running);
    try {
      await running;
    } finally {
      if (this.producing.get(kind) === running) this.producing.delete(kind);
    }
  }

  private async produce(kind: LocalKind, leg: Leg, track: MediaStreamTrack): Promise<void> {
    const producer = await leg.transport.produce<SourceTag>({
      track,
      ...codingOf(kind, track),
      stopTracks: false,
      disableTrackOnPause: false,
      appData: { source: kind, label: "" },
    });
    if (this.leg !== leg) return;
    this.producers.set(kind, producer);
    const now = this.state[kind];
    if (now.track !== track) await producer.replaceTrack({ track: now.track });
    if (!now.on) await this.pause(kind);
  }

  private async pause(kind: LocalKind): Promise<void> {
    const producer = this.producers.get(kind);
    if (producer === undefined) return;
    producer.pause();
    await this.tell({ type: "pause_producer", producer: producer.id });
  }

  private async resume(kind: LocalKind): Promise<void> {
    const producer = this.producers.get(kind);
    if (producer === undefined) return;
    producer.resume();
    await this.tell({ type: "resume_producer", producer: producer.id });
  }

  /** The local half took effect already; what the server did not hear, `align` repeats. */
  private async tell(command: PauseProducer | ResumeProducer): Promise<void> {
    try {
      await this.send(command);
    } catch {
      this.onTrouble();
    }
  }

  private queued(kind: LocalKind, work: () => Promise<void>): Promise<void> {
    const next = (this.queues.get(kind) ?? Promise.resolve()).then(work);
    // A failed step is reported to its caller and must not block the next one.
    this.queues.set(
      kind,
      next.catch(() => undefined),
    );
    return next;
  }

  private patch(kind: LocalKind, change: Partial<LocalSource>): void {
    this.state = { ...this.state, [kind]: { ...this.state[kind], ...change } };
    this.onChange(this.state);
  }

  private patchAll(): void {
    this.state = NOTHING_SENT;
    this.onChange(this.state);
  }
}

const openers: Record<LocalKind, (deviceId?: string) => Promise<MediaStreamTrack>> = {
  camera: openCamera,
  microphone: openMicrophone,
  screen: () => openScreen(),
};
