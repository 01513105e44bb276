/**
 * Vital signs and reported alarms as numbers that never outlive their time.
 *
 * Each value carries its own time (W8). What is continuous goes blank 5 s after it was measured; a blood pressure is
 * taken now and then, so it stays and always shows its clock time. A value from the future would never grow old, so it
 * counts as stale too; and one that has not been renewed here for 5 s is stale whatever the clocks say. A parameter the
 * device does not send is shown as absent. Only values of the open context are kept (W24).
 *
 * Alarms are text that the bedside monitor reported, with its time (W36): kept in order, never sorted away, never
 * answered, no sound. Pure; times come in as arguments.
 */
import { num, obj, str } from "../common/read";

export const VITAL_CODES = ["HR", "SpO2", "NIBP", "Resp", "Temp", "Pulse"] as const;

export type VitalCode = (typeof VITAL_CODES)[number];

/** Shown even while absent; a pulse rate only where a device sends one. */
export const ALWAYS_SHOWN: readonly VitalCode[] = ["HR", "SpO2", "NIBP", "Resp", "Temp"];

export interface VitalValue {
  readonly code: VitalCode;
  /** One number, or systolic, diastolic, mean; `null` when the device could not measure. */
  readonly value: number | readonly [number, number, number | null] | null;
  readonly unit: string;
  /** Server time of the measurement, us. */
  readonly atUs: number;
  readonly quality: "ok" | "questionable" | "invalid";
  readonly simulated: boolean;
  /** When it came in, by this page's monotonic clock. */
  readonly heardMs: number;
}

export interface ReportedAlarm {
  readonly text: string;
  readonly atUs: number;
  readonly priority: string;
}

export interface Vitals {
  readonly version: number | null;
  readonly values: Readonly<Partial<Record<VitalCode, VitalValue>>>;
  /** Newest first, at most `MAX_ALARMS`. */
  readonly alarms: readonly ReportedAlarm[];
  /** Older ones that are no longer kept here. */
  readonly alarmsDropped: number;
}

export const NO_VITALS: Vitals = { version: null, values: {}, alarms: [], alarmsDropped: 0 };

export const MAX_ALARMS = 50;
const CONTINUOUS_LIMIT_US = 5_000_000;
/** How far a device's clock may be ahead of ours before its time is not believed. */
const AHEAD_LIMIT_US = 2_000_000;
const MAX_TEXT = 200;

/** Another patient: nothing of the former one is kept. */
export function withVersion(vitals: Vitals, version: number | null): Vitals {
  return vitals.version === version ? vitals : { ...NO_VITALS, version };
}

/** Fold one decoded message of the `vitals` channel; what is malformed or of another context changes nothing. */
export function foldVital(vitals: Vitals, message: unknown, heardMs: number): Vitals {
  const o = obj(message);
  if (num(o.cv) !== vitals.version || vitals.version === null) return vitals;
  if (o.t === "alarm") return foldAlarm(vitals, o);
  const value = o.t === "vital" ? readVital(o, heardMs) : null;
  if (value === null || isOutdated(value, vitals.values[value.code])) return vitals;
  return { ...vitals, values: { ...vitals.values, [value.code]: value } };
}

/**
 * An older value than the one known does not replace it. But a continuous one that is not renewed has had its day, also
 * where its time is ahead of what follows: a device's clock that was set back must not keep its numbers blank for hours.
 */
function isOutdated({ code, atUs, heardMs }: VitalValue, known: VitalValue | undefined): boolean {
  if (known === undefined || known.atUs <= atUs) return false;
  return code === "NIBP" || (heardMs - known.heardMs) * 1000 <= CONTINUOUS_LIMIT_US;
}

function foldAlarm(vitals: Vitals, o: Readonly<Record<string, unknown>>): Vitals {
  const [text, atUs] = [str(o.text).slice(0, MAX_TEXT), num(o.at)];
  if (text === "" || atUs === null) return vitals;
  const alarm = { text, atUs, priority: str(o.prio) };
  const isKnown = vitals.alarms.some((known) => known.atUs === atUs && known.text === text);
  if (isKnown) return vitals;
  const alarms = [alarm, ...vitals.alarms].sort((a, b) => b.atUs - a.atUs);
  const dropped = Math.max(0, alarms.length - MAX_ALARMS);
  return { ...vitals, alarms: alarms.slice(0, MAX_ALARMS), alarmsDropped: vitals.alarmsDropped + dropped };
}

