/** What a wall asks the server for, read narrowly. Every request carries the wall's slot (`createHttp`). */

import { SCREEN_ROLES, type ScreenRole } from "../common/api";
import { ApiError, type Http } from "../common/http";
import { num, obj, oneOf, str, strOrNull } from "../common/read";

export interface Pairing {
  readonly code: string;
  readonly secret: string;
  readonly expiresAtMs: number;
  readonly address: string;
}

export interface WallScreen {
  readonly station: string;
  readonly stationName: string;
  readonly room: string;
  readonly number: number;
  readonly role: ScreenRole;
}

export interface WallState {
  readonly screen: WallScreen;
  readonly consult: string | null;
  readonly identify: boolean;
}

export async function askForCode(http: Http): Promise<Pairing> {
  return http.post("/api/wall/pairing", {}, (body) => {
    const o = obj(body);
    const expiresAtMs = num(o.expires_at_ms) ?? 0;
    return { code: str(o.code), secret: str(o.secret), expiresAtMs, address: str(o.address) };
  });
}

export async function isClaimed(http: Http, secret: string): Promise<boolean> {
  return http.post("/api/wall/pairing/status", { secret }, (body) => obj(body).state === "claimed");
}

/** What this display is; `null` while it is not paired. */
export async function fetchWall(http: Http, signal?: AbortSignal): Promise<WallState | null> {
  try {
    return await http.get("/api/wall", readWall, { signal });
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return null;
    throw error;
  }
}

export function readWall(body: unknown): WallState {
  const o = obj(body);
  const screen = obj(o.screen);
  return {
    screen: {
      station: str(screen.station),
      stationName: str(screen.station_name),
      room: str(screen.room) || str(obj(screen.room).name),
      number: num(screen.number) ?? 0,
      role: oneOf(screen.role, SCREEN_ROLES, "record"),
    },
    consult: strOrNull(o.consult),
    identify: o.identify === true,
  };
}

/** Slot of this window: several displays may hang on one computer. */
export function slotOf(search: string): number {
  const slot = Number(new URLSearchParams(search).get("screen") ?? "1");
  return Number.isInteger(slot) && slot >= 1 && slot <= 3 ? slot : 1;
}
