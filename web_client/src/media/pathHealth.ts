/**
 * When a transport is in trouble, and what to do about it.
 *
 * ICE `disconnected` often heals by itself, so nothing happens for 2 s; then ICE is restarted (and again every 3 s, a
 * restart may itself be lost), and after 15 s without a path both transports are thrown away and built anew
 * (ARCHITECTURE section 8, "client's own trouble"). A first connection gets the same 15 s before it is rebuilt.
 *
 * Pure: the caller brings the time and carries out the action.
 */

export type IceState = "new" | "connecting" | "connected" | "disconnected" | "failed" | "closed";

export interface PathHealth {
  readonly ice: IceState;
  /** When the path was last known good or begun, `null` while it is good. */
  readonly troubleSinceMs: number | null;
  readonly restartedAtMs: number | null;
}

export type PathAction = "none" | "restart_ice" | "rebuild";

export const RESTART_AFTER_MS = 2_000;
export const RESTART_EVERY_MS = 3_000;
export const REBUILD_AFTER_MS = 15_000;

export const NEW_PATH: PathHealth = { ice: "new", troubleSinceMs: null, restartedAtMs: null };

/** Fold one ICE state into the path's health. */
export function onIceState(path: PathHealth, ice: IceState, nowMs: number): PathHealth {
  if (ice === "connected") return { ice, troubleSinceMs: null, restartedAtMs: null };
  if (ice === "new") return { ...path, ice };
  return { ...path, ice, troubleSinceMs: path.troubleSinceMs ?? nowMs };
}

/** What is due now. A first connection in progress is never restarted, only given up. */
export function dueAction(path: PathHealth, nowMs: number): PathAction {
  if (path.troubleSinceMs === null || path.ice === "closed") return "none";
  const troubleMs = nowMs - path.troubleSinceMs;
  if (troubleMs >= REBUILD_AFTER_MS) return "rebuild";
  const broken = path.ice === "failed" || (path.ice === "disconnected" && troubleMs >= RESTART_AFTER_MS);
  const retrying = path.ice === "connecting" && path.restartedAtMs !== null;
  if (!broken && !retrying) return "none";
  const rested = path.restartedAtMs === null || nowMs - path.restartedAtMs >= RESTART_EVERY_MS;
  return rested ? "restart_ice" : "none";
}

/** Note that a restart was asked for. */
export function onRestart(path: PathHealth, nowMs: number): PathHealth {
  return { ...path, restartedAtMs: nowMs };
}

/** Whether people should see a sign of it: from the moment repair begins, not during the silent 2 s. */
export function isUnstable(path: PathHealth, nowMs: number): boolean {
  if (path.troubleSinceMs === null || path.ice === "connecting") return path.restartedAtMs !== null;
  return path.ice === "failed" || nowMs - path.troubleSinceMs >= RESTART_AFTER_MS;
}
