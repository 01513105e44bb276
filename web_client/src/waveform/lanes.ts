/**
 * Which lead stands where, and what it is made of.
 *
 * A lane shows a lead the device sends, or one of III, aVR, aVL and aVF computed from I and
 * II where the device does not send it (W7), or nothing: then its slot stays, empty and
 * named (W31). In Cabrera order the limb leads follow their angle and aVR is turned over;
 * the label says "-aVR". Pure.
 */

import type { EcgLayout, EcgOrder } from "./settings";

/** One part of a lane's value: `weight` times the sample of the stream's row `lead`. */
export interface Term {
  readonly lead: number;
  readonly weight: number;
}

export interface Lane {
  /** What is written beside it. */
  readonly label: string;
  /** The lead itself: "aVR" also where "-aVR" is shown. */
  readonly name: string;
  /** -1 where the lead is shown turned over. */
  readonly sign: 1 | -1;
  /** Empty when the device sends neither the lead nor what it could be computed from. */
  readonly terms: readonly Term[];
  readonly derived: boolean;
}

export interface LaneRequest {
  readonly leads: readonly string[];
  readonly layout: Exclude<EcgLayout, "auto">;
  readonly order: EcgOrder;
  readonly rhythm: readonly string[];
}

/** A row of the page: its lanes from left to right, and into how many columns the row is cut. */
export interface LaneRow {
  readonly columns: number;
  readonly lanes: readonly Lane[];
}

const CHEST = ["V1", "V2", "V3", "V4", "V5", "V6"] as const;
const LIMB: Readonly<Record<EcgOrder, readonly string[]>> = {
  standard: ["I", "II", "III", "aVR", "aVL", "aVF"],
  cabrera: ["aVL", "I", "-aVR", "II", "aVF", "III"],
};
/** Einthoven and Goldberger: shares of I and of II. */
const DERIVED: Readonly<Record<string, readonly [one: number, two: number]>> = {
  iii: [-1, 1],
  avr: [-0.5, -0.5],
  avl: [1, -0.5],
  avf: [-0.5, 1],
};
const MAX_RHYTHM = 3;
/** With fewer of the standard leads a page of twelve slots would be mostly empty. */
const TWELVE_LEAD_FROM = 6;

/** Rows of the page, from above. */
export function laneRows(request: LaneRequest): readonly LaneRow[] {
  const { leads, layout, order } = request;
  const rhythm = rhythmLanes(request);
  if (layout === "rhythm") return rhythm.map(single);
  if (!isTwelveLead(leads)) return fewLanes(leads, order).map(single);
  const standard = [...LIMB[order], ...CHEST].map((name) => laneOf(name, leads));
  const extra = leads.filter((name) => !isStandard(name)).map((name) => laneOf(name, leads));
  if (layout === "12x1") return [...standard, ...extra].map(single);
  const columns = layout === "6x2" ? 2 : 4;
  const height = standard.length / columns;
  const rows = Array.from({ length: height }, (_, r) => ({
    columns,
    lanes: standard.filter((_lane, i) => i % height === r),
  }));
  for (let i = 0; i < extra.length; i += columns) rows.push({ columns, lanes: extra.slice(i, i + columns) });
  return layout === "3x4+1" ? [...rows, ...rhythm.slice(0, 1).map(single)] : rows;
}

/** Whether enough of the twelve standard leads are sent to lay them out as such. */
export function isTwelveLead(leads: readonly string[]): boolean {
  return leads.filter(isStandard).length >= TWELVE_LEAD_FROM;
}

/** A monitor's few leads as they come; with I and II all six limb leads can be shown. */
function fewLanes(leads: readonly string[], order: EcgOrder): readonly Lane[] {
  if (!has(leads, "I") || !has(leads, "II")) return leads.map((name) => laneOf(name, leads));
  const others = leads.filter((name) => !has(LIMB.standard, name));
  return [...LIMB[order], ...others].map((name) => laneOf(name, leads));
}

/** The lane of one lead; a leading "-" turns it over. */
export function laneOf(label: string, leads: readonly string[]): Lane {
  const sign = label.startsWith("-") ? -1 : 1;
  const name = sign < 0 ? label.slice(1) : label;
  const sent = indexOf(leads, name);
  if (sent >= 0) return { label, name, sign, terms: [{ lead: sent, weight: sign }], derived: false };
  const shares = DERIVED[name.toLowerCase()];
  const [one, two] = [indexOf(leads, "I"), indexOf(leads, "II")];
  if (shares === undefined || one < 0 || two < 0) return { label, name, sign, terms: [], derived: false };
  const terms = [
    { lead: one, weight: sign * shares[0] },
    { lead: two, weight: sign * shares[1] },
  ];
  return { label, name, sign, terms, derived: true };
}

function rhythmLanes({ leads, rhythm }: LaneRequest): readonly Lane[] {
  const usual = isTwelveLead(leads) || leads.length === 0 ? ["II", "V1"] : leads;
  return (rhythm.length > 0 ? rhythm : usual).slice(0, MAX_RHYTHM).map((name) => laneOf(name, leads));
}

const single = (lane: Lane): LaneRow => ({ columns: 1, lanes: [lane] });

const isStandard = (name: string): boolean => has([...LIMB.standard, ...CHEST], name);

const has = (names: readonly string[], name: string): boolean => indexOf(names, name) >= 0;

function indexOf(names: readonly string[], name: string): number {
  return names.findIndex((candidate) => candidate.toLowerCase() === name.toLowerCase());
}
