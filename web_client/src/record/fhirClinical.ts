/** Problems, medication, allergies and encounters as the pane shows them. */
import { type Obj, obj, objs, oneOf, str } from "../common/read";
import {
  firstMoment,
  type Moment,
  readCode,
  readCodeAmong,
  readMoment,
  readNotes,
  readTerm,
  referenceName,
  type Term,
  termOf,
} from "./fhir";

export const CLINICAL_STATUS = [
  "active",
  "recurrence",
  "relapse",
  "inactive",
  "remission",
  "resolved",
  "unknown",
] as const;
export const VERIFICATION = [
  "unconfirmed",
  "provisional",
  "differential",
  "confirmed",
  "refuted",
  "entered-in-error",
] as const;

export interface Problem {
  id: string;
  name: Term;
  code: string;
  status: (typeof CLINICAL_STATUS)[number];
  verification: (typeof VERIFICATION)[number] | null;
  /** Whether it belongs to the list of what the patient has now. */
  current: boolean;
  onset: Moment | null;
  /** Where the record tells the onset in words or as an age. */
  onsetText: string;
  /** When it was written down: no statement of when it began. */
  recorded: Moment | null;
  ended: Moment | null;
  severity: Term | null;
  note: string;
}

/** Condition. */
export function readProblem(resource: Obj): Problem | null {
  const name = readTerm(resource.code);
  if (name === null) return null;
  const status = readCodeAmong(resource.clinicalStatus, CLINICAL_STATUS) ?? "unknown";
  const verification = readCodeAmong(resource.verificationStatus, VERIFICATION);
  const void_ = verification === "refuted" || verification === "entered-in-error";
  return {
    id: str(resource.id),
    name,
    // Hospitals of both sides know ICD-10; SNOMED numbers mean nothing to a reader.
    code: readCode(resource.code, "icd-10"),
    status,
    verification,
    // An unknown status counts as current: hiding it among the past ones would be the graver error.
    current: !void_ && !["inactive", "remission", "resolved"].includes(status),
    onset: firstMoment(resource.onsetDateTime, obj(resource.onsetPeriod).start),
    onsetText: str(resource.onsetString) || quantityText(resource.onsetAge),
    recorded: readMoment(resource.recordedDate),
    ended: firstMoment(resource.abatementDateTime, obj(resource.abatementPeriod).end),
    severity: readTerm(resource.severity),
    note: readNotes(resource.note),
  };
}

/** "52 a" as it stands; empty when there is no number. */
function quantityText(value: unknown): string {
  const quantity = obj(value);
  return typeof quantity.value === "number"
    ? `${quantity.value} ${str(quantity.unit) || str(quantity.code)}`.trim()
    : "";
}

export const MEDICATION_STATUS = [
  "active",
  "on-hold",
  "cancelled",
  "completed",
  "entered-in-error",
  "stopped",
  "draft",
  "intended",
  "not-taken",
  "unknown",
] as const;

export interface Medication {
  id: string;
  name: Term;
  doses: readonly Dose[];
  status: (typeof MEDICATION_STATUS)[number];
  /** Whether the patient is to have it, or has it, now. */
  current: boolean;
  /** An order not to give it. */
  isProhibited: boolean;
  /** Proposed, planned or drafted: nobody has ordered it. */
  isPlanned: boolean;
  since: Moment | null;
  /** When it ended, or is to end. */
  until: Moment | null;
  /** Ordered by somebody here, or only told. */
  source: "order" | "statement";
  reason: Term | null;
  note: string;
}

export interface Dose {
  /** As ordered; empty when the order states none. */
  text: string;
  asNeeded: boolean;
}

