/**
 * The receiving end of one stream: bytes in, samples in their places out, repairs asked for.
 *
 * Only frames of this stream, of its rate and scale, honestly marked as simulated or not,
 * and of the present opening of the open patient are stored: several context versions may
 * be of one opening, since each report that is opened beside the patient raises it ([AN2]).
 * A frame of a later version than the page's hides everything at once and waits: when the
 * page learns that the version is of the same opening both go on, else the buffer is
 * emptied. Nothing of one patient is seen under another's name (W19, W24). No clock and no
 * drawing here; time comes in as this browser's microseconds.
 */

import { decode, encode } from "@msgpack/msgpack";
import type { WaveformStream } from "../protocol/messages";
import { Backfill } from "./backfill";
import { ServerClock } from "./clock";
import { Flag, parseMessage, type WaveformFrame } from "./frame";
import { LeadBuffer } from "./leadBuffer";
import { LimbCheck } from "./limbCheck";
import { GapTracker, Recovery, type SeqRange } from "./tracker";

export type ContextState = "in_sync" | "waiting" | "not_in_sync";

export interface ReceiverEvents {
  /** Ask the relay something. */
  send(message: Uint8Array): void;
  /** Samples were put in their place; what the pen has passed is to be drawn again. */
  stored(from: number, to: number): void;
  /** The buffer was emptied. */
  cleared(): void;
  /** Nothing may be seen until the page says whose a later context is. */
  hidden(): void;
  /** Ask the store for frames by number; absent where there is none. */
  fetch?(range: SeqRange): void;
}

const LAG_WINDOW = 31;
/** Frames that come in together count once: a backlog says nothing about how long frames take. */
const BURST_US = 30_000;
const MAX_PINGS = 32;
/** Frames of a context that the page has not heard of; some seconds of them. */
const MAX_EARLY = 64;
/** Less than this is within what the clocks may be wrong by (W11). */
const DOUBTFUL_US = 200_000;
const DAY_US = 86_400_000_000;

export class Receiver {
  readonly buffer: LeadBuffer;
  readonly tracker: GapTracker;
  readonly clock = new ServerClock();
  readonly recovery = new Recovery();
  private readonly backfill: Backfill | null;
  /** When a frame of the present context last came in, this browser's microseconds. */
  lastFrameUs: number | null = null;
  malformed = 0;
  refused = 0;
  otherContext = 0;
  /** Leads without contact in the newest frame. */
  leadOffMask = 0;
  /** Leads at the end of their range in the newest frame. */
  saturatedMask = 0;
  readonly limb: LimbCheck;
  /** When measured limb leads last contradicted each other, this browser's microseconds. */
  limbErrorUs: number | null = null;
  /** The newest frame says that its source does not know server time well. */
  clockUnsynced = false;
  /** Unanswered; the answers to another view of this page come on the same channel. */
  private readonly pings = new Set<number>();
  private seenVersion: number | null = null;
  /** Frames of a later context than the page's, until the page says whose they are. */
  private early: WaveformFrame[] = [];
  /** What one frame lasts. */
  private blockUs = 0;
  private lags: { readonly atUs: number; readonly lagUs: number }[] = [];

  constructor(
    readonly stream: WaveformStream,
    private expectedVersion: number | null,
    private readonly events: ReceiverEvents,
    private firstVersion: number | null = expectedVersion,
  ) {
    this.buffer = new LeadBuffer(stream.leads.length, stream.sample_rate_mhz);
    this.tracker = new GapTracker(stream.sample_rate_mhz);
    this.limb = new LimbCheck(stream.leads);
    this.backfill = events.fetch === undefined ? null : new Backfill();
  }

  get contextVersion(): number | null {
    return this.expectedVersion;
  }

  get context(): ContextState {
    if (this.expectedVersion === null) return "not_in_sync";
    if (this.seenVersion === null) return "waiting";
    return this.isOfOpening(this.seenVersion) ? "in_sync" : "not_in_sync";
  }

  /** The first and last context version of the open patient's present opening; null while nobody is open. */
  get versions(): readonly [first: number, last: number] | null {
    const { expectedVersion: last, firstVersion } = this;
    return last === null ? null : [firstVersion ?? last, last];
  }

  /**
   * What is open changed. Of the same opening everything received stays, of another one nothing may be shown any more.
   *
   * @param first the version under which the patient was opened; no version comes back, so it names the opening
   */
  setContext(version: number | null, first: number | null, nowUs: number): void {
    const before = this.versions;
    if (before?.[1] === version && before?.[0] === (first ?? version)) return;
    this.expectedVersion = version;
    this.firstVersion = first;
    const now = this.versions;
    if (before === null || now === null || before[0] !== now[0] || before[1] > now[1]) this.clear();
    const { early } = this;
    this.early = [];
    for (const frame of early) this.accept(frame, nowUs);
  }

