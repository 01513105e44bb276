/** Reports and documents: text that people wrote, and where their bytes are. */
import { type Obj, obj, objs, oneOf, str } from "../common/read";
import { firstMoment, type Moment, readCode, readTerm, referenceName, type Term, termOf } from "./fhir";

export const REPORT_STATUS = [
  "registered",
  "partial",
  "preliminary",
  "final",
  "amended",
  "corrected",
  "appended",
  "cancelled",
  "entered-in-error",
  "unknown",
] as const;

/** Bytes of a document: inside the resource or at the Binary endpoint. */
export interface Attachment {
  /** Without parameters, lower case; empty when the record does not say. */
  contentType: string;
  title: string;
  /** Id for /record/Binary/{id}; empty when the bytes are inline. */
  binaryId: string;
  /** UID of a DICOM object that is kept beside the record; empty when it is none. */
  dicom: string;
  /** Inline text, already decoded; null when there is none. */
  text: string | null;
  /** Inline bytes that are no text, as base64; empty when there are none. */
  data: string;
  /** It names an address that is not ours: there is content, and it is not here. */
  isElsewhere: boolean;
}

export interface Report {
  id: string;
  title: Term;
  category: Term | null;
  /** Section code of HL7 table 0074 (RAD, CUS, EC, ...); empty when it has none. */
  section: string;
  status: (typeof REPORT_STATUS)[number];
  /** Cancelled or entered in error: not to be relied on. */
  isWithdrawn: boolean;
  /** Changes when the record changes it. */
  edition: string;
  issued: Moment | null;
  by: string;
  conclusion: string;
  findings: string;
  attachments: readonly Attachment[];
}

/** DiagnosticReport. */
export function readReport(resource: Obj): Report | null {
  const title = readTerm(resource.code);
  if (title === null) return null;
  const attachments = objs(resource.presentedForm).map(readAttachment);
  const coded = objs(resource.conclusionCode).flatMap((concept) => readTerm(concept) ?? []);
  const conclusion =
    str(resource.conclusion).trim() ||
    coded.map((term) => term.whole ?? (term.zh === term.en ? term.en : `${term.zh} ${term.en}`)).join("; ");
  const status = oneOf(resource.status, REPORT_STATUS, "unknown");
  const inline = attachments.flatMap((attachment) => attachment.text ?? []).join("\n\n");
  return {
    id: str(resource.id),
    title,
    category:
      objs(resource.category)
        .map(readTerm)
        .find((term) => term !== null) ?? null,
    section: objs(resource.category).map((concept) => readCode(concept))[0] ?? "",
    status,
    isWithdrawn: status === "cancelled" || status === "entered-in-error",
    edition: editionOf(resource),
    issued: firstMoment(resource.effectiveDateTime, obj(resource.effectivePeriod).start, resource.issued),
    by: [...objs(resource.resultsInterpreter), ...objs(resource.performer)]
      .map(referenceName)
      .filter((name, index, names) => name !== "" && names.indexOf(name) === index)
      .join(", "),
    conclusion,
    findings: withoutEnd(inline || narrative(resource.text), conclusion),
    attachments: attachments.filter((attachment) => attachment.text === null),
  };
}

const editionOf = (resource: Obj): string =>
  [resource.id, obj(resource.meta).versionId, obj(resource.meta).lastUpdated].map(str).join(" ");

/** The document with the stored trace of an ECG report; null when the record has none. */
export function traceOf(reportId: string, documents: readonly Document[]): Document | null {
  const isTrace = (one: Document): boolean =>
    one.related.includes(`DiagnosticReport/${reportId}`) && one.attachments.some(({ dicom }) => dicom !== "");
  return documents.find((one) => !one.superseded && !one.isWithdrawn && isTrace(one)) ?? null;
}

/** The printed form often ends with the conclusion that is shown above it: once is enough. */
const withoutEnd = (text: string, end: string): string =>
  end !== "" && text.trim().endsWith(end) ? text.trim().slice(0, -end.length).trim() : text.trim();

export interface Document {
  id: string;
  title: Term;
  kind: Term | null;
  date: Moment | null;
  author: string;
  superseded: boolean;
  /** Entered in error, by its own status or that of what it refers to. */
  isWithdrawn: boolean;
  isPreliminary: boolean;
  /** Changes when the record changes it. */
  edition: string;
  /** What else it belongs to, as references: DiagnosticReport/r1. */
  related: readonly string[];
  attachments: readonly Attachment[];
}

/** DocumentReference. */
export function readDocument(resource: Obj): Document | null {
  const attachments = objs(resource.content).map((content) => readAttachment(obj(content.attachment)));
  const kind = readTerm(resource.type);
  const title = termOf([str(resource.description) || (attachments[0]?.title ?? "")]) ?? kind;
  if (title === null) return null;
  const created = obj(obj(objs(resource.content)[0]).attachment).creation;
  return {
    id: str(resource.id),
    title,
    kind,
    date: firstMoment(resource.date, created, obj(obj(resource.context).period).start),
    author: objs(resource.author)
      .map(referenceName)
      .filter((name) => name !== "")
      .join(", "),
    superseded: resource.status === "superseded",
    isWithdrawn: resource.status === "entered-in-error" || resource.docStatus === "entered-in-error",
    isPreliminary: resource.docStatus === "preliminary",
    edition: editionOf(resource),
    related: objs(obj(resource.context).related).map((one) => str(one.reference)),
    attachments,
  };
}

function readAttachment(attachment: Obj): Attachment {
  const contentType = (str(attachment.contentType).split(";")[0] ?? "").trim().toLowerCase();
  const [data, url] = [str(attachment.data), str(attachment.url)];
  const binaryId = /(?:^|\/)Binary\/([A-Za-z0-9.-]{1,64})$/.exec(url)?.[1] ?? "";
  const dicom = contentType === "application/dicom" ? (/^urn:oid:([0-9.]{1,64})$/.exec(url)?.[1] ?? "") : "";
  const text = data !== "" && contentType === "text/plain" ? decodeBase64(data) : null;
  return {
    contentType,
    title: str(attachment.title),
    binaryId,
    dicom,
    text,
    data: text === null ? data : "",
    isElsewhere: url !== "" && binaryId === "" && dicom === "" && data === "",
  };
}

/** UTF-8 text out of base64; null when it is neither. */
export function decodeBase64(data: string): string | null {
  const bytes = bytesOf(data);
  try {
    return bytes === null ? null : new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    // Not UTF-8: the caller shows the document as unreadable.
    return null;
  }
}

/** Bytes out of base64; null when it is none. */
export function bytesOf(data: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.from(atob(data.replace(/\s+/g, "")), (letter) => letter.charCodeAt(0));
  } catch {
    return null;
  }
}

const BLOCKS = "p, div, li, tr, br, h1, h2, h3, h4, h5, h6, table, ul, ol";

/** A resource's XHTML narrative as plain text: nothing of it is ever put into our page as markup. */
export function narrative(text: unknown): string {
  const div = str(obj(text).div);
  if (div === "") return "";
  const parsed = new DOMParser().parseFromString(div, "text/html");
  for (const block of parsed.querySelectorAll(BLOCKS)) block.append("\n");
  return (parsed.body.textContent ?? "")
    .replace(/[ \t]+/g, " ")
    .replace(/ ?\n[ \n]*/g, "\n")
    .trim();
}
