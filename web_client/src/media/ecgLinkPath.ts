/**
 * Which way waveforms take: the data channel beside the video, or the WebSocket.
 *
 * The data channel wins wherever it works: it is never held up by one lost packet. The WebSocket is opened when no data
 * channel is open after 3 s, when an open one stalls for more than 1 s, or always where a display is set so (a wall on
 * the hospital's own network). Both may run at once, since what comes twice falls out by its number. The socket is let
 * go when the data channel has flowed for a while; each time that proves wrong soon after, the while doubles. Pure.
 */

export type EcgProfile = "auto" | "socket";

export type EcgWay = "data" | "socket";

export interface PathInput {
  readonly nowMs: number;
  readonly profile: EcgProfile;
  /** Any stream is wanted at all. */
  readonly isWanted: boolean;
  /** Control and frames of every wanted stream can flow over the data channel. */
  readonly isDataOpen: boolean;
  readonly isSocketOpen: boolean;
  /** When the data channel last brought something of the stream that waits longest; `null` for never. */
  readonly dataHeardMs: number | null;
}

export interface PathState {
  readonly wantsSocket: boolean;
  /** Where control messages go; `null` while nothing is open. */
  readonly active: EcgWay | null;
  readonly missingSinceMs: number | null;
  readonly openSinceMs: number | null;
  readonly flowingSinceMs: number | null;
  /** How long the data channel must flow before it is trusted alone. */
  readonly proofMs: number;
  readonly releasedMs: number | null;
  readonly lookedMs: number | null;
}

export const OPEN_WITHIN_MS = 3_000;
export const STALL_MS = 1_000;
const PROOF_MS = 3_000;
const MAX_PROOF_MS = 60_000;
/** A stall this soon after the socket was let go says that it was let go too early. */
const TOO_SOON_MS = 60_000;
/** This page itself stood still: what it did not hear meanwhile says nothing about the channel. */
const SLEPT_MS = 1_500;

export const NEW_PATH: PathState = {
  wantsSocket: false,
  active: null,
  missingSinceMs: null,
  openSinceMs: null,
  flowingSinceMs: null,
  proofMs: PROOF_MS,
  releasedMs: null,
  lookedMs: null,
};

/** Fold one look at both ways. */
export function nextPath(state: PathState, input: PathInput): PathState {
  const { nowMs, profile, isWanted, isDataOpen } = input;
  if (!isWanted) return { ...NEW_PATH, proofMs: state.proofMs, lookedMs: nowMs };
  const hasSlept = state.lookedMs !== null && nowMs - state.lookedMs > SLEPT_MS;
  const missingSinceMs = isDataOpen ? null : hasSlept ? nowMs : (state.missingSinceMs ?? nowMs);
  const openSinceMs = isDataOpen ? (hasSlept ? nowMs : (state.openSinceMs ?? nowMs)) : null;
  const heard = input.dataHeardMs;
  const isFlowing = isDataOpen && heard !== null && nowMs - heard <= STALL_MS;
  const flowingSinceMs = isFlowing ? (state.flowingSinceMs ?? nowMs) : null;
  const isMissing = missingSinceMs !== null && nowMs - missingSinceMs >= OPEN_WITHIN_MS;
  // A channel that has just opened, or a page that has just woken, is given the time of one that opens.
  const isNew = openSinceMs !== null && nowMs - openSinceMs < OPEN_WITHIN_MS && (heard === null || heard < openSinceMs);
  const isStalled = isDataOpen && !isFlowing && !isNew;
  const isNeeded = profile === "socket" || isMissing || isStalled;
  const isProven = flowingSinceMs !== null && nowMs - flowingSinceMs >= state.proofMs;
  const wantsSocket = isNeeded || (state.wantsSocket && !isProven);
  const active = activeWay(input, isFlowing);
  return {
    wantsSocket,
    active,
    missingSinceMs,
    openSinceMs,
    flowingSinceMs,
    proofMs: proofOf(state, wantsSocket, nowMs),
    releasedMs: state.wantsSocket && !wantsSocket ? nowMs : wantsSocket ? null : state.releasedMs,
    lookedMs: nowMs,
  };
}

function activeWay({ profile, isDataOpen, isSocketOpen }: PathInput, isFlowing: boolean): EcgWay | null {
  if (profile === "socket" && isSocketOpen) return "socket";
  if (isFlowing) return "data";
  if (isSocketOpen) return "socket";
  return isDataOpen ? "data" : null;
}

function proofOf(state: PathState, wantsSocket: boolean, nowMs: number): number {
  const isWantedAnew = wantsSocket && !state.wantsSocket;
  if (!isWantedAnew || state.releasedMs === null) return state.proofMs;
  return nowMs - state.releasedMs < TOO_SOON_MS ? Math.min(MAX_PROOF_MS, state.proofMs * 2) : PROOF_MS;
}
