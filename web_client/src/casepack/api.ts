/** What the case pack's routes answer, read narrowly; addresses of theirs. */
import { list, num, type Obj, obj, objs, oneOf, str } from "../common/read";

export const SECTIONS = [
  "problems",
  "medication",
  "allergies",
  "vitals",
  "labs",
  "imaging",
  "ecg",
  "documents",
  "opinions",
] as const;
export type Section = (typeof SECTIONS)[number];

export const REQUEST_FIELDS = ["reason", "purpose", "summary", "speciality", "title"] as const;
export type RequestField = (typeof REQUEST_FIELDS)[number];
export type PackRequest = Readonly<Record<RequestField, string>> & { readonly facts: Readonly<Record<string, string>> };

/** A name in both languages. */
export interface Words {
  readonly en: string;
  readonly zh: string;
}

export const WHYS = [
  "found",
  "too_old",
  "undated",
  "in_future",
  "preliminary",
  "unsure",
  "withdrawn",
  "none",
  "not_given",
] as const;
export type Why = (typeof WHYS)[number];

/** How a question through the lock ends; another code reads as `failed`. */
export const LOCK_CODES = [
  "not_allowed",
  "not_found",
  "not_fresh",
  "unavailable",
  "timed_out",
  "too_large",
  "malformed",
  "cancelled",
  "busy",
  "failed",
] as const;
export type LockCode = (typeof LOCK_CODES)[number];

export interface Finding extends Words {
  readonly part: string;
  readonly section: Section;
  readonly isNeeded: boolean;
  /** What the sender writes down because no record has it. */
  readonly fact: "text" | "time" | null;
  readonly state: "present" | "stale" | "missing";
  readonly why: Why;
  readonly atMs: number | null;
  /** Of the time only the day is known. */
  readonly isDay: boolean;
}

export interface PackValue {
  readonly value: string;
  readonly unit: string;
  readonly flag: string;
  readonly atMs: number | null;
  readonly isDay: boolean;
}

export interface PackLine extends PackValue {
  readonly section: Section;
  readonly ref: string;
  readonly title: string;
  readonly status: string;
  /** Newest first, this value included. */
  readonly trend: readonly PackValue[];
  readonly attachments: readonly { readonly binary: string; readonly title: string }[];
  /** What the record did with it after the pack was sent. */
  readonly since: "" | "changed" | "withdrawn";
}

export interface CaseAsk extends Words {
  readonly id: string;
  readonly consult: string;
  readonly consultTitle: string;
  readonly patient: string;
  readonly part: string;
  readonly note: string;
  readonly status: "asked" | "answered" | "declined";
  readonly hospital: string;
  readonly by: string;
  readonly byHospital: string;
  readonly askedAtMs: number | null;
  readonly closedAtMs: number | null;
  readonly reason: string;
  /** How the question through the lock ended; null: the gateway was not asked, or answered. */
  readonly lock: LockCode | null;
  readonly throughLock: boolean;
  /** Clinicians of the asked hospital who are in the consult and see the ask. */
  readonly reaches: number;
  /** What came, as lines; only with a sent pack. */
  readonly came: readonly PackLine[];
}

export interface SentMeta {
  readonly version: number;
  readonly sentAtMs: number | null;
  readonly sha256: string;
}

export interface SentPack extends SentMeta {
  readonly specialty: string;
  readonly newest: number;
  readonly by: string;
  readonly hospital: string;
  readonly request: PackRequest;
  readonly lines: readonly PackLine[];
  readonly findings: readonly Finding[];
  readonly asks: readonly CaseAsk[];
}

export interface DraftPack {
  readonly specialty: string;
  readonly request: PackRequest;
  /** Fields of the request that are still empty (C25). */
  readonly lacking: readonly RequestField[];
  readonly lines: readonly PackLine[];
  readonly findings: readonly Finding[];
  readonly isComplete: boolean;
  readonly contentHash: string;
  /** `Type/id` that the sender has taken out. */
  readonly leftOut: readonly string[];
  readonly asks: readonly CaseAsk[];
  readonly sent: SentMeta | null;
}

export interface PackSummary {
  readonly consult: string;
  readonly patient: string;
  readonly version: number;
  readonly sentAtMs: number | null;
  readonly hospital: string;
  readonly missing: readonly Finding[];
  /** Parts that somebody waits for. */
  readonly asked: readonly string[];
  /** When an ask was made or closed last: then the pack is worth reading again. */
  readonly newsMs: number | null;
}

export interface Overview {
  readonly packs: readonly PackSummary[];
  /** What the person's own hospital was asked for and has not answered. */
  readonly asks: readonly CaseAsk[];
  readonly specialties: readonly (Words & { readonly key: string })[];
}

export function packPath(consult: string, patient: string, rest = ""): string {
  return `/api/consults/${encodeURIComponent(consult)}/casepack/${encodeURIComponent(patient)}${rest}`;
}

export function askPath(ask: CaseAsk, verb: "answer" | "decline"): string {
  return `/api/consults/${encodeURIComponent(ask.consult)}/casepack-asks/${encodeURIComponent(ask.id)}/${verb}`;
}

