/**
 * Filters for the view only: what is measured, stored and exported stays raw (W10, W29).
 *
 * The bandwidths are those of bedside monitors: 0.5-40 Hz monitor, 0.05-40 Hz ST,
 * 0.05-150 Hz diagnostic, and a notch for the mains. The high pass has one pole, the 0.05 Hz
 * one being the 3.2 s time constant that ST segments are judged by; a steeper one would bend
 * them. Each lead's filter starts anew wherever its line does: after a hole, an invalid run, a
 * new session. It starts settled at the first sample, so there is no step to ring from, and
 * what follows is marked as settling until three time constants are over. So nothing of one
 * side of a gap reaches the other.
 */

import { drawable, type LeadBuffer } from "./leadBuffer";
import type { EcgFilter, EcgNotch } from "./settings";

/** Second-order section, a0 = 1. */
export interface Section {
  readonly b0: number;
  readonly b1: number;
  readonly b2: number;
  readonly a1: number;
  readonly a2: number;
}

export interface FilterPlan {
  readonly sections: readonly Section[];
  /** What of the wish holds at this rate, Hz; null where there is no such limit. */
  readonly highPassHz: number | null;
  readonly lowPassHz: number | null;
  readonly notchHz: number | null;
  /** Samples after a start that are marked. */
  readonly settleSamples: number;
}

const BANDS: Readonly<Record<EcgFilter, readonly [highPassHz: number, lowPassHz: number] | null>> = {
  off: null,
  monitor: [0.5, 40],
  st: [0.05, 40],
  diagnostic: [0.05, 150],
};
const NOTCH_Q = 12;
/** Nearer to half the sample rate a limit cannot be made. */
const USABLE_SHARE = 0.45;
const SETTLE_CONSTANTS = 3;

/** The sections for a wish; null when nothing is to be filtered. */
export function planFilter(filter: EcgFilter, notch: EcgNotch, rateHz: number): FilterPlan | null {
  const band = BANDS[filter];
  const can = (hz: number): boolean => hz < USABLE_SHARE * rateHz;
  const notchHz = notch !== 0 && can(notch) ? notch : null;
  if (band === null && notchHz === null) return null;
  const highPassHz = band?.[0] ?? null;
  const lowPassHz = band !== null && can(band[1]) ? band[1] : null;
  const sections: Section[] = [];
  let settleS = 0;
  if (highPassHz !== null) {
    sections.push(highPass(highPassHz, rateHz));
    settleS = Math.max(settleS, SETTLE_CONSTANTS / (2 * Math.PI * highPassHz));
  }
  if (lowPassHz !== null) sections.push(lowPass(lowPassHz, rateHz));
  if (notchHz !== null) {
    sections.push(notchAt(notchHz, rateHz));
    settleS = Math.max(settleS, (SETTLE_CONSTANTS * NOTCH_Q) / (Math.PI * notchHz));
  }
  return { sections, highPassHz, lowPassHz, notchHz, settleSamples: Math.ceil(settleS * rateHz) };
}

/** Filtered values of all leads, at the same places as the buffer they come from. */
export class FilterBank {
  private readonly values: readonly Float32Array[];
  private readonly settles: readonly Uint8Array[];
  private readonly lanes: readonly LaneFilter[];
  private doneTo: number | null = null;

  constructor(
    private readonly buffer: LeadBuffer,
    leads: number,
    private readonly plan: FilterPlan,
  ) {
    const { capacity } = buffer;
    this.values = Array.from({ length: leads }, () => new Float32Array(capacity));
    this.settles = Array.from({ length: leads }, () => new Uint8Array(capacity));
    this.lanes = Array.from({ length: leads }, () => new LaneFilter(plan.sections));
  }

  /** Steps; meaningful only where the buffer's cell is drawable. */
  value(lead: number, position: number): number {
    return this.values[lead]?.[this.slot(position)] ?? 0;
  }

  isSettling(lead: number, position: number): boolean {
    return this.settles[lead]?.[this.slot(position)] === 1;
  }

  /** Filter what came in since the last call. */
  update(): void {
    const { buffer } = this;
    if (buffer.empty) {
      this.doneTo = null;
      return;
    }
    const from = Math.max(this.doneTo ?? buffer.oldest, buffer.oldest);
    for (let lead = 0; lead < this.lanes.length; lead += 1) this.run(lead, from, buffer.end);
    this.doneTo = buffer.end;
  }

