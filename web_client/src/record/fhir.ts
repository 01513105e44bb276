/**
 * Reading FHIR R4 resources as they come, odd ones included.
 *
 * A reader takes one resource and gives what the pane shows, or null when the
 * resource lacks what would make it safe to show. None of them throws. A
 * resource that gives null is counted as "cannot be shown" and never hides the
 * others; nor does one that names another patient, which must never be painted.
 *
 * This file: bundles, terms, dates. fhirClinical, fhirLabs and fhirDocuments
 * read the resource types.
 */
import { type Obj, obj, objs, str } from "../common/read";

/** One name in both languages; the same where the record has only one. */
export interface Term {
  en: string;
  zh: string;
  /**
   * The text both were cut from, when the record wrote the languages one after
   * the other; null when they came apart. Cutting is a guess: a place that does
   * not show both halves must show this instead.
   */
  whole: string | null;
}

/** What one bundle gave: entries to show, and ids of those that cannot be. */
export interface Entries<T> {
  items: readonly T[];
  unreadable: readonly string[];
}

/** A moment of the record. Partial dates stay as precise as they were written. */
export interface Moment {
  /** As shown: 2024, 2024-03, 2024-03-01 or 2024-03-01 08:05 in local time. */
  text: string;
  /** Milliseconds for sorting and drawing; the start of a partial date. */
  ms: number;
}

/** Read all resources of one type out of a searchset. */
export function readEntries<T>(
  bundle: unknown,
  resourceType: string,
  patientId: string,
  read: (resource: Obj) => T | readonly T[] | null,
): Entries<T> {
  const items: T[] = [];
  const unreadable: string[] = [];
  const entries = obj(bundle).entry;
  for (const [index, entry] of (Array.isArray(entries) ? entries : []).entries()) {
    const resource = obj(obj(entry).resource);
    // A warning that travels in the bundle (OperationOutcome) is not a clinical entry.
    if (str(obj(obj(entry).search).mode) === "outcome") continue;
    const fits = resource.resourceType === resourceType && namesPatient(resource, patientId);
    const shown = fits ? read(resource) : null;
    if (shown === null) unreadable.push(str(resource.id) || `#${index + 1}`);
    else if (Array.isArray(shown)) items.push(...(shown as readonly T[]));
    else items.push(shown as T);
  }
  return { items, unreadable };
}

/** Whether the resource is about this patient; one that names nobody is refused too. */
function namesPatient(resource: Obj, patientId: string): boolean {
  const reference = str(obj(resource.subject).reference) || str(obj(resource.patient).reference);
  return reference === `Patient/${patientId}` || reference.endsWith(`/Patient/${patientId}`);
}

const CJK = /[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]/;

/** A CodeableConcept's name, or null when it names nothing. What people saw (`text`) comes before code systems. */
export function readTerm(concept: unknown): Term | null {
  const o = obj(concept);
  const codings = objs(o.coding);
  return termOf([
    str(o.text),
    ...translations(o._text),
    ...codings.flatMap((coding) => [str(coding.display), ...translations(coding._display)]),
    ...codings.map((coding) => str(coding.code)),
  ]);
}

/** A name from its candidates: the first, and the first in the other script where there is one. */
export function termOf(candidates: readonly string[]): Term | null {
  const names = candidates.map((name) => name.trim()).filter((name) => name !== "");
  const first = names[0];
  if (first === undefined) return null;
  const halves = cutLanguages(first);
  if (halves !== null) return { ...halves, whole: first };
  // Both scripts in one text, yet no clear cut: it already says it to everyone.
  if (CJK.test(first) && /[A-Za-z]{2}/.test(first)) return plainTerm(first);
  return {
    zh: names.find((name) => CJK.test(name)) ?? first,
    en: names.find((name) => !CJK.test(name)) ?? first,
    whole: null,
  };
}

/** A text that is not to be cut or chosen among. */
export const plainTerm = (text: string): Term | null => (text === "" ? null : { en: text, zh: text, whole: null });

