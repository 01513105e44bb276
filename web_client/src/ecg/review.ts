/**
 * Where one is in the recorded consult, and what there is to go to.
 *
 * A position is the server time at the right edge of the page; `null` is live. Every step is clamped to what was
 * recorded, and the newest end goes on growing. Pure.
 */

export interface Recorded {
  readonly firstUs: number;
  /** Grows while the stream lives. */
  readonly lastUs: number;
}

/** The right edge nearest to what was asked for. */
export function clampEdge(atUs: number, { firstUs, lastUs }: Recorded, pageUs: number): number {
  const earliest = Math.min(lastUs, firstUs + pageUs);
  return Math.round(Math.min(lastUs, Math.max(earliest, atUs)));
}

/** A page on or back; a tenth of it stays in view, so that no beat is cut by the turn. */
export function stepPage(atUs: number, pages: number, recorded: Recorded, pageUs: number): number {
  return clampEdge(atUs + pages * pageUs * 0.9, recorded, pageUs);
}

/** Put a moment into the middle of the page. */
export function jumpTo(momentUs: number, recorded: Recorded, pageUs: number): number {
  return clampEdge(momentUs + pageUs / 2, recorded, pageUs);
}

/** Where a time is in the overview, 0 to 1. */
export function fractionOf(us: number, { firstUs, lastUs }: Recorded): number {
  const span = lastUs - firstUs;
  return span <= 0 ? 1 : Math.min(1, Math.max(0, (us - firstUs) / span));
}

/** The time at a place in the overview. */
export function timeAt(fraction: number, { firstUs, lastUs }: Recorded): number {
  return Math.round(firstUs + Math.min(1, Math.max(0, fraction)) * (lastUs - firstUs));
}

export type OverviewKind = "gap" | "session" | "snapshot" | "mark" | "freeze";

export interface OverviewEvent {
  readonly kind: OverviewKind;
  readonly fromUs: number;
  readonly toUs: number;
  readonly label: string;
}

/** The next event after (or before) the middle of the page; `null` when there is none. */
export function neighbour(events: readonly OverviewEvent[], middleUs: number, step: 1 | -1): OverviewEvent | null {
  // What one has just jumped to stands in the middle and is not the next.
  const slackUs = 1_000;
  const found = events
    .filter(({ fromUs }) => (step > 0 ? fromUs > middleUs + slackUs : fromUs < middleUs - slackUs))
    .sort((a, b) => step * (a.fromUs - b.fromUs));
  return found[0] ?? null;
}

const MIN_RR_US = 170_000;
const MAX_RR_US = 3_000_000;

/**
 * The heart rate over the whole recording.
 *
 * @param beatsUs R peaks, rising
 * @returns the median rate of each of `bins` equal parts, per minute; `null` where no two beats follow each other
 */
export function rateTrend(beatsUs: readonly number[], recorded: Recorded, bins: number): readonly (number | null)[] {
  const rates: number[][] = Array.from({ length: bins }, () => []);
  for (const [k, beat] of beatsUs.entries()) {
    const rr = beat - (beatsUs[k - 1] ?? Number.NaN);
    if (!(rr >= MIN_RR_US && rr <= MAX_RR_US) || beat < recorded.firstUs || beat > recorded.lastUs) continue;
    rates[Math.min(bins - 1, Math.floor(fractionOf(beat, recorded) * bins))]?.push(60e6 / rr);
  }
  return rates.map(median);
}

function median(values: readonly number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? null;
}

/** `12:03:20`, local time; `2026-11-22 12:03:20` where it may not be today's: read alike in every country. */
export function clockOf(us: number, language: string, dated = false): string {
  const clock = formatOf(language).format(us / 1000);
  return dated ? `${dayOf(new Date(us / 1000))} ${clock}` : clock;
}

function dayOf(at: Date): string {
  const two = (n: number): string => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** Made once: making one costs a hundred times what using it does, and an overview writes hundreds of times a second. */
function formatOf(language: string): Intl.DateTimeFormat {
  const known = formats.get(language);
  if (known !== undefined) return known;
  const options: Intl.DateTimeFormatOptions = {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  };
  const made = new Intl.DateTimeFormat(language, options);
  formats.set(language, made);
  return made;
}
