/**
 * Vital signs: one card for each, in the order of a bedside chart, with the time of its own latest value.
 *
 * Values measured at different times are never shown as one moment: each card has its own time. Systolic and diastolic
 * pressure make one value only when they come from one measurement.
 */
import type { Term } from "./fhir";
import { graver, groupResults, type LabSeries, type LabValue } from "./fhirLabs";

/** LOINC codes that mean the same sign; the first names it. */
export const SIGNS = {
  heartRate: ["8867-4", "76282-3", "8889-8"],
  systolic: ["8480-6", "76534-7"],
  diastolic: ["8462-4", "76535-4"],
  spo2: ["59408-5", "2708-6"],
  temperature: ["8310-5", "8331-1", "8328-7", "8329-5"],
  respiration: ["9279-1", "76270-8"],
  weight: ["29463-7", "3141-9"],
  height: ["8302-2"],
  bmi: ["39156-5"],
} as const;

export type Sign = keyof typeof SIGNS;

export interface VitalCard {
  /** Names the card in the shared view. */
  code: string;
  name: Term;
  /** Systolic with diastolic for a pressure, else one. */
  series: readonly [LabSeries] | readonly [LabSeries, LabSeries];
  latest: LatestVital | null;
}

export interface LatestVital {
  text: string;
  unit: string;
  value: LabValue;
  /** The diastolic half, when both were measured at once. */
  second: LabValue | null;
  /** Whichever half is rated the graver. */
  rated: LabValue;
}

/** The cards: known signs first, then everything else that was recorded as a vital sign. */
export function vitalCards(values: readonly LabValue[]): readonly VitalCard[] {
  const renamed = values.map((value) => ({ ...value, code: canonical(value.code) }));
  const all = new Map(groupResults(renamed).map((series) => [series.code, series]));
  const cards: VitalCard[] = [];
  const take = (sign: Sign): LabSeries | undefined => {
    const found = all.get(SIGNS[sign][0]);
    all.delete(SIGNS[sign][0]);
    return found;
  };
  for (const sign of Object.keys(SIGNS) as Sign[]) {
    if (sign === "diastolic") continue;
    const series = take(sign);
    const diastolic = sign === "systolic" ? take("diastolic") : undefined;
    if (series !== undefined) cards.push(cardOf(series, diastolic));
    else if (diastolic !== undefined) cards.push(cardOf(diastolic));
  }
  return [...cards, ...[...all.values()].map((series) => cardOf(series))];
}

function canonical(code: string): string {
  const sign = Object.values(SIGNS).find((codes) => (codes as readonly string[]).includes(code));
  return sign?.[0] ?? code;
}

function cardOf(series: LabSeries, second?: LabSeries): VitalCard {
  const { latest } = series;
  const partner = second?.latest ?? null;
  const together = latest !== null && partner !== null && sameMeasurement(latest, partner) ? partner : null;
  return {
    code: series.code,
    name: series.name,
    series: second === undefined ? [series] : [series, second],
    latest:
      latest === null
        ? null
        : {
            text: together === null ? latest.text.en : `${latest.text.en}/${together.text.en}`,
            unit: latest.unit,
            value: latest,
            second: together,
            rated: graver(latest, together),
          },
  };
}

/** Components of one Observation carry its id and their number. */
const sameMeasurement = (a: LabValue, b: LabValue): boolean =>
  a.id.replace(/\.\d+$/, "") === b.id.replace(/\.\d+$/, "") && a.at?.ms === b.at?.ms && a.unit === b.unit;

/** Rows of a card's table, newest first; the two halves of a pressure side by side when measured at once. */
export function vitalRows(card: VitalCard): readonly { value: LabValue; second: LabValue | null }[] {
  const [first, other] = card.series;
  const left = [...(other?.values ?? [])];
  const rows = first.values.map((value) => {
    const at = left.findIndex((one) => sameMeasurement(value, one));
    const [second = null] = at < 0 ? [] : left.splice(at, 1);
    return { value, second };
  });
  const alone = left.map((value) => ({ value, second: null }));
  return [...rows, ...alone].toSorted((a, b) => timeOf(b) - timeOf(a));
}

const timeOf = ({ value }: { value: LabValue }): number => value.at?.ms ?? Number.NEGATIVE_INFINITY;