/** MedicationRequest. */
export function readMedication(resource: Obj): Medication | null {
  const name =
    readTerm(resource.medicationCodeableConcept) ??
    termOf([referenceName(resource.medicationReference)]) ??
    containedMedication(resource);
  if (name === null) return null;
  const status = oneOf(resource.status, MEDICATION_STATUS, "unknown");
  const isProhibited = resource.doNotPerform === true;
  const isPlanned = status === "draft" || ["proposal", "plan", "option"].includes(str(resource.intent));
  return {
    id: str(resource.id),
    name,
    doses: objs(resource.dosageInstruction).map(readDose),
    status,
    current: !isPlanned && !isProhibited && isStanding(status),
    isProhibited,
    isPlanned,
    since: readMoment(resource.authoredOn),
    until: readUntil(resource, status),
    source: "order",
    reason: readReason(resource),
    note: readNotes(resource.note),
  };
}

/** An unknown status counts: hiding what may be given would be the graver error. */
export const isStanding = (status: Medication["status"]): boolean => ["active", "on-hold", "unknown"].includes(status);

/** End of an order: what its dosage or dispensing says. */
function readUntil(resource: Obj, status: Medication["status"]): Moment | null {
  const bounds = objs(resource.dosageInstruction).map((dosage) => obj(obj(obj(dosage.timing).repeat).boundsPeriod).end);
  const end = firstMoment(...bounds, obj(obj(resource.dispenseRequest).validityPeriod).end);
  // Nothing ends before it is over: a cancelled order never began.
  return status === "cancelled" || status === "draft" ? null : end;
}

/** MedicationStatement: what the patient takes or took by their own or another's account. */
export function readStatement(resource: Obj): Medication | null {
  const name =
    readTerm(resource.medicationCodeableConcept) ??
    termOf([referenceName(resource.medicationReference)]) ??
    containedMedication(resource);
  if (name === null) return null;
  const status = oneOf(resource.status, MEDICATION_STATUS, "unknown");
  const period = obj(resource.effectivePeriod);
  return {
    id: str(resource.id),
    name,
    doses: objs(resource.dosage).map(readDose),
    status,
    current: isStanding(status),
    isProhibited: false,
    isPlanned: status === "intended",
    since: firstMoment(period.start, resource.effectiveDateTime, resource.dateAsserted),
    until: readMoment(period.end),
    source: "statement",
    reason: readReason(resource),
    note: readNotes(resource.note),
  };
}

