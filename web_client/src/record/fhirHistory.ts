/** What was done to the patient, and when: procedures and immunizations. */
import { type Obj, obj, objs, oneOf, str } from "../common/read";
import { firstMoment, type Moment, readNotes, readTerm, referenceName, type Term } from "./fhir";
import { readReason } from "./fhirClinical";

export const EVENT_STATUS = [
  "preparation",
  "in-progress",
  "not-done",
  "on-hold",
  "stopped",
  "completed",
  "entered-in-error",
  "unknown",
] as const;

export interface Procedure {
  id: string;
  name: Term;
  status: (typeof EVENT_STATUS)[number];
  at: Moment | null;
  end: Moment | null;
  by: string;
  place: string;
  site: Term | null;
  outcome: Term | null;
  reason: Term | null;
  note: string;
}

/** Procedure. */
export function readProcedure(resource: Obj): Procedure | null {
  const name = readTerm(resource.code);
  if (name === null) return null;
  const period = obj(resource.performedPeriod);
  return {
    id: str(resource.id),
    name,
    status: oneOf(resource.status, EVENT_STATUS, "unknown"),
    at: firstMoment(resource.performedDateTime, period.start),
    end: firstMoment(period.end),
    by: objs(resource.performer)
      .map((one) => referenceName(one.actor))
      .filter((one) => one !== "")
      .join(", "),
    place: referenceName(resource.location),
    site: firstTerm(resource.bodySite),
    outcome: readTerm(resource.outcome),
    reason: readReason(resource),
    note: readNotes(resource.note),
  };
}

export interface Immunization {
  id: string;
  name: Term;
  status: (typeof EVENT_STATUS)[number];
  at: Moment | null;
  lot: string;
  dose: string;
  note: string;
}

/** Immunization. */
export function readImmunization(resource: Obj): Immunization | null {
  const name = readTerm(resource.vaccineCode);
  if (name === null) return null;
  const protocol = obj(objs(resource.protocolApplied)[0]);
  const number = protocol.doseNumberPositiveInt;
  return {
    id: str(resource.id),
    name,
    status: oneOf(resource.status, EVENT_STATUS, "unknown"),
    at: firstMoment(resource.occurrenceDateTime),
    lot: str(resource.lotNumber),
    dose: typeof number === "number" ? String(number) : str(protocol.doseNumberString),
    note: readNotes(resource.note),
  };
}

const firstTerm = (concepts: unknown): Term | null => readTerm(objs(concepts)[0]);
