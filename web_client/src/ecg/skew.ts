/**
 * Whether picture and trace are of the same moment (W43).
 *
 * Each has its own age; neither is claimed to be in step with the other. More than one second apart is told. Of a picture
 * whose age is only known to be no less than something, only that it is too old can be told, never that the trace is. Pure.
 */

export const SKEW_LIMIT_MS = 1_000;

export interface Skew {
  /** Positive: the picture is older than the trace. */
  readonly ms: number;
  /** It may be more. */
  readonly isLeast: boolean;
}

/** The age of a picture as far as it is known; `PictureTimes.age`. */
export interface KnownAge {
  readonly ms: number;
  readonly isLeast: boolean;
}

/** @returns the difference when it is worth telling, else `null` */
export function skewOf(video: KnownAge | null, ecgAgeMs: number | null): Skew | null {
  if (video === null || ecgAgeMs === null) return null;
  const ms = video.ms - ecgAgeMs;
  if (ms < 0 && video.isLeast) return null;
  return Math.abs(ms) > SKEW_LIMIT_MS ? { ms, isLeast: video.isLeast } : null;
}
