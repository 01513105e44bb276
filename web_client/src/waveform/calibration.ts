/**
 * How many CSS pixels one real millimetre takes on this display.
 *
 * Browsers do not know; somebody measures a bar or a card and the result is kept in this
 * browser, one per display (W27). A display is told by resolution, pixel ratio and its
 * place among the others; when one of these differs from then, by zoom, another screen or
 * another mode, the calibration is void and the strips say "not to scale" (W34).
 */

export interface Calibration {
  readonly pxPerMmX: number;
  readonly pxPerMmY: number;
  readonly calibrated: boolean;
  /** Of the measurement, for prints (W45). */
  readonly id?: string;
}

/** What a measurement holds for. */
export interface Display {
  readonly dpr: number;
  readonly width: number;
  readonly height: number;
  readonly left: number;
  readonly top: number;
}

export interface DisplayCalibration extends Display {
  readonly id: string;
  /** What people call this display. */
  readonly label: string;
  readonly pxPerMmX: number;
  readonly pxPerMmY: number;
  readonly measuredAtMs: number;
}

/** CSS says 96 px per inch; on most panels that is not true, so it is shown as "not to scale". */
export const UNCALIBRATED: Calibration = { pxPerMmX: 96 / 25.4, pxPerMmY: 96 / 25.4, calibrated: false };

/** Real panels lie well within; outside somebody measured something else. */
export const PLAUSIBLE_PX_PER_MM = [0.3, 25] as const;
/** [W26] Device manuals allow 5 %; a panel whose two directions differ by more is stretched. */
export const ASPECT_TOLERANCE = 0.05;

const KEY = "consilium.displays";
const CHANGED = "consilium-calibration";
const MAX_KEPT = 16;

/** The display that this window is on. */
export function thisDisplay(): Display {
  const { devicePixelRatio: dpr, screen } = window;
  const { availLeft = 0, availTop = 0 } = screen as Screen & { availLeft?: number; availTop?: number };
  return { dpr, width: screen.width, height: screen.height, left: availLeft, top: availTop };
}

/** The calibration of this display, if one was stored and still holds. */
export function readCalibration(): Calibration {
  const found = currentCalibration();
  if (found === null) return UNCALIBRATED;
  const { pxPerMmX, pxPerMmY, id } = found;
  return { pxPerMmX, pxPerMmY, calibrated: true, id };
}

/** The same with its name and date. */
export function currentCalibration(): DisplayCalibration | null {
  const display = thisDisplay();
  return readAll().find((kept) => isSame(kept, display)) ?? null;
}

/** Keep a measurement made on this display at its present zoom. */
export function storeCalibration(pxPerMmX: number, pxPerMmY: number, label = ""): void {
  const display = thisDisplay();
  // randomUUID exists in secure contexts only; a name for a print needs no secrecy.
  const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`;
  const made = { ...display, id, label, pxPerMmX, pxPerMmY, measuredAtMs: Date.now() };
  writeAll([made, ...readAll().filter((kept) => !isSame(kept, display))].slice(0, MAX_KEPT));
}

/** This display is not to scale any more. */
export function removeCalibration(): void {
  const display = thisDisplay();
  writeAll(readAll().filter((kept) => !isSame(kept, display)));
}

/** Whether somebody could have measured this. */
export function isPlausible(pxPerMm: number): boolean {
  return pxPerMm > PLAUSIBLE_PX_PER_MM[0] && pxPerMm < PLAUSIBLE_PX_PER_MM[1];
}

/** A calibration was stored or removed, in this window or in another. */
export function onCalibrationChange(callback: () => void): () => void {
  const onStorage = (event: StorageEvent): void => {
    if (event.key === KEY) callback();
  };
  window.addEventListener(CHANGED, callback);
  window.addEventListener("storage", onStorage);
  return () => {
    window.removeEventListener(CHANGED, callback);
    window.removeEventListener("storage", onStorage);
  };
}

export function isSame(one: Display, other: Display): boolean {
  return (
    one.dpr === other.dpr &&
    one.width === other.width &&
    one.height === other.height &&
    one.left === other.left &&
    one.top === other.top
  );
}

function readAll(): readonly DisplayCalibration[] {
  try {
    const value: unknown = JSON.parse(window.localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(value) ? value.flatMap(parse) : [];
  } catch {
    // Storage can be switched off by policy; then the display is simply not calibrated.
    return [];
  }
}

function writeAll(all: readonly DisplayCalibration[]): void {
  window.localStorage.setItem(KEY, JSON.stringify(all));
  window.dispatchEvent(new Event(CHANGED));
}

function parse(value: unknown): DisplayCalibration[] {
  if (typeof value !== "object" || value === null) return [];
  const { id, label, ...rest } = value as Record<keyof DisplayCalibration, unknown>;
  const { pxPerMmX, pxPerMmY, measuredAtMs, dpr, width, height, left, top } = rest;
  const numbers = [pxPerMmX, pxPerMmY, measuredAtMs, dpr, width, height, left, top];
  if (!numbers.every((n): n is number => typeof n === "number" && Number.isFinite(n))) return [];
  const [x, y, at, ratio, w, h, l, t] = numbers as [number, number, number, number, number, number, number, number];
  if (!isPlausible(x) || !isPlausible(y)) return [];
  const names = { id: String(id), label: String(label) };
  return [{ ...names, pxPerMmX: x, pxPerMmY: y, measuredAtMs: at, dpr: ratio, width: w, height: h, left: l, top: t }];
}