  /**
   * A repair was put in before what is filtered already: everything it joins to is filtered again.
   * Answers how far that reaches, so that it can be drawn again.
   */
  repaired(from: number, to: number): number {
    const { doneTo, buffer } = this;
    if (doneTo === null || from >= doneTo) return to;
    let reach = to;
    for (let lead = 0; lead < this.lanes.length; lead += 1) {
      let start = from;
      while (start > buffer.oldest && buffer.joined(lead, start)) start -= 1;
      let stop = to;
      while (stop < doneTo && buffer.joined(lead, stop)) stop += 1;
      const lane = this.lanes[lead] as LaneFilter;
      // The state at the live end must be there again afterwards: run through to it where the repair reaches it.
      if (stop < doneTo) {
        const kept = lane.save();
        lane.stop();
        this.run(lead, start, stop);
        lane.restore(kept);
      } else {
        lane.stop();
        this.run(lead, start, doneTo);
      }
      reach = Math.max(reach, stop);
    }
    return reach;
  }

  /** The buffer was emptied. */
  clear(): void {
    this.doneTo = null;
    for (const lane of this.lanes) lane.stop();
  }

  private run(lead: number, from: number, to: number): void {
    const { buffer, plan } = this;
    const [values, settles, lane] = [this.values[lead], this.settles[lead], this.lanes[lead]];
    if (values === undefined || settles === undefined || lane === undefined) return;
    for (let p = from; p < to; p += 1) {
      if (!drawable(buffer.cell(lead, p))) continue;
      const x = buffer.value(lead, p);
      if (!lane.running || !buffer.joined(lead, p)) lane.start(x);
      const slot = this.slot(p);
      values[slot] = lane.step(x);
      settles[slot] = lane.steps <= plan.settleSamples ? 1 : 0;
    }
  }

  private slot(position: number): number {
    const slot = position % this.buffer.capacity;
    return slot < 0 ? slot + this.buffer.capacity : slot;
  }
}

interface LaneState {
  readonly running: boolean;
  readonly steps: number;
  readonly state: readonly number[];
}

/** One lead through all sections, transposed direct form II. */
class LaneFilter {
  running = false;
  /** Samples since the start. */
  steps = 0;
  private readonly state: number[];

  constructor(private readonly sections: readonly Section[]) {
    this.state = new Array<number>(2 * sections.length).fill(0);
  }

  /** Begin as if the input had been `x` for ever. */
  start(x: number): void {
    this.running = true;
    this.steps = 0;
    let input = x;
    this.sections.forEach(({ b0, b1, b2, a1, a2 }, i) => {
      const output = (input * (b0 + b1 + b2)) / (1 + a1 + a2);
      const second = b2 * input - a2 * output;
      this.state[2 * i + 1] = second;
      this.state[2 * i] = b1 * input - a1 * output + second;
      input = output;
    });
  }

  step(x: number): number {
    this.steps += 1;
    let value = x;
    for (let i = 0; i < this.sections.length; i += 1) {
      const { b0, b1, b2, a1, a2 } = this.sections[i] as Section;
      const output = b0 * value + (this.state[2 * i] as number);
      this.state[2 * i] = b1 * value - a1 * output + (this.state[2 * i + 1] as number);
      this.state[2 * i + 1] = b2 * value - a2 * output;
      value = output;
    }
    return value;
  }

  stop(): void {
    this.running = false;
  }

  save(): LaneState {
    return { running: this.running, steps: this.steps, state: [...this.state] };
  }

  restore({ running, steps, state }: LaneState): void {
    this.running = running;
    this.steps = steps;
    state.forEach((value, i) => {
      this.state[i] = value;
    });
  }
}

/** One pole, bilinear transform. */
function highPass(hz: number, rateHz: number): Section {
  const k = Math.tan((Math.PI * hz) / rateHz);
  const gain = 1 / (1 + k);
  return { b0: gain, b1: -gain, b2: 0, a1: (k - 1) / (k + 1), a2: 0 };
}

/** Butterworth of the second order, bilinear transform. */
function lowPass(hz: number, rateHz: number): Section {
  const k = Math.tan((Math.PI * hz) / rateHz);
  const norm = 1 / (1 + Math.SQRT2 * k + k * k);
  const b0 = k * k * norm;
  return { b0, b1: 2 * b0, b2: b0, a1: 2 * (k * k - 1) * norm, a2: (1 - Math.SQRT2 * k + k * k) * norm };
}

function notchAt(hz: number, rateHz: number): Section {
  const w = (2 * Math.PI * hz) / rateHz;
  const alpha = Math.sin(w) / (2 * NOTCH_Q);
  const norm = 1 / (1 + alpha);
  const b1 = -2 * Math.cos(w) * norm;
  return { b0: norm, b1, b2: norm, a1: b1, a2: (1 - alpha) * norm };
}
