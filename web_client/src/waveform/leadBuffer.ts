/**
 * The last minute of one stream, each sample at its place on the stream's axis.
 *
 * A cell is filled at most once, from one received sample; a cell nobody sent anything
 * for stays blank (W1, W2, W5). All leads share the axis, so the columns of a display
 * cannot drift apart. `slice` keeps a part for a page that stands still. The twin in Python is media/core/waveform/assemble.py.
 */

import { Flag, type WaveformFrame } from "./frame";
import type { Placement } from "./tracker";

/** What one lead has at one position. */
export const Cell = {
  blank: 0,
  valid: 1,
  /** Valid, in a frame in which the lead ran into its limits. */
  saturated: 2,
  leadOff: 3,
  /** Sent, but said not to be signal, for a reason this display does not know. */
  invalid: 4,
  artefact: 5,
  /** The source had nothing at these places of this lead. */
  missing: 6,
  /** Said to be at the end of the range: the true value is beyond. */
  clipped: 7,
  calibration: 8,
} as const;

/** Reasons of invalid runs (media/WAVEFORM_WIRE.md section 1.1). */
const REASONS: Readonly<Record<number, number>> = {
  1: Cell.missing,
  2: Cell.leadOff,
  3: Cell.clipped,
  4: Cell.artefact,
  5: Cell.calibration,
};

export type Stored = "stored" | "late" | "overlap";

export class LeadBuffer {
  readonly capacity: number;
  /** Position after the newest sample. */
  end = 0;
  /** Position of the first sample ever placed; blank before it is not a gap. */
  begin = 0;
  lateLost = 0;
  overlapping = 0;
  private started = false;
  private readonly values: readonly Int16Array[];
  private readonly cells: readonly Uint8Array[];
  private readonly seqs: Float64Array;
  private readonly starts: Uint8Array;
  private readonly paces: Uint8Array;

  constructor(leads: number, sampleRateMhz: number, seconds = 60) {
    this.capacity = Math.max(1, Math.floor((sampleRateMhz * seconds) / 1000));
    this.values = Array.from({ length: leads }, () => new Int16Array(this.capacity));
    this.cells = Array.from({ length: leads }, () => new Uint8Array(this.capacity));
    this.seqs = new Float64Array(this.capacity).fill(-1);
    this.starts = new Uint8Array(this.capacity);
    this.paces = new Uint8Array(this.capacity);
  }

  get empty(): boolean {
    return !this.started;
  }

  /** Put a frame in its place; refused whole when too late for the ring or when a cell is taken. */
  store(frame: WaveformFrame, placement: Placement): Stored {
    const { position } = placement;
    if (!this.started) {
      this.started = true;
      this.begin = position;
      this.end = position;
    }
    if (position < this.end - this.capacity) {
      this.lateLost += frame.n;
      return "late";
    }
    this.advance(position + frame.n);
    for (let i = 0; i < frame.n; i += 1) {
      if (this.seqs[this.slot(position + i)] !== -1) {
        this.overlapping += 1;
        return "overlap";
      }
    }
    this.begin = Math.min(this.begin, position);
    this.fill(frame, position);
    if (placement.restart || (frame.flags & Flag.sessionRestart) !== 0) this.starts[this.slot(position)] = 1;
    return "stored";
  }

  /** Forget every sample: another patient's context (W24). */
  clear(): void {
    for (const cells of this.cells) cells.fill(Cell.blank);
    this.seqs.fill(-1);
    this.starts.fill(0);
    this.paces.fill(0);
    this.started = false;
  }

  /** A copy of [from, to) that stays as it is while this one goes on. */
  slice(from: number, to: number): LeadBuffer {
    const copy = new LeadBuffer(this.cells.length, 1000 * Math.max(1, to - from), 1);
    copy.started = this.started;
    copy.begin = Math.max(from, this.oldest);
    copy.end = copy.begin;
    copy.absorb(this, from, to);
    return copy;
  }

