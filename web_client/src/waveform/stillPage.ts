/**
 * A page that stands still: a part of the live ring that was kept, frames from the archive, or another recording.
 *
 * It has its own copy of the samples and of the axis, so what runs on cannot change it.
 * Places on it are server times, so every viewer's calipers mean the same samples (W32).
 */

import { FilterBank, type FilterPlan } from "./filters";
import { Flag, parseMessage } from "./frame";
import { laneOf } from "./lanes";
import { drawable, LeadBuffer } from "./leadBuffer";
import type { EcgSample, StillLane, StillMap } from "./settings";
import { type Hope, Signal } from "./signal";
import type { Context2d, Sheet } from "./surface";
import { GapTracker, type TimeAxis } from "./tracker";

/** Samples with their times, apart from the live ones. */
export interface Recording {
  readonly buffer: LeadBuffer;
  readonly axis: TimeAxis;
}

/** Which frames belong to a recording. */
export interface RecordingFormat {
  readonly streamId: number;
  readonly leads: number;
  readonly sampleRateMhz: number;
  /** A frame that says another step would be drawn at a wrong height. */
  readonly lsbNv: number;
  /** Of one opening of the patient. Null: whatever context they were taken in, for imports and prior recordings. */
  readonly versions: readonly [first: number, last: number] | null;
  readonly simulated: boolean;
}

/** A caliper looks this far for a real sample. */
const SNAP_US = 40_000;
/** More samples than this are not opened at once: an hour at 1000 Hz. */
const MAX_SAMPLES = 3_600_000;
const FOR_GOOD: Hope = () => false;

/** Put stored frames in their places; what does not fit the format is left out, and its place stays a hole. */
export function openRecording(messages: readonly Uint8Array[], format: RecordingFormat): Recording {
  const tracker = new GapTracker(format.sampleRateMhz);
  const placed = messages.flatMap((message) => {
    const result = parseMessage(message);
    if (!result.ok) return [];
    return [result.previous, result.frame].flatMap((frame) => {
      const fits =
        frame !== null &&
        frame.streamId === format.streamId &&
        isWithin(frame.contextVersion, format.versions) &&
        (frame.lsbNv === 0 || frame.lsbNv === format.lsbNv) &&
        ((frame.flags & Flag.simulated) !== 0) === format.simulated &&
        (frame.leads.at(-1) ?? 0) < format.leads;
      const placement = fits ? tracker.offer(frame) : null;
      return fits && placement !== null ? [{ frame, placement }] : [];
    });
  });
  const starts = placed.map(({ placement }) => placement.position);
  const from = starts.reduce((least, at) => Math.min(least, at), Number.POSITIVE_INFINITY);
  const to = placed.reduce((most, { frame, placement }) => Math.max(most, placement.position + frame.n), from);
  const span = Math.min(MAX_SAMPLES, Math.max(1, to - from));
  const buffer = new LeadBuffer(format.leads, 1000 * span, 1);
  for (const { frame, placement } of placed) buffer.store(frame, placement);
  return { buffer, axis: tracker.axis() };
}

function isWithin(version: number, versions: RecordingFormat["versions"]): boolean {
  return versions === null || (versions[0] <= version && version <= versions[1]);
}

export class StillPage {
  readonly signal: Signal;

  constructor(
    readonly recording: Recording,
    readonly atUs: number,
    private readonly lsbNv: number,
    leads: number,
    plan: FilterPlan | null,
  ) {
    const { buffer } = recording;
    this.signal = new Signal(buffer, plan === null ? null : new FilterBank(buffer, leads, plan), FOR_GOOD);
  }

  /** The place at the right edge; the sample at `atUs` is the last one on the page. */
  get edge(): number {
    // A time that was rounded to microseconds still means the sample it was made of.
    return Math.floor(this.recording.axis.positionOf(this.atUs) + 0.01) + 1;
  }

  paint(context: Context2d, { page, paper, ink }: Sheet): void {
    paper.copy(context, 0, page.width);
    const { edge } = this;
    const pass = { start: edge - page.sweepSamples };
    ink.paint(this.signal, pass, pass.start, edge);
    ink.finish();
  }

  map({ page }: Sheet, dpr: number): StillMap {
    const start = this.edge - page.sweepSamples;
    return {
      atUs: this.atUs,
      lanes: page.rows.flatMap((row) =>
        row.segments.map((segment): StillLane => {
          const { name, derived, from, to, sign } = segment;
          return {
            lead: name,
            derived,
            xPx: (page.sweepX + from * page.pxPerSample) / dpr,
            wPx: ((to - from) * page.pxPerSample) / dpr,
            midPx: row.baseline / dpr,
            topPx: row.top / dpr,
            bottomPx: row.bottom / dpr,
            fromUs: this.recording.axis.timeOf(start + from),
            usPerPx: (this.recording.axis.usPerSample * dpr) / page.pxPerSample,
            uvPerPx: (sign * 1000 * dpr) / page.pxPerMv,
          };
        }),
      ),
    };
  }

  sample(lead: string, leads: readonly string[], atUs: number): EcgSample | null {
    return sampleAt(this.signal, this.recording.axis, laneOf(lead, leads), this.lsbNv, atUs);
  }
}

/** The real sample nearest to a time; `valid: false` where there is no signal; null for a lead nobody sends. [W32] */
export function sampleAt(
  signal: Signal,
  axis: TimeAxis,
  lane: ReturnType<typeof laneOf>,
  lsbNv: number,
  atUs: number,
): EcgSample | null {
  if (lane.terms.length === 0 || axis.empty) return null;
  const at = Math.round(axis.positionOf(atUs));
  const reach = Math.max(1, Math.round(SNAP_US / axis.usPerSample));
  for (let away = 0; away <= reach; away += 1) {
    for (const position of away === 0 ? [at] : [at - away, at + away]) {
      if (!drawable(signal.cell(lane, position))) continue;
      return { atUs: axis.timeOf(position), uv: (signal.raw(lane, position) * lsbNv) / 1000, valid: true };
    }
  }
  return { atUs: axis.timeOf(at), uv: null, valid: false };
}

/** A kept part of the live ring. */
export function keep(live: LeadBuffer, axis: TimeAxis, from: number, to: number): Recording {
  return { buffer: live.slice(from, to), axis };
}