export const packPagePath = (consult: string): string => `/casepack/${encodeURIComponent(consult)}`;

export function readOverview(body: unknown): Overview {
  const o = obj(body);
  return {
    packs: objs(o.packs).map((pack) => ({
      consult: str(pack.consult),
      patient: str(pack.patient),
      version: num(pack.version) ?? 0,
      sentAtMs: num(pack.sent_at_ms),
      hospital: str(pack.hospital),
      missing: objs(pack.missing).map(readFinding),
      asked: list(pack.asked).map(str),
      newsMs: num(pack.news_ms),
    })),
    asks: objs(o.asks).map(readAsk),
    specialties: objs(o.specialties).map((one) => ({ key: str(one.key), en: str(one.en), zh: str(one.zh) })),
  };
}

export function readSent(body: unknown): SentPack {
  const o = obj(body);
  return {
    ...readMeta(o),
    specialty: str(o.specialty),
    newest: num(o.newest) ?? 0,
    by: str(o.by),
    hospital: str(o.hospital),
    request: readRequest(o.request),
    lines: objs(o.lines).map(readLine),
    findings: objs(o.findings).map(readFinding),
    asks: objs(o.asks).map(readAsk),
  };
}

export function readDraft(body: unknown): DraftPack {
  const o = obj(body);
  const leftOut = Array.isArray(o.left_out) ? o.left_out.map(str).filter((ref) => ref !== "") : [];
  return {
    specialty: str(o.specialty),
    request: readRequest(o.request),
    lacking: REQUEST_FIELDS.filter((field) => Array.isArray(o.lacking) && o.lacking.includes(field)),
    lines: objs(o.lines).map(readLine),
    findings: objs(o.findings).map(readFinding),
    isComplete: o.complete === true,
    contentHash: str(o.content_hash),
    leftOut,
    asks: objs(o.asks).map(readAsk),
    sent: o.sent === null || o.sent === undefined ? null : readMeta(obj(o.sent)),
  };
}

/** What came through the lock at once, beside the ask itself. */
export interface AskAnswer {
  readonly ask: CaseAsk;
  readonly came: readonly (PackValue & { readonly title: string })[];
}

export function readAskAnswer(body: unknown): AskAnswer {
  const o = obj(body);
  return {
    ask: readAsk(obj(o.ask)),
    came: objs(o.came).map((one) => ({ title: str(one.title), ...readValue(one) })),
  };
}

function readMeta(o: Obj): SentMeta {
  return { version: num(o.version) ?? 0, sentAtMs: num(o.sent_at_ms), sha256: str(o.sha256) };
}

function readRequest(value: unknown): PackRequest {
  const o = obj(value);
  return {
    reason: str(o.reason),
    purpose: str(o.purpose),
    summary: str(o.summary),
    speciality: str(o.speciality),
    title: str(o.title),
    facts: Object.fromEntries(Object.entries(obj(o.facts)).map(([key, text]) => [key, str(text)])),
  };
}

function readFinding(o: Obj): Finding {
  return {
    part: str(o.part),
    en: str(o.en),
    zh: str(o.zh),
    section: oneOf(o.section, SECTIONS, "documents"),
    isNeeded: o.need !== "if_known",
    fact: o.fact === "text" || o.fact === "time" ? o.fact : null,
    // Whatever is not understood is missing: nobody must think that it is there.
    state: oneOf(o.state, ["present", "stale", "missing"], "missing"),
    why: oneOf(o.why, WHYS, "none"),
    atMs: num(o.at_ms),
    isDay: o.is_day === true,
  };
}

function readValue(o: Obj): PackValue {
  return { value: str(o.value), unit: str(o.unit), flag: str(o.flag), atMs: num(o.at_ms), isDay: o.is_day === true };
}

function readLine(o: Obj): PackLine {
  return {
    ...readValue(o),
    section: oneOf(o.section, SECTIONS, "documents"),
    ref: str(o.ref),
    title: str(o.title),
    status: str(o.status),
    trend: objs(o.trend).map(readValue),
    attachments: objs(o.attachments).map((one) => ({ binary: str(one.binary), title: str(one.title) })),
    since: oneOf(o.since, ["", "changed", "withdrawn"], ""),
  };
}

function readAsk(o: Obj): CaseAsk {
  return {
    id: str(o.id),
    consult: str(o.consult),
    consultTitle: str(o.consult_title),
    patient: str(o.patient),
    part: str(o.part),
    en: str(o.en),
    zh: str(o.zh),
    note: str(o.note),
    status: oneOf(o.status, ["asked", "answered", "declined"], "asked"),
    hospital: str(o.hospital),
    by: str(o.by),
    byHospital: str(o.by_hospital),
    askedAtMs: num(o.asked_at_ms),
    closedAtMs: num(o.closed_at_ms),
    reason: str(o.reason),
    lock: typeof o.lock === "string" && o.lock !== "" ? oneOf(o.lock, LOCK_CODES, "failed") : null,
    throughLock: o.through_lock === true,
    reaches: num(o.reaches) ?? 0,
    came: objs(o.came).map(readLine),
  };
}
