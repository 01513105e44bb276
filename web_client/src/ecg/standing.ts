/**
 * Whether this viewer's trace runs or stands, and by whose wish.
 *
 * One may stop one's own trace, leaf back through the consult, or be shown the page that somebody froze for all. A new
 * freeze for all brings everyone to that page; who then goes back to live, alone, stays there until the next one. What
 * is shared is a server time, so each display keeps its own layout. Pure.
 */
import type { EcgFreeze } from "../protocol";

export interface Standing {
  /** This viewer's own page: right edge, and whether it is a review of what is recorded. */
  readonly own: { readonly atUs: number; readonly isReview: boolean } | null;
  /** The freeze for all that this viewer has left. */
  readonly left: string | null;
  /** The freeze for all that was seen last. */
  readonly seen: string | null;
}

export const RUNNING: Standing = { own: null, left: null, seen: null };

export type Shown =
  | { readonly kind: "live"; readonly atUs: null }
  | { readonly kind: "mine" | "review"; readonly atUs: number }
  | { readonly kind: "shared"; readonly atUs: number; readonly freeze: EcgFreeze };

const keyOf = ({ by, at_ms, at_us, stream_id }: EcgFreeze): string => `${stream_id} ${at_us} ${by} ${at_ms}`;

/** Fold the consult's freeze: a new one takes everybody along. */
export function hear(standing: Standing, freeze: EcgFreeze | null): Standing {
  const seen = freeze === null ? null : keyOf(freeze);
  if (seen === standing.seen) return standing;
  return seen === null ? { ...standing, seen, left: null } : { own: null, left: null, seen };
}

/** What is on screen. */
export function shownOf(standing: Standing, freeze: EcgFreeze | null): Shown {
  const { own } = standing;
  if (own !== null) return { kind: own.isReview ? "review" : "mine", atUs: own.atUs };
  if (freeze !== null && standing.left !== keyOf(freeze)) return { kind: "shared", atUs: freeze.at_us, freeze };
  return { kind: "live", atUs: null };
}

/** Stop one's own trace. */
export const freezeMine = (standing: Standing, atUs: number): Standing => ({
  ...standing,
  own: { atUs, isReview: false },
});

/** Go to a place of the record. */
export const reviewAt = (standing: Standing, atUs: number): Standing => ({
  ...standing,
  own: { atUs, isReview: true },
});

/** Back to live, alone if the others go on looking at a frozen page. */
export const goLive = (standing: Standing, freeze: EcgFreeze | null): Standing => ({
  ...standing,
  own: null,
  left: freeze === null ? null : keyOf(freeze),
});

/** Back to the page that is frozen for all. */
export const rejoin = (standing: Standing): Standing => ({ ...standing, own: null, left: null });
