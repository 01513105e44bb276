/**
 * The open patient's record, loaded for exactly one opening of that patient (W19, W24).
 *
 * When the context opens, the newest page of each kind is asked for, so that a
 * page turn paints at once and a patient of ten thousand entries opens like any
 * other; what the shown page does not need waits until that page stands. What must be known whole (problems, medication, allergies) is then
 * fetched on to its end; of the rest, older pages come when somebody asks.
 * A list that is not complete says so.
 *
 * The opening is part of every cache key and the context version of every
 * request, and an answer that names another version than it was asked for is
 * thrown away: data of a former patient can neither land late nor be found in
 * the cache. Unmounting aborts what is still under way and forgets the rest. A
 * version that rises while the patient stays ([AN2]) keeps what is there; a
 * request that it overtook is made again with the new one.
 */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { createContext, useContext, useEffect, useLayoutEffect, useMemo, useRef } from "react";
import { type Answer, ApiError, type Http, useHttp } from "../common/http";
import { worthRetrying } from "../common/queries";
import { num, type Obj, obj, objs, str } from "../common/read";
import { isNote } from "../share/notes";
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
  readStatement,
} from "./fhirClinical";
import { type Document, type Report, readDocument, readReport } from "./fhirDocuments";
import { type Immunization, type Procedure, readImmunization, readProcedure } from "./fhirHistory";
import { type ImagingSeries, readImaging } from "./fhirImaging";
import { type LabValue, readResults } from "./fhirLabs";
import type { Page } from "./types";

/** The open context, as every request of the pane names it. */
export interface RecordContext {
  readonly consultId: string;
  readonly patientId: string;
  /** Names this opening of the patient; part of every cache key. */
  readonly opening: string;
  /** The version as it is now, for one request. */
  readonly version: () => number;
}

/** The same object for as long as the opening lasts; its version follows the consult's. */
export function useRecordContext(
  consultId: string,
  patientId: string,
  opening: string,
  version: number,
): RecordContext {
  const newest = useRef(version);
  useLayoutEffect(() => {
    newest.current = version;
  }, [version]);
  return useMemo(
    () => ({ consultId, patientId, opening, version: () => newest.current }),
    [consultId, patientId, opening],
  );
}

/** Key of an answer of this opening. */
export const recordKey = (context: RecordContext, ...rest: readonly unknown[]): readonly unknown[] => [
  "record",
  context.consultId,
  context.opening,
  context.patientId,
  ...rest,
];

/** The server has gone on to another version: it is this patient's still, or the pane goes with the next event. */
export const overtakenOrWorthRetrying = (failures: number, error: unknown): boolean =>
  worthRetrying(failures, error) ||
  (failures < 2 && error instanceof ApiError && error.code === "context_changed" && error.details !== null);

/** What of a list is not there yet. */
export interface Rest {
  /** Pages that are there. */
  pages: number;
  loading: boolean;
  error: unknown;
  /** Ask for the next page, also after an error. */
  more: () => void;
}

export type Loaded<T> =
  | { state: "loading" }
  | { state: "error"; error: unknown; retry: () => void }
  | {
      state: "ready";
      entries: Entries<T>;
      /** Resources in the store; more than were read while `rest` is not null. */
      total: number;
      read: number;
      rest: Rest | null;
    };

export interface RecordData {
  problems: Loaded<Problem>;
  medications: Loaded<Medication>;
  /** What the patient was told or said to take (MedicationStatement). */
  statements: Loaded<Medication>;
  allergies: Loaded<Allergy>;
  /** Laboratory results. */
  labs: Loaded<LabValue>;
  vitals: Loaded<LabValue>;
  /** Observations that are neither. */
  results: Loaded<LabValue>;
  reports: Loaded<Report>;
  documents: Loaded<Document>;
  encounters: Loaded<Encounter>;
  procedures: Loaded<Procedure>;
  immunizations: Loaded<Immunization>;
  imaging: Loaded<ImagingSeries>;
}

/** Entries of the first page and of each further one. */
export const PAGE_SIZE = 100;
const RESULTS_SIZE = 300;
/** A list that is fetched whole ends here; then it says that it is cut. */
const MAX_WHOLE_PAGES = 50;

const LABS = "category=laboratory";
const VITALS = "category=vital-signs";
const OTHERS = "category:not=laboratory&category:not=vital-signs";

/** Notes that were drawn on pages are shown on their pages. */
const readHospitalDocument = (resource: Obj): Document | readonly Document[] | null =>
  isNote(resource) ? [] : readDocument(resource);

