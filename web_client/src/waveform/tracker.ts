/**
 * Where a frame belongs, and which frames are missing.
 *
 * `GapTracker` is the twin of media/core/waveform/gaps.py, where the reasons are
 * written; shared vectors hold the two together. `Recovery` asks for what is missing.
 */

import { Flag, type WaveformFrame } from "./frame";

const TOLERANCE_US = 250_000;
const WINDOW_FRAMES = 4096;
const MAX_SESSIONS = 64;

/** The part of a frame that decides its place. */
export type Numbered = Pick<
  WaveformFrame,
  "seq" | "flags" | "t0Us" | "firstSample" | "numbering" | "sampleRateMhz" | "n"
>;

export interface Placement {
  /** Place of the first sample on the stream's axis. */
  readonly position: number;
  readonly session: number;
  readonly late: boolean;
  /** First frame of a session or of a stream: never joined to what is before it. */
  readonly restart: boolean;
}

export type SeqRange = readonly [first: number, last: number];

interface Session {
  readonly number: number;
  readonly origin: number;
  startSeq: number;
  startSeen: boolean;
  firstIndex: number;
  newestSeq: number;
  refIndex: number;
  refT0Us: number;
  endIndex: number;
}

export class GapTracker {
  duplicates = 0;
  unplaceable = 0;
  restarts = 0;
  /** Inclusive ranges of seq not seen yet, oldest first. */
  missing: SeqRange[] = [];
  newestSeq = -1;
  private sessions: Session[] = [];
  private readonly seen = new Map<number, number>();
  private epochT0Us = 0;
  private numbering = 0;
  /** Numberings before this one, oldest first. */
  private readonly past = new Set<number>();

  constructor(private readonly rateMhz: number) {}

  /** Place a frame; null when it was seen before or belongs nowhere that is known. */
  offer(frame: Numbered): Placement | null {
    if (frame.sampleRateMhz !== this.rateMhz || frame.n === 0) {
      this.unplaceable += 1;
      return null;
    }
    if (this.past.has(frame.numbering)) {
      this.unplaceable += 1;
      return null;
    }
    if (this.sessions.length > 0 && frame.numbering !== this.numbering) return this.countsAnew(frame);
    this.numbering = frame.numbering;
    if (this.seen.get(frame.seq) === frame.t0Us) {
      this.duplicates += 1;
      return null;
    }
    const placement = this.place(frame);
    if (placement === null) this.unplaceable += 1;
    else this.remember(frame);
    return placement;
  }

  /** Position on the axis at a server time; null before the first frame. */
  positionAt(serverUs: number): number | null {
    const last = this.sessions.at(-1);
    if (last === undefined) return null;
    return last.origin + last.refIndex + ((serverUs - last.refT0Us) * this.rateMhz) / 1e9;
  }

  /** Server time of a position, by the newest session. */
  timeAt(position: number): number | null {
    const last = this.sessions.at(-1);
    return last === undefined ? null : this.timeOf(last, position - last.origin);
  }

  /** How places and times go together, session by session, oldest first; a copy that stays as it is. */
  axis(): TimeAxis {
    return new TimeAxis(
      this.rateMhz,
      this.sessions.map((session) => ({
        start: session.origin + session.firstIndex,
        startUs: this.timeOf(session, session.firstIndex),
      })),
    );
  }

  /** Whether a frame with this number would be newer than all before. */
  isNewer(seq: number): boolean {
    return seq > this.newestSeq;
  }

  /** Whether a frame of this number was passed over and has not come since. */
  isMissing(seq: number): boolean {
    return this.missing.some(([first, last]) => first <= seq && seq <= last);
  }

  private place(frame: Numbered): Placement | null {
    if (frame.seq <= this.newestSeq) return this.older(frame);
    return this.fromBefore(frame) ? null : this.newer(frame);
  }

  private newer(frame: Numbered): Placement {
    const last = this.sessions.at(-1);
    let restart = true;
    if (last !== undefined) {
      const lost = frame.seq - this.newestSeq - 1;
      restart =
        (frame.flags & Flag.sessionRestart) !== 0 ||
        frame.firstSample < last.endIndex + lost ||
        !this.inTime(last, frame);
      if (lost > 0) this.addMissing(this.newestSeq + 1, frame.seq - 1);
    }
    const session = restart || last === undefined ? this.begin(frame) : last;
    session.newestSeq = frame.seq;
    this.newestSeq = frame.seq;
    session.refIndex = frame.firstSample;
    session.refT0Us = frame.t0Us;
    session.endIndex = frame.firstSample + frame.n;
    return { position: session.origin + frame.firstSample, session: session.number, late: false, restart };
  }

