/**
 * What a person is told about the connection, as a pure function of what happened and when.
 *
 * Trouble begins when the socket is lost or silent. Below 15 s the page tries
 * to resume (its media may still flow); from 15 s it rejoins from scratch; at
 * 60 s it stops and offers a button (ARCHITECTURE section 8). While the server
 * says when it is our turn, it is there: the 60 s count from that moment.
 */
import type { GoodbyeReason, RefusalBody } from "../protocol";

export const REJOIN_AFTER_MS = 15_000;
export const STOP_AFTER_MS = 60_000;
const MOST_TURN_MS = 120_000;
/** A clinical view without a beat for this long must blank itself (W19). */
export const FRESH_FOR_MS = 5_000;

/**
 * - `idle`: not started, or left on purpose
 * - `connecting`: first join under way
 * - `connected`: joined, events flow
 * - `reconnecting`: lost less than 15 s ago; media may go on
 * - `rejoining`: lost 15 s ago or more; everything is made anew
 * - `stopped`: given up; only `retry()` goes on
 */
export type Phase = "idle" | "connecting" | "connected" | "reconnecting" | "rejoining" | "stopped";

export interface Machine {
  phase: Phase;
  /** When the present trouble began; null when there is none. */
  troubleSinceMs: number | null;
  /** Attempts since the last success; drives the delay. */
  attempt: number;
  /** The last thing the server said before it closed. */
  goodbye: GoodbyeReason | null;
  /** Why the server would not let us in. */
  refusal: RefusalBody | null;
  /** When it is our turn to ask again, of a server that is busy. [SE16] */
  waitUntilMs: number | null;
}

export type Input =
  | { type: "start" }
  | { type: "joined" }
  | { type: "lost" }
  | { type: "attempt_failed" }
  | { type: "refused"; refusal: RefusalBody }
  | { type: "busy"; untilMs: number }
  | { type: "goodbye"; reason: GoodbyeReason }
  | { type: "tick" }
  | { type: "retry" }
  | { type: "leave" };

export const INITIAL: Machine = {
  phase: "idle",
  troubleSinceMs: null,
  attempt: 0,
  goodbye: null,
  refusal: null,
  waitUntilMs: null,
};

/** Reasons after which coming back by itself would be wrong: it would fight, or be refused for ever. */
const FINAL_GOODBYES: ReadonlySet<GoodbyeReason> = new Set(["replaced", "ended", "removed", "malformed"]);

/** Refusals that time heals; any other means that asking again gives the same answer. */
const PASSING_REFUSALS: ReadonlySet<string> = new Set([
  "token_invalid",
  "media_unavailable",
  "store_unavailable",
  "conflict",
  "too_busy",
  "internal",
]);

export function step(machine: Machine, input: Input, nowMs: number): Machine {
  switch (input.type) {
    case "start":
    case "retry":
      return isActive(machine) ? machine : { ...INITIAL, phase: "connecting", troubleSinceMs: nowMs };
    case "leave":
      return { ...INITIAL, goodbye: machine.goodbye };
    case "joined":
      return isActive(machine) ? { ...INITIAL, phase: "connected" } : machine;
    case "lost":
      return lost(machine, nowMs);
    case "attempt_failed":
      return isActive(machine) ? aged({ ...machine, attempt: machine.attempt + 1 }, nowMs) : machine;
    case "refused":
      return refused(machine, input.refusal, nowMs);
    case "busy":
      return isActive(machine)
        ? aged({ ...machine, attempt: 0, refusal: null, waitUntilMs: input.untilMs }, nowMs)
        : machine;
    case "goodbye":
      return goodbye(machine, input.reason, nowMs);
    case "tick":
      return aged(machine, nowMs);
  }
}

/** Whether the socket should be up or on its way. */
export function isActive(machine: Machine): boolean {
  return machine.phase !== "idle" && machine.phase !== "stopped";
}

/**
 * How long to wait before the next attempt.
 *
 * @param random a number in [0, 1): half of the delay is jitter, so that a restarted server is not met by all at once.
 */
export function delayMs(attempt: number, random: number): number {
  const full = Math.min(250 * 2 ** Math.min(attempt, 5), 4_000);
  return Math.round(full / 2 + (full / 2) * random);
}

/** How long to wait when told to come again: never sooner, and not with all who were told the same second. */
export function turnMs(retryAfterMs: number, random: number): number {
  return Math.round(Math.min(Math.max(retryAfterMs, 1_000), MOST_TURN_MS) + 1_000 * random);
}

function lost(machine: Machine, nowMs: number): Machine {
  if (machine.phase !== "connected") return machine;
  return { ...machine, phase: "reconnecting", troubleSinceMs: nowMs, attempt: 0, waitUntilMs: null };
}

function refused(machine: Machine, refusal: RefusalBody, nowMs: number): Machine {
  if (!isActive(machine)) return machine;
  if (!PASSING_REFUSALS.has(refusal.code)) return { ...machine, phase: "stopped", refusal };
  return aged({ ...machine, attempt: machine.attempt + 1, refusal }, nowMs);
}

function goodbye(machine: Machine, reason: GoodbyeReason, nowMs: number): Machine {
  if (!isActive(machine)) return machine;
  if (FINAL_GOODBYES.has(reason)) return { ...machine, phase: "stopped", goodbye: reason };
  return { ...lost(machine, nowMs), goodbye: reason };
}

function aged(machine: Machine, nowMs: number): Machine {
  if (machine.troubleSinceMs === null || !isActive(machine)) return machine;
  const troubleMs = nowMs - machine.troubleSinceMs;
  const aloneMs = nowMs - Math.max(machine.troubleSinceMs, machine.waitUntilMs ?? machine.troubleSinceMs);
  if (aloneMs >= STOP_AFTER_MS) return { ...machine, phase: "stopped" };
  if (troubleMs >= REJOIN_AFTER_MS && machine.phase === "reconnecting") return { ...machine, phase: "rejoining" };
  return machine;
}