/**
 * "肌酐 Creatinine" as its two halves; null when the text is not clearly written twice.
 *
 * The English half must hold a word in small letters, so "糖类抗原 CA 125" stays
 * whole; a short symbol after the Chinese belongs to it ("肌钙蛋白 I Troponin I"),
 * and so does an abbreviation that stands twice ("左心房 CT CT of the left atrium").
 */
export function cutLanguages(text: string): { zh: string; en: string } | null {
  const match = /^(.*[\u3000-\u303f\u3400-\u9fff\uff00-\uffef])[\s/·|]+(.+)$/su.exec(text);
  if (match === null) return null;
  let [zh, en] = [match[1] ?? "", match[2] ?? ""];
  const symbol = /^([A-Z]|I{2,3}|IV|[A-Z]?\d{1,3}) (.+)$/s.exec(en);
  if (symbol !== null) [zh, en] = [`${zh} ${symbol[1] ?? ""}`, symbol[2] ?? ""];
  const twice = /^(\S{2,6}) (\1\b.+)$/s.exec(en);
  if (twice !== null) [zh, en] = [`${zh} ${twice[1] ?? ""}`, twice[2] ?? ""];
  return /[a-z]{3}/.test(en) ? { zh, en } : null;
}

/** Contents of FHIR translation extensions on a primitive. */
function translations(primitive: unknown): string[] {
  return objs(obj(primitive).extension)
    .filter((extension) => str(extension.url).endsWith("/translation"))
    .flatMap((extension) => objs(extension.extension))
    .filter((part) => part.url === "content")
    .map((part) => str(part.valueString) || str(part.valueMarkdown));
}

/** A concept's code, empty when it has none; one of the preferred system when given. */
export function readCode(concept: unknown, preferredSystem = ""): string {
  const codings = objs(obj(concept).coding).filter((coding) => str(coding.code) !== "");
  const preferred = codings.find((coding) => preferredSystem !== "" && str(coding.system).includes(preferredSystem));
  return str((preferred ?? codings[0])?.code);
}

/** The first code that is one of `words`. */
export function readCodeAmong<const T extends string>(concept: unknown, words: readonly T[]): T | null {
  const codes = objs(obj(concept).coding).map((coding) => coding.code);
  return words.find((word) => codes.includes(word)) ?? null;
}

const PARTIAL = /^(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?$/;

/** A FHIR date, dateTime or instant; null when it is not one. */
export function readMoment(value: unknown): Moment | null {
  const text = str(value);
  const partial = PARTIAL.exec(text);
  if (partial !== null) {
    const ms = new Date(Number(partial[1]), Number(partial[2] ?? 1) - 1, Number(partial[3] ?? 1)).getTime();
    return Number.isNaN(ms) ? null : { text, ms };
  }
  const ms = /^\d{4}-\d{2}-\d{2}T/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(ms) ? null : { text: minuteText(ms), ms };
}

/** Local time to the minute, in the order both languages read without doubt. */
export function minuteText(ms: number): string {
  const date = new Date(ms);
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** The first of several values that is a moment. */
export function firstMoment(...values: readonly unknown[]): Moment | null {
  for (const value of values) {
    const moment = readMoment(value);
    if (moment !== null) return moment;
  }
  return null;
}

/** All notes of a resource as plain text. */
export function readNotes(value: unknown): string {
  return objs(value)
    .map((note) => str(note.text).trim())
    .filter((text) => text !== "")
    .join("\n");
}

/** What a reference is called, empty when it only points. */
export const referenceName = (value: unknown): string => str(obj(value).display);

/** Newest first; entries without a date come last and keep their order. */
export function newestFirst<T>(items: readonly T[], at: (item: T) => Moment | null): readonly T[] {
  return [...items].sort((a, b) => (at(b)?.ms ?? Number.NEGATIVE_INFINITY) - (at(a)?.ms ?? Number.NEGATIVE_INFINITY));
}