  /** Take over what another buffer on the same axis has of [from, to), as far as there is room from `begin` on. */
  absorb(other: LeadBuffer, from: number, to: number): void {
    const stop = Math.min(to, other.end, this.begin + this.capacity);
    this.end = Math.max(this.end, stop);
    for (let p = Math.max(from, this.begin, other.oldest); p < stop; p += 1) {
      const [there, here] = [this.slot(p), other.slot(p)];
      this.values.forEach((values, lead) => {
        values[there] = other.values[lead]?.[here] ?? 0;
        (this.cells[lead] as Uint8Array)[there] = other.cells[lead]?.[here] ?? Cell.blank;
      });
      this.seqs[there] = other.seqs[here] as number;
      this.starts[there] = other.starts[here] as number;
      this.paces[there] = other.paces[here] as number;
    }
  }

  /** Oldest position that can still be held. */
  get oldest(): number {
    return Math.max(this.begin, this.end - this.capacity);
  }

  /** Number of the frame a position came with; -1 where nothing was received. */
  seqAt(position: number): number {
    return this.inRing(position) ? (this.seqs[this.slot(position)] as number) : -1;
  }

  /** Whether anything at all was received for a position. */
  received(position: number): boolean {
    return this.inRing(position) && this.seqs[this.slot(position)] !== -1;
  }

  cell(lead: number, position: number): number {
    if (!this.inRing(position)) return Cell.blank;
    return this.cells[lead]?.[this.slot(position)] ?? Cell.blank;
  }

  /** Raw steps; meaningful only where `cell` is valid or saturated. */
  value(lead: number, position: number): number {
    return this.values[lead]?.[this.slot(position)] ?? 0;
  }

  /** Whether a session begins here. */
  startsSession(position: number): boolean {
    return this.inRing(position) && this.starts[this.slot(position)] === 1;
  }

  paced(position: number): boolean {
    return this.inRing(position) && this.paces[this.slot(position)] === 1;
  }

  /** Whether a line of `lead` may lead from the position before to this one (WF9). */
  joined(lead: number, position: number): boolean {
    if (!drawable(this.cell(lead, position)) || !drawable(this.cell(lead, position - 1))) return false;
    if (this.startsSession(position)) return false;
    const step = (this.seqs[this.slot(position)] as number) - (this.seqs[this.slot(position - 1)] as number);
    return step === 0 || step === 1;
  }

  private fill(frame: WaveformFrame, position: number): void {
    for (let i = 0; i < frame.n; i += 1) this.seqs[this.slot(position + i)] = frame.seq;
    for (const offset of frame.paceOffsets) this.paces[this.slot(position + offset)] = 1;
    frame.leads.forEach((lead, row) => {
      const values = this.values[lead];
      const cells = this.cells[lead];
      if (values === undefined || cells === undefined) return;
      const kind = (frame.saturatedMask >> lead) & 1 ? Cell.saturated : Cell.valid;
      for (let i = 0; i < frame.n; i += 1) {
        const slot = this.slot(position + i);
        values[slot] = frame.samples[row * frame.n + i] as number;
        cells[slot] = kind;
      }
    });
    for (const run of frame.invalidRuns) {
      const kind = REASONS[run.reason] ?? Cell.invalid;
      for (let i = 0; i < run.count; i += 1) this.mark(run.lead, position + run.first + i, kind);
    }
    for (let lead = 0; lead < this.cells.length; lead += 1) {
      if (((frame.leadOffMask >> lead) & 1) === 0) continue;
      for (let i = 0; i < frame.n; i += 1) this.mark(lead, position + i, Cell.leadOff);
    }
  }

  private mark(lead: number, position: number, kind: number): void {
    const cells = this.cells[lead];
    if (cells !== undefined) cells[this.slot(position)] = kind;
  }

  private advance(stop: number): void {
    for (let p = Math.max(this.end, stop - this.capacity); p < stop; p += 1) {
      const slot = this.slot(p);
      for (const cells of this.cells) cells[slot] = Cell.blank;
      this.seqs[slot] = -1;
      this.starts[slot] = 0;
      this.paces[slot] = 0;
    }
    this.end = Math.max(this.end, stop);
  }

  private inRing(position: number): boolean {
    return this.started && position < this.end && position >= this.end - this.capacity;
  }

  private slot(position: number): number {
    const slot = position % this.capacity;
    return slot < 0 ? slot + this.capacity : slot;
  }
}

/** Whether a cell holds signal that may be drawn. */
export function drawable(cell: number): boolean {
  return cell === Cell.valid || cell === Cell.saturated;
}