  private older(frame: Numbered): Placement | null {
    const at = this.sessions.findLastIndex((session) => session.startSeq <= frame.seq);
    const own = this.sessions[at];
    const next = this.sessions[at + 1];
    const restart = (frame.flags & Flag.sessionRestart) !== 0;
    let session: Session;
    if (own !== undefined && !restart && this.fits(own, frame)) {
      session = own;
    } else if (next !== undefined && (own === undefined || frame.seq > own.newestSeq) && this.opens(next, frame)) {
      session = next;
      session.startSeq = frame.seq;
      session.firstIndex = frame.firstSample;
      session.startSeen = restart;
    } else {
      return this.numbering === 0 && this.isAfterAll(frame) ? this.deviceRestarted(frame, frame.t0Us) : null;
    }
    this.takeMissing(frame.seq);
    return { position: session.origin + frame.firstSample, session: session.number, late: true, restart: false };
  }

  /** Time may also step back at a source; then it says so with a session restart. */
  private fromBefore(frame: Numbered): boolean {
    const last = this.sessions.at(-1);
    if (last === undefined) return false;
    const earlier = frame.t0Us < this.timeOf(last, last.endIndex) - TOLERANCE_US;
    return frame.t0Us < this.epochT0Us || (earlier && (frame.flags & Flag.sessionRestart) === 0);
  }

  private isAfterAll(frame: Numbered): boolean {
    const last = this.sessions.at(-1);
    return last !== undefined && frame.t0Us > this.timeOf(last, last.endIndex);
  }

  /** Switched on again, whatever its clock says. */
  private countsAnew(frame: Numbered): Placement {
    this.past.add(this.numbering);
    if (this.past.size > MAX_SESSIONS) {
      for (const oldest of this.past) {
        this.past.delete(oldest);
        break;
      }
    }
    this.numbering = frame.numbering;
    const placement = this.deviceRestarted(frame, 0);
    this.remember(frame);
    return placement;
  }

  private deviceRestarted(frame: Numbered, sinceUs: number): Placement {
    this.missing = [];
    this.seen.clear();
    const session = this.begin(frame);
    this.sessions = [session];
    this.newestSeq = frame.seq;
    this.epochT0Us = sinceUs;
    return { position: session.origin + frame.firstSample, session: session.number, late: false, restart: true };
  }

  private begin(frame: Numbered): Session {
    const last = this.sessions.at(-1);
    let position = 0;
    if (last !== undefined) {
      const elapsed = roundHalfEven(((frame.t0Us - last.refT0Us) * this.rateMhz) / 1e9);
      position = last.origin + Math.max(last.refIndex + elapsed, last.endIndex);
      this.restarts += 1;
    }
    const session: Session = {
      number: last === undefined ? 0 : last.number + 1,
      origin: position - frame.firstSample,
      startSeq: frame.seq,
      startSeen: (frame.flags & Flag.sessionRestart) !== 0,
      firstIndex: frame.firstSample,
      newestSeq: frame.seq,
      refIndex: frame.firstSample,
      refT0Us: frame.t0Us,
      endIndex: frame.firstSample + frame.n,
    };
    this.sessions = [...this.sessions, session].slice(-MAX_SESSIONS);
    return session;
  }

  private timeOf(session: Session, index: number): number {
    return session.refT0Us + ((index - session.refIndex) * 1e9) / this.rateMhz;
  }

  private inTime(session: Session, frame: Numbered): boolean {
    return Math.abs(frame.t0Us - this.timeOf(session, frame.firstSample)) <= TOLERANCE_US;
  }

  private fits(session: Session, frame: Numbered): boolean {
    // every frame between held at least one sample
    const between = frame.seq - session.newestSeq - 1;
    if (between >= 0 && frame.firstSample < session.endIndex + between) return false;
    return frame.firstSample >= session.firstIndex && this.inTime(session, frame);
  }

  private opens(session: Session, frame: Numbered): boolean {
    return !session.startSeen && frame.firstSample + frame.n <= session.firstIndex && this.inTime(session, frame);
  }

  private remember(frame: Numbered): void {
    this.seen.set(frame.seq, frame.t0Us);
    if (this.seen.size <= WINDOW_FRAMES) return;
    for (const oldest of this.seen.keys()) {
      this.seen.delete(oldest);
      return;
    }
  }

  private addMissing(first: number, last: number): void {
    const oldest = last - WINDOW_FRAMES;
    this.missing = [...this.missing, [first, last] as const]
      .filter(([, b]) => b >= oldest)
      .map(([a, b]) => [Math.max(a, oldest), b] as const);
  }

