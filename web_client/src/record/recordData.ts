/**
 * The open patient's record, loaded for exactly one context version (W19, W24).
 *
 * All resource types are asked for as soon as the context opens, so a page turn
 * paints at once. The version is part of every request and of every cache key,
 * and an answer that names another version is thrown away: data of a former
 * patient can neither land late nor be found in the cache. Unmounting aborts
 * what is still under way and forgets the rest.
 */
import { useQuery } from "@tanstack/react-query";
import { createContext, useContext } from "react";
import { type Answer, ApiError, type Http, useHttp } from "../common/http";
import { worthRetrying } from "../common/queries";
import type { Obj } from "../common/read";
import { type Entries, readEntries } from "./fhir";
import {
  type Allergy,
  type Encounter,
  type Medication,
  type Problem,
  readAllergy,
  readEncounter,
  readMedication,
  readProblem,
} from "./fhirClinical";
import { type Document, type Report, readDocument, readReport } from "./fhirDocuments";
import { type LabValue, readResults } from "./fhirLabs";
import type { Page } from "./types";

/** The open context, as every request of the pane names it. */
export interface RecordContext {
  consultId: string;
  version: number;
  patientId: string;
}

export type Loaded<T> =
  | { state: "loading" }
  | { state: "error"; error: unknown; retry: () => void }
  | { state: "ready"; entries: Entries<T> };

export interface RecordData {
  problems: Loaded<Problem>;
  medications: Loaded<Medication>;
  allergies: Loaded<Allergy>;
  results: Loaded<LabValue>;
  reports: Loaded<Report>;
  documents: Loaded<Document>;
  encounters: Loaded<Encounter>;
}

export function useRecordData(context: RecordContext): RecordData {
  return {
    problems: useEntries(context, "Condition", readProblem),
    medications: useEntries(context, "MedicationRequest", readMedication),
    allergies: useEntries(context, "AllergyIntolerance", readAllergy),
    results: useEntries(context, "Observation", readResults),
    reports: useEntries(context, "DiagnosticReport", readReport),
    documents: useEntries(context, "DocumentReference", readDocument),
    encounters: useEntries(context, "Encounter", readEncounter),
  };
}

const recordPath = (context: RecordContext, rest: string): string =>
  `/api/consults/${encodeURIComponent(context.consultId)}/record/${rest}?version=${context.version}`;

function useEntries<T>(
  context: RecordContext,
  type: string,
  read: (resource: Obj) => T | readonly T[] | null,
): Loaded<T> {
  const http = useHttp();
  const query = useQuery({
    queryKey: ["record", context.consultId, context.version, context.patientId, type],
    queryFn: async ({ signal }) => {
      const answer = await http.getAnswer(recordPath(context, type), (body) => body, { signal });
      return readEntries(ofVersion(answer, context.version), type, context.patientId, read);
    },
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
    refetchOnWindowFocus: false,
    retry: worthRetrying,
  });
  if (query.data !== undefined) return { state: "ready", entries: query.data };
  if (query.error !== null) return { state: "error", error: query.error, retry: () => void query.refetch() };
  return { state: "loading" };
}

/** The answer's value, or a refusal when it belongs to another context version. */
export function ofVersion<T>(answer: Answer<T>, version: number): T {
  if (answer.headers.get("X-Context-Version") !== String(version)) {
    throw new ApiError(
      409,
      "context_changed",
      "The open patient has changed; this answer belongs to another one.",
      "当前患者已变更，此内容属于另一位患者。",
    );
  }
  return answer.value;
}

/** The bytes of a document of this context. */
export async function fetchBinary(
  http: Http,
  context: RecordContext,
  binaryId: string,
  signal: AbortSignal,
): Promise<Blob> {
  const path = recordPath(context, `Binary/${encodeURIComponent(binaryId)}`);
  const answer = await http.getBlob(path, { signal, timeoutMs: 30_000 });
  return ofVersion(answer, context.version);
}

/** What the pages of the pane stand on. */
export interface PaneContext {
  context: RecordContext;
  data: RecordData;
  /** Open a page or an entry; what that means (lead, follow, alone) is the pane's affair. */
  go: (page: Page, item?: string) => void;
  /** No one operates a wall: entries are not buttons there. */
  wall: boolean;
}

export const PaneContextValue = createContext<PaneContext | null>(null);

export function usePane(): PaneContext {
  const pane = useContext(PaneContextValue);
  if (pane === null) throw new Error("usePane outside RecordPane");
  return pane;
}