function readVital(o: Readonly<Record<string, unknown>>, heardMs: number): VitalValue | null {
  const code = VITAL_CODES.find((known) => known === o.code);
  const atUs = num(o.at);
  const value = readValue(o.v, code === "NIBP");
  if (code === undefined || atUs === null || value === undefined) return null;
  const quality = o.q === "ok" || o.q === "questionable" ? o.q : "invalid";
  return { code, value, unit: str(o.u).slice(0, 16), atUs, quality, simulated: o.sim === true, heardMs };
}

function readValue(v: unknown, isPressure: boolean): VitalValue["value"] | undefined {
  if (v === null) return null;
  if (!isPressure) return num(v) ?? undefined;
  if (!Array.isArray(v)) return undefined;
  const [sys, dia, mean] = [num(v[0]), num(v[1]), num(v[2])];
  return sys === null || dia === null ? undefined : [sys, dia, mean];
}

/** What a cell of the panel shows. */
export interface VitalCell {
  readonly code: VitalCode;
  /** `absent`: never sent; `blank`: too old, lost or invalid. */
  readonly state: "absent" | "blank" | "doubtful" | "shown";
  /** `97`, `128/74 (92)`, `---`; empty when absent. */
  readonly text: string;
  readonly unit: string;
  /** Time of the measurement; also of one too old to show, so that people see since when. */
  readonly atUs: number | null;
  readonly simulated: boolean;
}

export const BLANK = "---";

/** UCUM as people write it. */
const UNITS: Readonly<Record<string, string>> = {
  "mm[Hg]": "mmHg",
  Cel: "°C",
  "{beats}/min": "/min",
  "{breaths}/min": "/min",
};

/**
 * The cells to show now.
 *
 * @param isLost the path is gone: every number is blank (W12)
 */
export function vitalCells(vitals: Vitals, nowUs: number, nowMs: number, isLost: boolean): readonly VitalCell[] {
  return VITAL_CODES.filter((code) => ALWAYS_SHOWN.includes(code) || vitals.values[code] !== undefined).map((code) => {
    const value = vitals.values[code];
    if (value === undefined) return { code, state: "absent", text: "", unit: "", atUs: null, simulated: false };
    const isBlank = isLost || value.value === null || value.quality === "invalid" || isStale(value, nowUs, nowMs);
    return {
      code,
      state: isBlank ? "blank" : value.quality === "questionable" ? "doubtful" : "shown",
      text: isBlank || value.value === null ? BLANK : valueText(code, value.value),
      unit: UNITS[value.unit] ?? value.unit,
      atUs: value.atUs,
      simulated: value.simulated,
    };
  });
}

/** What is shown is simulated throughout: one mark says it for all. */
export function areAllSimulated(cells: readonly VitalCell[]): boolean {
  const sent = cells.filter(({ state }) => state !== "absent");
  return sent.length > 0 && sent.every(({ simulated }) => simulated);
}

function isStale({ code, atUs, heardMs }: VitalValue, nowUs: number, nowMs: number): boolean {
  const ageUs = nowUs - atUs;
  if (ageUs < -AHEAD_LIMIT_US) return true;
  if (code === "NIBP") return false;
  return ageUs > CONTINUOUS_LIMIT_US || (nowMs - heardMs) * 1000 > CONTINUOUS_LIMIT_US;
}

function valueText(code: VitalCode, value: NonNullable<VitalValue["value"]>): string {
  if (typeof value === "number") return code === "Temp" ? value.toFixed(1) : String(Math.round(value));
  const [sys, dia, mean] = value;
  return `${Math.round(sys)}/${Math.round(dia)}${mean === null ? "" : ` (${Math.round(mean)})`}`;
}