  private takeMissing(seq: number): void {
    this.missing = this.missing.flatMap(([first, last]) =>
      first <= seq && seq <= last
        ? (
            [
              [first, seq - 1],
              [seq + 1, last],
            ] as const
          ).filter(([a, b]) => a <= b)
        : [[first, last] as const],
    );
  }
}

interface AxisPart {
  readonly start: number;
  readonly startUs: number;
}

/** Server time of every place, and back; before the first session it is continued backwards. */
export class TimeAxis {
  constructor(
    private readonly rateMhz: number,
    private readonly parts: readonly AxisPart[],
  ) {}

  get empty(): boolean {
    return this.parts.length === 0;
  }

  get usPerSample(): number {
    return 1e9 / this.rateMhz;
  }

  /** Server time of a place, whole microseconds; 0 on an empty axis. */
  timeOf(position: number): number {
    const part = this.parts.findLast(({ start }) => start <= position) ?? this.parts[0];
    return part === undefined ? 0 : Math.round(part.startUs + ((position - part.start) * 1e9) / this.rateMhz);
  }

  /** The place of a server time, not rounded; 0 on an empty axis. */
  positionOf(serverUs: number): number {
    const part = this.parts.findLast(({ startUs }) => startUs <= serverUs) ?? this.parts[0];
    return part === undefined ? 0 : part.start + ((serverUs - part.startUs) * this.rateMhz) / 1e9;
  }
}

/** As Python rounds: the two ends must agree on every position. */
function roundHalfEven(value: number): number {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

const MAX_TRIES = 5;
const MIN_RETRY_US = 100_000;
const MAX_RETRY_US = 1_000_000;
/** Older than this nobody waits for it any more: display delay plus 2 s. */
const GIVE_UP_US = 3_000_000;
/** Frames asked for at once; the relay's ring holds no more of any sane stream. */
const MAX_ASKED = 600;

interface Wanted {
  tries: number;
  nextUs: number;
  readonly sinceUs: number;
}

/** Asks for missing frames: at once, then every 1.5 round trips, five times, or until the relay says "gone". */
export class Recovery {
  private readonly wanted = new Map<number, Wanted>();
  private readonly lost = new Set<number>();
  private lookedTo = -1;

  /** Ranges to ask for now. */
  due(missing: readonly SeqRange[], rttUs: number | null, nowUs: number): SeqRange[] {
    this.follow(missing, nowUs);
    const everyUs = Math.min(MAX_RETRY_US, Math.max(MIN_RETRY_US, 1.5 * (rttUs ?? 0)));
    const asked: number[] = [];
    for (const [seq, want] of this.wanted) {
      if (want.nextUs > nowUs) continue;
      if (want.tries >= MAX_TRIES || nowUs - want.sinceUs > GIVE_UP_US) {
        this.giveUp(seq);
        continue;
      }
      want.tries += 1;
      want.nextUs = nowUs + everyUs;
      asked.push(seq);
    }
    return ranges(asked);
  }

  /** The relay will never have these. */
  gone(first: number, last: number): void {
    for (const seq of this.wanted.keys()) if (first <= seq && seq <= last) this.giveUp(seq);
  }

  /** Missing frames that the relay will not send. */
  get givenUp(): ReadonlySet<number> {
    return this.lost;
  }

  /** Whether the relay may still send a missing frame; of one that was not yet asked for, nothing else is known. */
  hopes(seq: number): boolean {
    return this.wanted.has(seq) || seq > this.lookedTo;
  }

  private giveUp(seq: number): void {
    this.wanted.delete(seq);
    this.lost.add(seq);
  }

  private follow(missing: readonly SeqRange[], nowUs: number): void {
    this.lookedTo = missing.at(-1)?.[1] ?? -1;
    const open = new Set<number>();
    for (const [first, last] of missing.slice(-MAX_ASKED)) {
      for (let seq = Math.max(first, last - MAX_ASKED); seq <= last; seq += 1) open.add(seq);
    }
    for (const seq of this.wanted.keys()) if (!open.has(seq)) this.wanted.delete(seq);
    for (const seq of this.lost) if (!open.has(seq)) this.lost.delete(seq);
    const newest = [...open].sort((a, b) => a - b).slice(-MAX_ASKED);
    for (const seq of newest) {
      if (!this.wanted.has(seq) && !this.lost.has(seq))
        this.wanted.set(seq, { tries: 0, nextUs: nowUs, sinceUs: nowUs });
    }
  }
}

function ranges(seqs: readonly number[]): SeqRange[] {
  const result: [number, number][] = [];
  for (const seq of [...seqs].sort((a, b) => a - b)) {
    const last = result.at(-1);
    if (last !== undefined && last[1] + 1 === seq) last[1] = seq;
    else result.push([seq, seq]);
  }
  return result;
}
