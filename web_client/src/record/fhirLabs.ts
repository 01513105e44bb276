/**
 * Observations as results, grouped by test with what a trend needs.
 *
 * Only numbers that were reported as numbers are drawn: "<0.01" is a bound and
 * stays text. A trend never mixes units, a test never two code systems, and a
 * value is never rated by a range in another unit or by one of several ranges.
 * Results entered in error or cancelled are neither the latest nor drawn. A
 * rating says whether the laboratory gave it or the range did.
 */
import { num, type Obj, obj, objs, oneOf, str } from "../common/read";
import { contentKey } from "../share/shape";
import { firstMoment, type Moment, newestFirst, plainTerm, readCode, readNotes, readTerm, type Term } from "./fhir";

export const RESULT_STATUS = [
  "registered",
  "preliminary",
  "final",
  "amended",
  "corrected",
  "cancelled",
  "entered-in-error",
  "unknown",
] as const;

export type Flag = "HH" | "H" | "N" | "L" | "LL" | "A" | "AA" | "none";

export interface Range {
  low: number | null;
  high: number | null;
  text: string;
}

export interface LabValue {
  id: string;
  /** Names the test, here and in the shared view: the same for the same code of the same system. */
  code: string;
  name: Term;
  /** The number to draw; null when the result is not a plain number. */
  number: number | null;
  /** As shown, comparator included, without the unit. */
  text: Term;
  unit: string;
  /** UCUM code of the unit, empty when it has none. */
  unitCode: string;
  range: Range | null;
  flag: Flag;
  /** Whether the flag is plain arithmetic here, the laboratory having said nothing. */
  isRatedHere: boolean;
  /** What the laboratory said of it, when that is none of the flags. */
  rating: Term | null;
  status: (typeof RESULT_STATUS)[number];
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
  // Off the instrument's scale, and words of microbiology and serology.
  ">": "H",
  HX: "H",
  "<": "L",
  LX: "L",
  DET: "A",
  RR: "A",
  WR: "A",
  R: "A",
  ND: "N",
  NR: "N",
};

/** The more urgent comes first. */
const URGENCY: readonly Flag[] = ["HH", "LL", "AA", "H", "L", "A", "N", "none"];

export const graver = (a: LabValue, b: LabValue | null): LabValue =>
  b === null || URGENCY.indexOf(a.flag) <= URGENCY.indexOf(b.flag) ? a : b;

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
  const { bound, ...shown } = value;
  const units = [shown.unit, shown.unitCode];
  const range = readRange(part, units) ?? (part === resource ? null : readRange(resource, units));
  const given = readFlag(part.interpretation);
  const status = oneOf(resource.status, RESULT_STATUS, "unknown");
  return {
    id,
    code: keyOf(part.code, name),
    name,
    ...shown,
    range,
    flag: given ?? flagFromRange(bound, range),
    isRatedHere: given === null,
    rating: given === null ? (objs(part.interpretation).map(readTerm)[0] ?? null) : null,
    status,
    at: firstMoment(
      resource.effectiveDateTime,
      obj(resource.effectivePeriod).start,
      resource.effectiveInstant,
      resource.issued,
    ),
    group: readGroup(resource),
    void: status === "entered-in-error" || status === "cancelled",
    note: readNotes(resource.note),
  };
}

/** The shared view's item holds 64 letters, and parts of a place are set off by semicolons. */
const MOST_LETTERS = 64;

function keyOf(concept: unknown, name: Term): string {
  const code = readCode(concept, "loinc");
  const system = str(objs(obj(concept).coding).find((coding) => coding.code === code)?.system);
  const key = (code || name.en).replaceAll(";", " ");
  // A hospital's own "K" may be anything in another hospital.
  const full =
    code === "" || system === "" || system.includes("loinc") ? key : `${key}@${contentKey(system).slice(0, 8)}`;
  return full.length <= MOST_LETTERS ? full : `${full.slice(0, MOST_LETTERS - 17)}~${contentKey(full)}`;
}

/** The code to search all results of a test by. */
export const tokenOf = (key: string): string => /^(.*)@[0-9a-f]{8}$/.exec(key)?.[1] ?? key;

/** A number, or what is known of it: above, below. */
interface Bound {
  value: number;
  comparator: string;
}

