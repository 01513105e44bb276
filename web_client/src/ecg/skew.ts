/**
 * Whether picture and trace are of the same moment (W43).
 *
 * Each has its own age; neither is claimed to be in step with the other. More than one second apart is told. A picture
 * that stopped, or a trace that is stale or lost, says so itself and louder: then there is nothing to compare. Pure.
 */

export const SKEW_LIMIT_MS = 1_000;

export interface Skew {
  /** Positive: the picture is older than the trace. */
  readonly ms: number;
}

/** @returns the difference when it is worth telling, else `null` */
export function skewOf(videoAgeMs: number | null, ecgAgeMs: number | null): Skew | null {
  if (videoAgeMs === null || ecgAgeMs === null) return null;
  const ms = videoAgeMs - ecgAgeMs;
  return Math.abs(ms) > SKEW_LIMIT_MS ? { ms } : null;
}
