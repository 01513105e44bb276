/**
 * Which wall screens must not be trusted just now.
 *
 * A screen that shows another context version than the open one for more than 3 s, or that is cut off, is named on every
 * desk (W19). The three seconds are the time an honest screen needs to clear, fetch and paint; a screen that lost its
 * socket is named at once, nobody knows what it still shows. Pure.
 */
import type { Participant } from "../protocol";

export const GRACE_MS = 3_000;

/** Since when each screen has been behind. */
export type BehindSince = ReadonlyMap<string, number>;

/** Fold the present state; `version` is the open context's, `null` when no patient is open. */
export function watchScreens(
  before: BehindSince,
  participants: readonly Participant[],
  version: number | null,
  nowMs: number,
): BehindSince {
  const behind = participants.filter(
    ({ role, context_seen }) => role === "screen" && version !== null && context_seen < version,
  );
  return new Map(behind.map(({ id }) => [id, before.get(id) ?? nowMs]));
}

/** Screen numbers to name, in order. */
export function untrusted(since: BehindSince, participants: readonly Participant[], nowMs: number): readonly number[] {
  return participants
    .filter(({ role }) => role === "screen")
    .filter(({ id, connection }) => connection === "reconnecting" || nowMs - (since.get(id) ?? nowMs) > GRACE_MS)
    .map(({ screen_number }) => screen_number ?? 0)
    .sort((a, b) => a - b);
}