function readValue(
  part: Obj,
): (Pick<LabValue, "number" | "text" | "unit" | "unitCode"> & { bound: Bound | null }) | null {
  const quantity = obj(part.valueQuantity);
  const value = num(quantity.value) ?? num(part.valueInteger);
  if (value !== null) {
    const comparator = str(quantity.comparator);
    const text = `${comparator}${value}`;
    return {
      number: comparator === "" ? value : null,
      text: { en: text, zh: text, whole: null },
      unit: str(quantity.unit) || str(quantity.code),
      unitCode: str(quantity.code),
      bound: { value, comparator },
    };
  }
  const words =
    readTerm(part.valueCodeableConcept) ?? plainTerm(str(part.valueString)) ?? readTerm(part.dataAbsentReason);
  return words === null ? null : { number: null, text: words, unit: "", unitCode: "", bound: null };
}

/**
 * The reference range. Limits are given only where they are sure to be meant for this value: one normal range in the
 * value's own unit. Several (by sex, by age), another unit or a therapeutic range are told as text and rate nothing.
 */
function readRange(part: Obj, units: readonly string[]): Range | null {
  const all = objs(part.referenceRange);
  const normal = all.filter((one) => ["", "normal"].includes(readCode(one.type)));
  const told = normal.length > 0 ? normal : all;
  const texts = told.map((one) => describedRange(one, units)).filter((text) => text !== "");
  const [only] = normal;
  if (texts.length === 0) return null;
  const text = texts.join("; ");
  if (only === undefined || normal.length > 1 || !isInUnit(only, units)) return { low: null, high: null, text };
  return { low: num(obj(only.low).value), high: num(obj(only.high).value), text };
}

function describedRange(range: Obj, units: readonly string[]): string {
  const limits = str(range.text) || rangeText(num(obj(range.low).value), num(obj(range.high).value));
  if (limits === "") return "";
  const kind = readCode(range.type) === "normal" ? null : readTerm(range.type);
  const whom = [kind, ...objs(range.appliesTo).map(readTerm)].flatMap((term) => (term === null ? [] : [term.en]));
  const unit = isInUnit(range, units) ? "" : ` ${unitsOf(range)[0] ?? ""}`;
  return `${[...whom, ""].join(" ")}${limits}${unit}`;
}

const unitsOf = (range: Obj): readonly string[] =>
  [range.low, range.high]
    .flatMap((limit) => [str(obj(limit).unit), str(obj(limit).code)])
    .filter((unit) => unit !== "");

/** A range that names no unit is in the value's; one of the names must agree otherwise. */
function isInUnit(range: Obj, units: readonly string[]): boolean {
  const named = unitsOf(range);
  return named.length === 0 || named.some((unit) => units.includes(unit));
}

function rangeText(low: number | null, high: number | null): string {
  if (low !== null && high !== null) return `${low} – ${high}`;
  if (high !== null) return `≤ ${high}`;
  return low === null ? "" : `≥ ${low}`;
}

/** The laboratory's own rating, the gravest when it gave several; null when it gave none that is known here. */
function readFlag(interpretation: unknown): Flag | null {
  const given = objs(interpretation)
    .flatMap((concept) => objs(concept.coding))
    .flatMap((coding) => FLAG_CODES[str(coding.code)] ?? []);
  return URGENCY.find((flag) => given.includes(flag)) ?? null;
}

/** Plain arithmetic where the laboratory did not rate; never "critical", that is a judgement. */
function flagFromRange(bound: Bound | null, range: Range | null): Flag {
  if (bound === null || range === null || (range.low === null && range.high === null)) return "none";
  const { value, comparator } = bound;
  const [low, high] = [range.low ?? Number.NEGATIVE_INFINITY, range.high ?? Number.POSITIVE_INFINITY];
  // Of "above 50" nothing is known but that: it is high when 50 is, else it may be anything above.
  if (comparator.startsWith(">")) return value > high || (comparator === ">" && value >= high) ? "H" : "none";
  if (comparator.startsWith("<")) {
    if (value < low || (comparator === "<" && value <= low)) return "L";
    return range.low === null && value <= high ? "N" : "none";
  }
  if (comparator !== "") return "none";
  if (value > high) return "H";
  return value < low ? "L" : "N";
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
    .filter((value) => isSameUnit(value, any))
    .map((value) => ({ ms: value.at?.ms ?? 0, value: value.number ?? 0 }))
    .reverse();
  const otherUnits = new Set(numeric.filter((value) => !isSameUnit(value, any)).map(({ unit }) => unit || "?"));
  return { code, name: any.name, group: any.group, values, latest, drawn, otherUnits: [...otherUnits] };
}

/** The same word, and no two codes that contradict it. */
const isSameUnit = (a: LabValue, b: LabValue): boolean =>
  a.unit === b.unit && (a.unitCode === b.unitCode || a.unitCode === "" || b.unitCode === "");
