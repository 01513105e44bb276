/**
 * Observations as results, grouped by test with what a trend needs.
 *
 * Only numbers that were reported as numbers are drawn: "<0.01" is a bound and
 * stays text. A trend never mixes units. Results entered in error or cancelled
 * are neither the latest nor drawn.
 */
import { num, type Obj, obj, objs, str } from "../common/read";
import { firstMoment, type Moment, newestFirst, plainTerm, readCode, readNotes, readTerm, type Term } from "./fhir";

export type Flag = "HH" | "H" | "N" | "L" | "LL" | "A" | "AA" | "none";

export interface Range {
  low: number | null;
  high: number | null;
  text: string;
}

export interface LabValue {
  id: string;
  code: string;
  name: Term;
  /** The number to draw; null when the result is not a plain number. */
  number: number | null;
  /** As shown, comparator included, without the unit. */
  text: Term;
  unit: string;
  range: Range | null;
  flag: Flag;
  at: Moment | null;
  group: "laboratory" | "vital-signs" | "other";
  /** Entered in error or cancelled: listed struck through, never counted. */
  void: boolean;
  note: string;
}

export interface LabSeries {
  code: string;
  name: Term;
  group: LabValue["group"];
  /** Newest first. */
  values: readonly LabValue[];
  /** The newest value that counts; null when all are void. */
  latest: LabValue | null;
  /** Oldest first, plain numbers in the latest value's unit. */
  drawn: readonly { ms: number; value: number }[];
  /** Units left out of the drawing. */
  otherUnits: readonly string[];
}

const FLAG_CODES: Readonly<Record<string, Flag>> = {
  HH: "HH",
  HU: "HH",
  H: "H",
  LL: "LL",
  LU: "LL",
  L: "L",
  N: "N",
  NEG: "N",
  A: "A",
  POS: "A",
  AA: "AA",
};

/** Observation: one result, or one per component (blood pressure). */
export function readResults(resource: Obj): readonly LabValue[] | null {
  const own = readResult(resource, resource, str(resource.id));
  const parts = objs(resource.component).flatMap((component, index) => {
    const part = readResult(resource, component, `${str(resource.id)}.${index + 1}`);
    return part ?? [];
  });
  const all = own === null ? parts : [own, ...parts];
  return all.length === 0 ? null : all;
}

function readResult(resource: Obj, part: Obj, id: string): LabValue | null {
  const name = readTerm(part.code);
  const value = readValue(part);
  if (name === null || value === null) return null;
  const range = readRange(part) ?? (part === resource ? null : readRange(resource));
  return {
    id,
    // It becomes the shared view's item, which holds 64 letters.
    code: (readCode(part.code) || name.en).slice(0, 64),
    name,
    ...value,
    range,
    flag: readFlag(part.interpretation) ?? flagFromRange(value.number, range),
    at: firstMoment(
      resource.effectiveDateTime,
      obj(resource.effectivePeriod).start,
      resource.effectiveInstant,
      resource.issued,
    ),
    group: readGroup(resource),
    void: resource.status === "entered-in-error" || resource.status === "cancelled",
    note: readNotes(resource.note),
  };
}

function readValue(part: Obj): Pick<LabValue, "number" | "text" | "unit"> | null {
  const quantity = obj(part.valueQuantity);
  const value = num(quantity.value) ?? num(part.valueInteger);
  if (value !== null) {
    const comparator = str(quantity.comparator);
    const text = `${comparator}${value}`;
    return {
      number: comparator === "" ? value : null,
      text: { en: text, zh: text, whole: null },
      unit: str(quantity.unit) || str(quantity.code),
    };
  }
  const words =
    readTerm(part.valueCodeableConcept) ?? plainTerm(str(part.valueString)) ?? readTerm(part.dataAbsentReason);
  return words === null ? null : { number: null, text: words, unit: "" };
}

function readRange(part: Obj): Range | null {
  const first = objs(part.referenceRange)[0];
  if (first === undefined) return null;
  const low = num(obj(first.low).value);
  const high = num(obj(first.high).value);
  const text = str(first.text) || rangeText(low, high);
  return text === "" ? null : { low, high, text };
}

function rangeText(low: number | null, high: number | null): string {
  if (low !== null && high !== null) return `${low} – ${high}`;
  if (high !== null) return `≤ ${high}`;
  return low === null ? "" : `≥ ${low}`;
}

/** The laboratory's own rating. */
function readFlag(interpretation: unknown): Flag | null {
  for (const concept of objs(interpretation)) {
    const flag = FLAG_CODES[readCode(concept)];
    if (flag !== undefined) return flag;
  }
  return null;
}

/** Plain arithmetic where the laboratory did not rate; never "critical", that is a judgement. */
function flagFromRange(value: number | null, range: Range | null): Flag {
  if (value === null || range === null || (range.low === null && range.high === null)) return "none";
  if (range.high !== null && value > range.high) return "H";
  return range.low !== null && value < range.low ? "L" : "N";
}

function readGroup(resource: Obj): LabValue["group"] {
  const codes = objs(resource.category).map((concept) => readCode(concept));
  if (codes.includes("laboratory")) return "laboratory";
  return codes.includes("vital-signs") ? "vital-signs" : "other";
}

export const isOutOfRange = (flag: Flag): boolean => flag !== "N" && flag !== "none";
export const isCritical = (flag: Flag): boolean => flag === "HH" || flag === "LL" || flag === "AA";

/** Critical results first, then those out of range, then the others; within each, by the record's order. */
const urgency = ({ latest }: LabSeries): number =>
  latest === null || !isOutOfRange(latest.flag) ? 2 : isCritical(latest.flag) ? 0 : 1;

/** Group results by code; the most urgent tests first. */
export function groupResults(values: readonly LabValue[]): readonly LabSeries[] {
  const byCode = new Map<string, LabValue[]>();
  for (const value of values) {
    const group = byCode.get(value.code);
    if (group === undefined) byCode.set(value.code, [value]);
    else group.push(value);
  }
  const all = [...byCode].map(([code, group]) =>
    seriesOf(
      code,
      newestFirst(group, (value) => value.at),
    ),
  );
  return all.toSorted((a, b) => urgency(a) - urgency(b));
}

function seriesOf(code: string, values: readonly LabValue[]): LabSeries {
  const valid = values.filter((value) => !value.void);
  const latest = valid[0] ?? null;
  const any = latest ?? values[0];
  if (any === undefined) throw new Error("a series has at least one value");
  const numeric = valid.filter((value) => value.number !== null && value.at !== null);
  const drawn = numeric
    .filter((value) => value.unit === any.unit)
    .map((value) => ({ ms: value.at?.ms ?? 0, value: value.number ?? 0 }))
    .reverse();
  const otherUnits = new Set(numeric.map((value) => value.unit).filter((unit) => unit !== any.unit));
  return { code, name: any.name, group: any.group, values, latest, drawn, otherUnits: [...otherUnits] };
}