/**
 * @param shown the page that is looked at
 * @param pagesOf how many pages of a page's lists the shared view asks for
 */
export function useRecordData(
  context: RecordContext,
  shown: Page,
  pagesOf: (page: Page) => number = () => 1,
): RecordData {
  const some = (page: Page, size = PAGE_SIZE): Wanted => ({ pages: pagesOf(page), size, has: true });
  const whole: Wanted = { pages: MAX_WHOLE_PAGES, size: PAGE_SIZE, has: true };
  const counts = useCounts(context);
  // Kinds that many patients have nothing of are asked for once it is known that there is something.
  const rare = (type: string, wanted: Wanted): Wanted => ({
    ...wanted,
    has: counts.state === "known" ? (counts.of[type] ?? 0) > 0 : counts.state === "unknown" ? true : "unknown",
  });
  const first = {
    allergies: useEntries(context, "AllergyIntolerance", readAllergy, whole),
    problems: useEntries(context, "Condition", readProblem, whole),
    medications: useEntries(context, "MedicationRequest", readMedication, whole),
    statements: useEntries(context, "MedicationStatement", readStatement, rare("MedicationStatement", whole)),
    labs: useEntries(context, "Observation", readResults, some("labs", RESULTS_SIZE), LABS),
    vitals: useEntries(context, "Observation", readResults, some("vitals", RESULTS_SIZE), VITALS),
    reports: useEntries(context, "DiagnosticReport", readReport, some("reports")),
    encounters: useEntries(context, "Encounter", readEncounter, some("history")),
  };
  const stands = Object.values(first).every(({ state }) => state !== "loading");
  /** Of pages other than the first: a few connections carry all of it, and the first must not wait for them. */
  const later = (wanted: Wanted, ...pages: readonly Page[]): Wanted =>
    stands || pages.includes(shown) || wanted.has === false ? wanted : { ...wanted, has: "unknown" };
  return {
    ...first,
    results: useEntries(context, "Observation", readResults, later(some("labs", RESULTS_SIZE), "labs"), OTHERS),
    documents: useEntries(
      context,
      "DocumentReference",
      readHospitalDocument,
      later(some("documents"), "documents", "reports"),
    ),
    procedures: useEntries(context, "Procedure", readProcedure, later(rare("Procedure", some("history")), "history")),
    immunizations: useEntries(
      context,
      "Immunization",
      readImmunization,
      later(rare("Immunization", some("history")), "history"),
    ),
    imaging: useEntries(context, "ImagingStudy", readImaging, later(rare("ImagingStudy", some("imaging")), "imaging")),
  };
}

/** All values of one test, when the list has only the newest of each kind. */
export function useTestHistory(context: RecordContext, code: string, isNeeded: boolean): Loaded<LabValue> {
  const filter = `code=${encodeURIComponent(code.replace(/[\\,|$]/g, "\\$&"))}`;
  return useEntries(context, "Observation", readResults, { pages: 4, size: RESULTS_SIZE, has: isNeeded }, filter);
}

type Counts = { state: "loading" } | { state: "unknown" } | { state: "known"; of: Readonly<Record<string, number>> };

/** How much there is of each type; where that cannot be had, everything is simply asked for. */
function useCounts(context: RecordContext): Counts {
  const http = useHttp();
  const query = useQuery({
    queryKey: recordKey(context, "counts"),
    queryFn: async ({ signal }) => {
      const version = context.version();
      return ofVersion(await http.getAnswer(recordPath(context, version, ""), readCounts, { signal }), version);
    },
    ...KEPT,
  });
  if (query.data !== undefined) return { state: "known", of: query.data };
  return query.error !== null ? { state: "unknown" } : { state: "loading" };
}

function readCounts(body: unknown): Readonly<Record<string, number>> {
  const counts = Object.entries(obj(obj(body).counts));
  return Object.fromEntries(counts.flatMap(([type, value]) => (num(value) === null ? [] : [[type, num(value) ?? 0]])));
}

/** For as long as the pane shows this opening, and no longer. */
export const KEPT = {
  gcTime: 0,
  staleTime: Number.POSITIVE_INFINITY,
  refetchOnWindowFocus: false,
  retry: overtakenOrWorthRetrying,
  retryDelay: (failures: number) => 250 * 4 ** failures,
} as const;

export function recordPath(context: RecordContext, version: number, rest: string, query = ""): string {
  const path = `/api/consults/${encodeURIComponent(context.consultId)}/record${rest === "" ? "" : `/${rest}`}`;
  return `${path}?version=${version}${query === "" ? "" : `&${query}`}`;
}

