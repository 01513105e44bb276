/** Whether a waveform may be believed to be live: ARCHITECTURE section 8, rule W12. */

export type EcgState = "LIVE" | "DELAYED" | "STALE" | "LOST";

export interface Liveness {
  /** Age of the newest drawn sample; null when nothing is drawn or server time is unknown. */
  readonly ageMs: number | null;
  /** Since the last frame arrived; null when none ever did. */
  readonly silentMs: number | null;
  /** Since the path closed; null while it is open. */
  readonly pathGoneMs: number | null;
}

export const DELAYED_AFTER_MS = 1000;
export const STALE_AFTER_MS = 3000;
export const LOST_AFTER_SILENCE_MS = 5000;
export const LOST_AFTER_PATH_GONE_MS = 3000;

export function stateOf({ ageMs, silentMs, pathGoneMs }: Liveness): EcgState {
  if (ageMs === null || silentMs === null) return "LOST";
  if (silentMs >= LOST_AFTER_SILENCE_MS) return "LOST";
  if (pathGoneMs !== null && pathGoneMs >= LOST_AFTER_PATH_GONE_MS) return "LOST";
  if (ageMs > STALE_AFTER_MS) return "STALE";
  if (ageMs > DELAYED_AFTER_MS) return "DELAYED";
  return "LIVE";
}
