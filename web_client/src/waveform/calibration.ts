/**
 * How many CSS pixels one real millimetre takes on this display.
 *
 * Browsers do not know; somebody measures a bar and the result is kept in this browser
 * (W27). It is void as soon as zoom, pixel ratio or screen size differ from then.
 */

export interface Calibration {
  readonly pxPerMmX: number;
  readonly pxPerMmY: number;
  readonly calibrated: boolean;
}

/** CSS says 96 px per inch; on most panels that is not true, so it is shown as "not to scale". */
export const UNCALIBRATED: Calibration = { pxPerMmX: 96 / 25.4, pxPerMmY: 96 / 25.4, calibrated: false };

const KEY = "consilium.display.calibration";

interface Stored {
  readonly pxPerMmX: number;
  readonly pxPerMmY: number;
  readonly dpr: number;
  readonly width: number;
  readonly height: number;
}

/** The calibration of this display, if one was stored and still holds. */
export function readCalibration(): Calibration {
  try {
    const stored = parse(window.localStorage.getItem(KEY));
    if (stored === null || !matches(stored)) return UNCALIBRATED;
    return { pxPerMmX: stored.pxPerMmX, pxPerMmY: stored.pxPerMmY, calibrated: true };
  } catch {
    // Storage can be switched off by policy; then the display is simply not calibrated.
    return UNCALIBRATED;
  }
}

/** Keep a measurement made on this display at its present zoom. */
export function storeCalibration(pxPerMmX: number, pxPerMmY: number): void {
  const { devicePixelRatio: dpr, screen } = window;
  const stored: Stored = { pxPerMmX, pxPerMmY, dpr, width: screen.width, height: screen.height };
  window.localStorage.setItem(KEY, JSON.stringify(stored));
}

function matches(stored: Stored): boolean {
  const { devicePixelRatio, screen } = window;
  return stored.dpr === devicePixelRatio && stored.width === screen.width && stored.height === screen.height;
}

function parse(text: string | null): Stored | null {
  const value: unknown = text === null ? null : JSON.parse(text);
  if (typeof value !== "object" || value === null) return null;
  const { pxPerMmX, pxPerMmY, dpr, width, height } = value as Record<keyof Stored, unknown>;
  const sane = (n: unknown): n is number => typeof n === "number" && n > 0.3 && n < 100;
  if (!sane(pxPerMmX) || !sane(pxPerMmY)) return null;
  return { pxPerMmX, pxPerMmY, dpr: Number(dpr), width: Number(width), height: Number(height) };
}