  onMessage(message: Uint8Array, nowUs: number): void {
    const result = parseMessage(message);
    if (!result.ok) {
      this.malformed += 1;
      return;
    }
    if (result.previous !== null) this.accept(result.previous, nowUs);
    this.accept(result.frame, nowUs);
  }

  onControl(message: Uint8Array, nowUs: number): void {
    const answer = readControl(message);
    if (answer === null) {
      this.malformed += 1;
      return;
    }
    // Server time of 1970 or of the year 3000 would put every sample's age out of reason.
    if (answer.t === "pong" && answer.s > DAY_US && this.pings.delete(answer.c)) {
      this.clock.onPong(answer.c, answer.s, nowUs);
    }
    if (answer.t === "gone" && answer.stream === this.stream.stream_id) this.recovery.gone(answer.first, answer.last);
  }

  /** The path is open (again): measure the clock and fetch what was missed. */
  onOpen(): void {
    this.clock.restart();
    if (this.tracker.newestSeq < 0) return;
    this.send({ t: "have", stream: this.stream.stream_id, seq: this.tracker.newestSeq });
  }

  /** Whether a frame between two received ones may still come; at the live end one always may. */
  mayCome(seqBefore: number, seqAfter: number | null): boolean {
    if (seqAfter === null) return true;
    return this.tracker.missing.some(([first, last]) => {
      for (let seq = Math.max(first, seqBefore + 1); seq <= Math.min(last, seqAfter - 1); seq += 1) {
        if (this.recovery.hopes(seq) || this.storeMayHave(seq)) return true;
      }
      return false;
    });
  }

  /** Regular work: pings and requests for missing frames. */
  poll(nowUs: number): void {
    if (this.clock.pingDue(nowUs)) this.ping(nowUs);
    for (const [first, last] of this.recovery.due(this.tracker.missing, this.clock.rttUs, nowUs)) {
      this.send({ t: "nack", stream: this.stream.stream_id, first, last });
    }
    const range = this.backfill?.due(this.recovery.givenUp, nowUs) ?? null;
    if (range !== null) this.events.fetch?.(range);
  }

  /**
   * What the store has of a range that was asked for; null when it could not be asked.
   *
   * Only what is missing is taken, and only from before the newest sample: nothing fetched can pass for live (W4).
   */
  onFetched(range: SeqRange, messages: readonly Uint8Array[] | null, nowUs: number): void {
    const { backfill, tracker } = this;
    if (backfill?.isAsked(range) !== true) return;
    if (messages === null) {
      backfill.failed(nowUs);
      return;
    }
    for (const message of messages) {
      const result = parseMessage(message);
      if (!result.ok) this.malformed += 1;
      else if (tracker.isMissing(result.frame.seq) && result.frame.t0Us < (tracker.timeAt(this.buffer.end) ?? 0)) {
        this.accept(result.frame, nowUs);
      }
    }
    backfill.answered((seq) => tracker.isMissing(seq), nowUs);
  }

  /**
   * What a frame takes from its first sample to its arrival when nothing holds it up; null before the first.
   * The lower quartile: neither one lucky frame nor the backlog after a stall moves the pen.
   */
  get lagUs(): number | null {
    const sorted = this.lags.map((lag) => lag.lagUs).sort((a, b) => a - b);
    return sorted[sorted.length >> 2] ?? null;
  }

  /**
   * How far the source's clock is ahead of server time: a block cannot arrive before its last sample was taken.
   * 0 when that is within the error of the clocks. To read the stream by, add it to server time; otherwise old
   * samples would be dated as if they were of now (W11).
   */
  get sourceAheadUs(): number {
    const { lagUs } = this;
    const aheadUs = lagUs === null ? 0 : this.blockUs - lagUs;
    return aheadUs > DOUBTFUL_US + (this.clock.uncertaintyUs ?? 0) ? aheadUs : 0;
  }

  private ping(nowUs: number): void {
    this.pings.add(nowUs);
    for (const oldest of this.pings) {
      if (this.pings.size <= MAX_PINGS) break;
      this.pings.delete(oldest);
    }
    this.send({ t: "ping", c: nowUs });
  }

