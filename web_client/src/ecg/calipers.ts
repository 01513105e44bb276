/**
 * What two points on a still trace measure.
 *
 * Both points are real samples (W32): a time in integer server microseconds and a value in uV, never pixels, so that
 * every viewer puts them in the same place of his own page. Intervals between samples are whole multiples of the
 * sample interval, which is told as the resolution of what is read. Pure.
 */

/** One real sample of one lead. */
export interface TracePoint {
  readonly lead: string;
  /** Server time of the sample, integer microseconds since 1970. */
  readonly atUs: number;
  readonly uv: number;
}

export interface Measured {
  /** Never negative: which leg was set first says nothing. */
  readonly ms: number;
  /** The later point less the earlier one; `null` between two leads, whose zeros differ. */
  readonly mv: number | null;
  /** 60000 / ms; `null` where no heart beats so fast or so slow. */
  readonly bpm: number | null;
}

/** Beyond these an interval is no R-R interval: a QRS of 90 ms is not "667 per minute". */
const MIN_BPM = 10;
const MAX_BPM = 350;

export function measure(a: TracePoint, b: TracePoint): Measured {
  const [early, late] = a.atUs <= b.atUs ? [a, b] : [b, a];
  const ms = (late.atUs - early.atUs) / 1000;
  const bpm = ms > 0 ? 60_000 / ms : null;
  return {
    ms,
    mv: a.lead === b.lead ? (late.uv - early.uv) / 1000 : null,
    bpm: bpm !== null && bpm >= MIN_BPM && bpm <= MAX_BPM ? bpm : null,
  };
}

/** Lines never get denser than this on a page; below it the march says nothing. */
const MAX_MARCH = 120;

/**
 * The interval repeated to both sides of the two legs, as far as the page goes.
 *
 * @returns times in microseconds, rising, without the legs themselves; empty for an interval of nothing, or one so
 *   short that its lines would cover the page
 */
export function marchOut(aUs: number, bUs: number, pageFromUs: number, pageToUs: number): readonly number[] {
  const [from, to] = aUs <= bUs ? [aUs, bUs] : [bUs, aUs];
  const step = to - from;
  if (step <= 0 || (pageToUs - pageFromUs) / step > MAX_MARCH) return [];
  const first = Math.ceil((pageFromUs - from) / step);
  const last = Math.floor((pageToUs - from) / step);
  const times: number[] = [];
  for (let k = first; k <= last; k += 1) if (k !== 0 && k !== 1) times.push(from + k * step);
  return times;
}

/** The distance of two samples in ms: nothing can be read finer. */
export function resolutionMs(sampleRateMhz: number): number {
  return 1_000_000 / sampleRateMhz;
}

/** `412 ms`: whole milliseconds, more would be made up. */
export const msText = (ms: number): string => `${Math.round(ms)} ms`;

/** `-0.15 mV`: two decimals are a tenth of a small square at 10 mm/mV. */
export function mvText(mv: number): string {
  const text = mv.toFixed(2);
  // The sign of nothing is noise.
  return `${text === "-0.00" ? "0.00" : text} mV`;
}

/** `146/min`. */
export const bpmText = (bpm: number): string => `${Math.round(bpm)}/min`;
