/**
 * The heart rate that the server computed from the trace, and its R peaks.
 *
 * It is marked as computed and is not for alarms: "?" when the computation is unsure, `---` when it is older than 5 s
 * or the trace is lost (W8, W12). R peaks of the last minute are kept for the RR of a QT and for marks. Pure.
 */
import type { HeartRate } from "../protocol";
import { BLANK } from "./vitals";

export interface HeartNews {
  readonly bpm: number | null;
  readonly isUnsure: boolean;
  readonly atUs: number;
  readonly heardMs: number;
  /** R peaks, server us, rising, each once. */
  readonly beatsUs: readonly number[];
}

const LIMIT_US = 5_000_000;
const AHEAD_LIMIT_US = 2_000_000;
const KEEP_BEATS_US = 60_000_000;
/** The detector may place the same R a little differently in its next window. */
const SAME_BEAT_US = 250_000;

/** Fold one signal; an older one than the last only adds its beats. */
export function foldHeart(before: HeartNews | undefined, signal: HeartRate, heardMs: number): HeartNews {
  if (before !== undefined && signal.at_us < before.atUs) {
    return { ...before, beatsUs: mergeBeats(signal.beats_us, before.beatsUs) };
  }
  const beatsUs = mergeBeats(before?.beatsUs ?? [], signal.beats_us);
  return { bpm: signal.bpm, isUnsure: signal.unsure, atUs: signal.at_us, heardMs, beatsUs };
}

/**
 * Both lists as one: rising, the newer placing of a beat wins, a minute kept.
 *
 * What the newer computation no longer finds among its own beats was none: a T wave kept as an R would halve an RR.
 */
export function mergeBeats(known: readonly number[], fresh: readonly number[]): readonly number[] {
  const [first, last] = [fresh[0] ?? Number.POSITIVE_INFINITY, fresh.at(-1) ?? Number.NEGATIVE_INFINITY];
  const isLookedAt = (beat: number): boolean => first < beat && beat < last;
  const stays = known.filter((beat) => !isLookedAt(beat) && !fresh.some((one) => Math.abs(one - beat) < SAME_BEAT_US));
  const all = [...stays, ...fresh].sort((a, b) => a - b);
  const newest = all.at(-1) ?? 0;
  return all.filter((beat) => newest - beat <= KEEP_BEATS_US);
}

export interface HeartText {
  readonly state: "blank" | "unsure" | "shown";
  /** `72`, `?`, `---`. */
  readonly text: string;
}

/** What to print now. */
export function heartText(news: HeartNews | undefined, nowUs: number, nowMs: number, isLost: boolean): HeartText {
  const blank: HeartText = { state: "blank", text: BLANK };
  if (news === undefined || isLost) return blank;
  const ageUs = nowUs - news.atUs;
  const isStale = ageUs > LIMIT_US || ageUs < -AHEAD_LIMIT_US || (nowMs - news.heardMs) * 1000 > LIMIT_US;
  if (isStale) return blank;
  if (news.isUnsure || news.bpm === null) return { state: "unsure", text: "?" };
  return { state: "shown", text: String(Math.round(news.bpm)) };
}