function containedMedication(resource: Obj): Term | null {
  const wanted = str(obj(resource.medicationReference).reference).replace(/^#/, "");
  const contained = objs(resource.contained).find((part) => part.id === wanted && wanted !== "");
  return contained === undefined ? null : readTerm(contained.code);
}

function readDose(dosage: Obj): Dose {
  return {
    // A dose is never cut or chosen by language: the whole text is the order.
    text: str(dosage.text) || str(dosage.patientInstruction) || composedDose(dosage),
    asNeeded: dosage.asNeededBoolean === true || dosage.asNeededCodeableConcept !== undefined,
  };
}

/** Dose and rhythm from the coded parts, for records that carry no text. */
function composedDose(dosage: Obj): string {
  const given = obj(objs(dosage.doseAndRate)[0]);
  const repeat = obj(obj(dosage.timing).repeat);
  const range = [obj(given.doseRange).low, obj(given.doseRange).high].map(quantityText).filter((one) => one !== "");
  const rate = quantityText(given.rateQuantity);
  const rhythm =
    typeof repeat.frequency === "number" && typeof repeat.period === "number"
      ? `${repeat.frequency}×/${repeat.period === 1 ? "" : repeat.period}${str(repeat.periodUnit)}`
      : (readTerm(obj(dosage.timing).code)?.en ?? "");
  const most = obj(dosage.maxDosePerPeriod);
  const limit = [quantityText(most.numerator), quantityText(most.denominator)].filter((one) => one !== "");
  const parts = [
    quantityText(given.doseQuantity) || range.join(" – "),
    rate,
    rhythm,
    readTerm(dosage.route)?.en ?? "",
    limit.length === 2 ? `≤ ${limit.join(" / ")}` : "",
  ];
  return parts.filter((part) => part !== "").join(", ");
}

export const CRITICALITY = ["high", "low", "unable-to-assess"] as const;
export const SEVERITY = ["severe", "moderate", "mild"] as const;

export interface Allergy {
  id: string;
  substance: Term;
  reactions: readonly Term[];
  /** The worst severity among recorded reactions. */
  severity: (typeof SEVERITY)[number] | null;
  criticality: (typeof CRITICALITY)[number] | null;
  verification: (typeof VERIFICATION)[number] | null;
  status: "active" | "inactive" | "resolved" | null;
  /** False when resolved, refuted or entered in error. */
  current: boolean;
  /** A statement that there is none ("no known drug allergies"): somebody asked. An empty list is no such thing. */
  isNone: boolean;
  isIntolerance: boolean;
  recorded: Moment | null;
  note: string;
}

/** SNOMED CT: no known allergy; of drugs, food, environment, insects, animals, latex. */
const NONE_KNOWN = [
  "716186003",
  "409137002",
  "429625007",
  "428607008",
  "428197003",
  "716220001",
  "1003774007",
] as const;
const NONE_WORDS =
  /^(nkd?a|no known (drug |food |medication |environmental |latex )?allerg(y|ies)|(无|否认|未发现)(已知)?(的)?(药物|食物)?((、|及|和|或)(药物|食物))?过敏史?)[.。]?$/i;

/** AllergyIntolerance. */
export function readAllergy(resource: Obj): Allergy | null {
  const reactions = objs(resource.reaction);
  const substance = readTerm(resource.code) ?? reactions.map((reaction) => readTerm(reaction.substance))[0] ?? null;
  if (substance === null) return null;
  const severities = reactions.map((reaction) => reaction.severity);
  const verification = readCodeAmong(resource.verificationStatus, VERIFICATION);
  const status = readCodeAmong(resource.clinicalStatus, ["active", "inactive", "resolved"]);
  return {
    id: str(resource.id),
    substance,
    reactions: reactions.flatMap((reaction) => objs(reaction.manifestation).flatMap((one) => readTerm(one) ?? [])),
    severity: SEVERITY.find((severity) => severities.includes(severity)) ?? null,
    criticality: CRITICALITY.find((criticality) => criticality === resource.criticality) ?? null,
    verification,
    status,
    isNone: readCodeAmong(resource.code, NONE_KNOWN) !== null || NONE_WORDS.test(substance.whole ?? substance.en),
    isIntolerance: resource.type === "intolerance",
    current:
      verification !== "refuted" &&
      verification !== "entered-in-error" &&
      status !== "inactive" &&
      status !== "resolved",
    recorded: firstMoment(resource.recordedDate, resource.onsetDateTime, resource.lastOccurrence),
    note: readNotes(resource.note),
  };
}

export interface Encounter {
  id: string;
  kind: Term;
  place: string;
  start: Moment | null;
  end: Moment | null;
  /** Inpatient, outpatient, emergency ... (v3-ActCode); empty when not told. */
  kindCode: string;
  status: string;
  open: boolean;
  /** It did not take place, or was written down by mistake. */
  isVoid: boolean;
  reason: Term | null;
}

/** Encounter. */
export function readEncounter(resource: Obj): Encounter | null {
  const encounterClass = obj(resource.class);
  const kind =
    objs(resource.type)
      .map(readTerm)
      .find((term) => term !== null) ?? termOf([str(encounterClass.display), str(encounterClass.code)]);
  if (kind === null || kind === undefined) return null;
  const period = obj(resource.period);
  return {
    id: str(resource.id),
    kind,
    place: referenceName(resource.serviceProvider) || referenceName(obj(objs(resource.location)[0]).location),
    start: readMoment(period.start),
    end: readMoment(period.end),
    kindCode: str(encounterClass.code),
    status: str(resource.status),
    open: ["arrived", "triaged", "in-progress", "onleave"].includes(str(resource.status)),
    isVoid: resource.status === "cancelled" || resource.status === "entered-in-error",
    reason: readReason(resource),
  };
}

export function readReason(resource: Obj): Term | null {
  const coded = objs(resource.reasonCode).flatMap((concept) => readTerm(concept) ?? []);
  return coded[0] ?? termOf(objs(resource.reasonReference).map(referenceName));
}