  private accept(frame: WaveformFrame, nowUs: number): void {
    if (!this.isOurs(frame)) {
      this.refused += 1;
      return;
    }
    if (this.expectedVersion !== null && frame.contextVersion > this.expectedVersion) {
      this.wait(frame);
      return;
    }
    const placement = this.tracker.offer(frame);
    if (placement === null) return;
    if (!placement.late && this.isNewest(frame)) this.seeVersion(frame.contextVersion);
    if (!this.isOfOpening(frame.contextVersion) || this.context !== "in_sync") {
      this.otherContext += 1;
      return;
    }
    if (!placement.late) this.noteArrival(frame, placement.restart, nowUs);
    const stored = this.buffer.store(frame, placement);
    if (stored === "stored" && this.limb.look(frame)) this.limbErrorUs = nowUs;
    if (stored === "stored") this.events.stored(placement.position, placement.position + frame.n);
  }

  private isOurs(frame: WaveformFrame): boolean {
    const { stream } = this;
    return (
      frame.streamId === stream.stream_id &&
      frame.sampleRateMhz === stream.sample_rate_mhz &&
      (frame.lsbNv === 0 || frame.lsbNv === stream.lsb_nv) &&
      ((frame.flags & Flag.simulated) !== 0) === stream.simulated &&
      (frame.leads.at(-1) ?? 0) < stream.leads.length
    );
  }

  private isOfOpening(version: number): boolean {
    const { versions } = this;
    return versions !== null && versions[0] <= version && version <= versions[1];
  }

  /** The device knows of a change that the page has not heard of: whose this is, and what is on screen, is unknown. */
  private wait(frame: WaveformFrame): void {
    this.otherContext += 1;
    if (this.early.some(({ seq }) => seq === frame.seq)) return;
    this.early = [...this.early, frame].slice(-MAX_EARLY);
    const isNews = this.context !== "not_in_sync";
    this.seenVersion = frame.contextVersion;
    if (isNews) this.events.hidden();
  }

  /** A frame that was sent before those that wait says nothing about what the device shows now. */
  private isNewest(frame: WaveformFrame): boolean {
    const isNewest = this.early.every(({ seq }) => seq < frame.seq);
    if (isNewest) this.early = [];
    return isNewest;
  }

  private seeVersion(version: number): void {
    const isOther = version !== this.seenVersion && !this.isOfOpening(version);
    this.seenVersion = version;
    if (isOther) this.clear();
  }

  private noteArrival(frame: WaveformFrame, restart: boolean, nowUs: number): void {
    this.lastFrameUs = nowUs;
    this.leadOffMask = frame.leadOffMask;
    this.saturatedMask = frame.saturatedMask;
    this.clockUnsynced = (frame.flags & Flag.clockUnsynced) !== 0;
    this.blockUs = (frame.n * 1e9) / frame.sampleRateMhz;
    // A session has a time of its own: what was learnt of the one before says nothing about it.
    if (restart) this.lags = [];
    const serverUs = this.clock.serverNowUs(nowUs);
    if (serverUs === null) return;
    const lag = { atUs: nowUs, lagUs: serverUs - frame.t0Us };
    const last = this.lags.at(-1);
    if (last === undefined || nowUs - last.atUs > BURST_US) this.lags = [...this.lags, lag].slice(-LAG_WINDOW);
    else if (lag.lagUs < last.lagUs) this.lags = [...this.lags.slice(0, -1), { atUs: last.atUs, lagUs: lag.lagUs }];
  }

  /** The device is bound to nobody: none of its samples may be shown as this patient's now (W20). */
  release(): void {
    this.empty();
    this.tracker.missing = [];
  }

  /** This computer may have slept: no time measured so far holds (W14). */
  wake(): void {
    this.lastFrameUs = null;
    this.lags = [];
    this.clock.forget();
  }

  private storeMayHave(seq: number): boolean {
    return this.backfill?.hopes(seq) === true && this.recovery.givenUp.has(seq);
  }

  private empty(): void {
    this.buffer.clear();
    this.lastFrameUs = null;
    this.leadOffMask = 0;
    this.saturatedMask = 0;
    this.limbErrorUs = null;
  }

  private clear(): void {
    this.empty();
    this.events.cleared();
  }

  private send(message: Readonly<Record<string, unknown>>): void {
    this.events.send(encode(message, { useBigInt64: false }));
  }
}

type ControlAnswer =
  | { readonly t: "pong"; readonly c: number; readonly s: number }
  | { readonly t: "gone"; readonly stream: number; readonly first: number; readonly last: number };

function readControl(message: Uint8Array): ControlAnswer | null {
  let value: unknown;
  try {
    value = decode(message);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { t, c, s, stream, first, last } = value as Record<string, unknown>;
  if (t === "pong" && typeof c === "number" && typeof s === "number") return { t, c, s };
  if (t === "gone" && typeof stream === "number" && typeof first === "number" && typeof last === "number") {
    return { t, stream, first, last };
  }
  return null;
}