interface Wanted {
  /** Pages to have, as far as there are so many. */
  pages: number;
  size: number;
  /** False: there is nothing of the kind; "unknown": wait. */
  has: boolean | "unknown";
}

interface EntriesPage<T> {
  entries: Entries<T>;
  read: number;
  total: number | null;
  cursor: string | null;
}

function useEntries<T extends { id: string }>(
  context: RecordContext,
  type: string,
  read: (resource: Obj) => T | readonly T[] | null,
  wanted: Wanted,
  filter = "",
): Loaded<T> {
  const http = useHttp();
  const query = useInfiniteQuery({
    queryKey: recordKey(context, type, filter),
    queryFn: async ({ signal, pageParam }): Promise<EntriesPage<T>> => {
      const first = `_count=${wanted.size}${filter === "" ? "" : `&${filter}`}`;
      const asked = pageParam === null ? first : `_cursor=${encodeURIComponent(pageParam)}`;
      const version = context.version();
      const answer = await http.getAnswer(recordPath(context, version, type, asked), (body) => body, { signal });
      const bundle = ofVersion(answer, version);
      return {
        entries: readEntries(bundle, type, context.patientId, read),
        read: objs(obj(bundle).entry).length,
        total: num(obj(bundle).total),
        cursor: nextCursor(bundle),
      };
    },
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.cursor,
    enabled: wanted.has === true,
    ...KEPT,
  });
  const { data, error, hasNextPage, isFetching, fetchNextPage } = query;
  const pages = data?.pages.length ?? 0;
  const goesOn = data !== undefined && hasNextPage && !isFetching && error === null && pages < wanted.pages;
  // An answer may come before anybody has seen that it was asked for: the number of pages is what goes on.
  useEffect(() => {
    if (goesOn && pages > 0) void fetchNextPage({ cancelRefetch: false });
  }, [goesOn, pages, fetchNextPage]);
  if (wanted.has === false)
    return { state: "ready", entries: { items: [], unreadable: [] }, total: 0, read: 0, rest: null };
  if (data !== undefined) {
    const more = (): void => void fetchNextPage({ cancelRefetch: false });
    const rest = hasNextPage ? { pages, loading: isFetching, error, more } : null;
    return { state: "ready", ...joinPages(data.pages), rest };
  }
  if (error !== null) return { state: "error", error, retry: () => void query.refetch() };
  return { state: "loading" };
}

/** The cursor of the next page; an address that is not ours is never asked. */
function nextCursor(bundle: unknown): string | null {
  const next = objs(obj(bundle).link).find((link) => link.relation === "next");
  if (next === undefined) return null;
  const query = str(next.url).split("?")[1] ?? "";
  return new URLSearchParams(query).get("_cursor");
}

/** One list out of pages. Whatever was changed while it was paged through is there once, as it was read last. */
export function joinPages<T extends { id: string }>(
  pages: readonly EntriesPage<T>[],
): { entries: Entries<T>; total: number; read: number } {
  const items = new Map<string, T>();
  for (const item of pages.flatMap((page) => page.entries.items)) items.set(item.id, item);
  const unreadable = new Set(pages.flatMap((page) => page.entries.unreadable));
  const read = pages.reduce((sum, page) => sum + page.read, 0);
  return {
    entries: { items: [...items.values()], unreadable: [...unreadable] },
    total: Math.max(read, pages[0]?.total ?? 0),
    read,
  };
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
  const version = context.version();
  const path = recordPath(context, version, `Binary/${encodeURIComponent(binaryId)}`);
  return ofVersion(await http.getBlob(path, { signal, timeoutMs: 30_000 }), version);
}

/** One frame of an image, drawn by the server, and what it says of it. */
export async function fetchPicture(
  http: Http,
  context: RecordContext,
  asked: { study: string; instance: string; frame: number; window: string },
  signal: AbortSignal,
): Promise<{ blob: Blob; about: unknown }> {
  const path = `ImagingStudy/${encodeURIComponent(asked.study)}/${encodeURIComponent(asked.instance)}`;
  const query = `frame=${asked.frame}&window=${encodeURIComponent(asked.window)}`;
  const version = context.version();
  const answer = await http.getBlob(recordPath(context, version, path, query), { signal, timeoutMs: 30_000 });
  const blob = ofVersion(answer, version);
  return { blob, about: jsonOrNull(answer.headers.get("X-Picture")) };
}

function jsonOrNull(text: string | null): unknown {
  try {
    return JSON.parse(text ?? "null");
  } catch {
    // A header that something on the way has cut: the picture is shown without its particulars.
    return null;
  }
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
