/**
 * What a lane shows at each place: measured or computed, raw or filtered, and why there is nothing.
 *
 * A computed lead is blank wherever one of its parts is (W7). Everything that draws or
 * measures reads through here, so a trace and a caliper cannot disagree about what is signal.
 */

import type { FilterBank } from "./filters";
import type { Lane } from "./lanes";
import { Cell, drawable, type LeadBuffer } from "./leadBuffer";

/** A hole in all leads: still hoped for, or never to be filled. */
export type GapKind = "recovering" | "lost";

/** Whether a frame between these two numbers may still come; the second is null at the live end. */
export type Hope = (seqBefore: number, seqAfter: number | null) => boolean;

/** What is said of a place when the parts of a computed lead have different reasons: the first of these. */
const WORST_FIRST = [
  Cell.blank,
  Cell.leadOff,
  Cell.missing,
  Cell.calibration,
  Cell.artefact,
  Cell.invalid,
  Cell.clipped,
  Cell.saturated,
] as const;

export class Signal {
  constructor(
    readonly buffer: LeadBuffer,
    readonly filter: FilterBank | null,
    private readonly hopes: Hope,
  ) {}

  cell({ terms }: Lane, position: number): number {
    const [first, second] = terms;
    if (first === undefined) return Cell.blank;
    const one = this.buffer.cell(first.lead, position);
    return second === undefined ? one : worst(one, this.buffer.cell(second.lead, position));
  }

  /** Steps as drawn, filtered where a filter is on; meaningful only where `cell` is drawable. */
  shown({ terms }: Lane, position: number): number {
    let sum = 0;
    for (const { lead, weight } of terms) {
      sum += weight * (this.filter === null ? this.buffer.value(lead, position) : this.filter.value(lead, position));
    }
    return sum;
  }

  /** Steps as received (or computed from what was); never filtered. */
  raw({ terms }: Lane, position: number): number {
    let sum = 0;
    for (const { lead, weight } of terms) sum += weight * this.buffer.value(lead, position);
    return sum;
  }

  /** Whether a line may lead from the place before to this one (W2). */
  joined({ terms }: Lane, position: number): boolean {
    return terms.length > 0 && terms.every(({ lead }) => this.buffer.joined(lead, position));
  }

  isSettling({ terms }: Lane, position: number): boolean {
    const { filter } = this;
    return filter !== null && terms.some(({ lead }) => filter.isSettling(lead, position));
  }

  /** The kind of the hole [from, to), whole from the sample before it to the one after. */
  gapKind(from: number, to: number): GapKind {
    const before = this.buffer.seqAt(from - 1);
    const after = to >= this.buffer.end ? null : this.buffer.seqAt(to);
    return this.hopes(before, after) ? "recovering" : "lost";
  }

  /** The whole hole around a place where nothing was received, searched over at most `reach` places each way. */
  gapAround(position: number, reach: number): readonly [from: number, to: number] {
    const { buffer } = this;
    let from = position;
    while (from > buffer.begin && position - from < reach && !buffer.received(from - 1)) from -= 1;
    let to = position + 1;
    while (to < buffer.end && to - position < reach && !buffer.received(to)) to += 1;
    return [from, to];
  }
}

function worst(one: number, other: number): number {
  if (drawable(one) && drawable(other))
    return one === Cell.saturated || other === Cell.saturated ? Cell.saturated : one;
  return WORST_FIRST.find((cell) => cell === one || cell === other) ?? Cell.blank;
}
