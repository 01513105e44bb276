/** What the server keeps of a consult's waveforms: streams, frames by time, beats, strips, files. */
import { ApiError, type Http } from "../common/http";
import { list, num, type Obj, obj, objs, oneOf, str } from "../common/read";
import type { WaveformStream } from "../protocol";
import { type Break, type FetchFrames, MalformedHistory, splitFrames } from "./history";

/** One archived stream, live or imported. */
export interface RecordedStream {
  /** Names it in every path. */
  readonly id: string;
  readonly stream: WaveformStream;
  readonly kind: "live" | "import";
  /** Still growing. */
  readonly isLive: boolean;
  readonly title: string;
  readonly version: number;
  readonly firstUs: number;
  readonly lastUs: number;
  readonly frames: number;
  readonly gaps: number;
  readonly lost: number;
}

/**
 * Whose waveforms are asked for: the consult, and the context that the page shows.
 *
 * The server answers 409 when another patient has been opened meanwhile (W19).
 */
export interface ArchiveContext {
  readonly consultId: string;
  readonly version: number;
}

function pathOf(
  { consultId, version }: ArchiveContext,
  rest = "",
  query: Readonly<Record<string, number | string>> = {},
): string {
  const asked = Object.entries({ version, ...query }).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  return `/api/consults/${encodeURIComponent(consultId)}/${rest === "" ? "waveforms" : rest}?${asked.join("&")}`;
}

const ofStream = (id: string, rest: string): string => `waveforms/${encodeURIComponent(id)}${rest}`;

/** Streams that can be drawn; one without a time span has nothing recorded yet and is left out. */
export function readStreams(body: unknown): readonly RecordedStream[] {
  return objs(body).flatMap((o) => readStream(o) ?? []);
}

export function readStream(o: Obj): RecordedStream | null {
  const [streamId, rate, lsb] = [num(o.stream_id), num(o.sample_rate_mhz), num(o.lsb_nv)];
  const [firstUs, lastUs] = [num(o.first_us), num(o.last_us)];
  const leads = list(o.leads).map(str);
  if (streamId === null || rate === null || rate <= 0 || lsb === null || leads.length === 0) return null;
  if (firstUs === null || lastUs === null || lastUs < firstUs) return null;
  return {
    id: str(o.id) === "" ? String(streamId) : str(o.id),
    stream: {
      stream_id: streamId,
      leads,
      sample_rate_mhz: rate,
      lsb_nv: lsb,
      device: str(o.device),
      filter: str(o.filter),
      simulated: o.simulated === true,
      patient: str(o.patient),
    },
    kind: oneOf(o.kind, ["live", "import"], "live"),
    isLive: o.live === true,
    title: str(o.title),
    version: num(o.context_version) ?? 0,
    firstUs,
    lastUs,
    frames: num(o.frames) ?? 0,
    gaps: num(o.gaps) ?? 0,
    lost: num(o.lost) ?? 0,
  };
}

export function fetchStreams(
  http: Http,
  context: ArchiveContext,
  signal?: AbortSignal,
): Promise<readonly RecordedStream[]> {
  return http.get(pathOf(context), readStreams, { signal });
}

/** Frames of one stream by time, page by page in the order of the stream: a clock that was set back hides none. */
export function framesOf(http: Http, context: ArchiveContext, id: string): FetchFrames {
  return async (fromUs, toUs, next) => {
    const span = { from_us: Math.floor(fromUs), to_us: Math.ceil(toUs) };
    const path = pathOf(context, ofStream(id, "/frames"), next === null ? span : { ...span, next });
    const { value, headers } = await http.getBlob(path, { timeoutMs: 20_000 });
    try {
      const frames = splitFrames(new Uint8Array(await value.arrayBuffer()));
      return { frames, next: headers.get("X-Next") };
    } catch (error) {
      if (!(error instanceof MalformedHistory)) throw error;
      throw new ApiError(200, "bad_answer", "The server's answer cannot be read.", "无法读取服务器的响应。");
    }
  };
}

/**
 * A run of frames by number, as far as one answer goes.
 *
 * @throws ApiError when they cannot be had now
 */
export async function framesBetween(
  http: Http,
  context: ArchiveContext,
  id: string,
  { first, last }: { readonly first: number; readonly last: number },
): Promise<readonly Uint8Array[]> {
  const { value } = await http.getBlob(pathOf(context, ofStream(id, "/frames"), { first, last }), {
    timeoutMs: 20_000,
  });
  return splitFrames(new Uint8Array(await value.arrayBuffer()));
}

/** Gaps and new sessions of the whole recording; of very many the longest. */
export function fetchBreaks(
  http: Http,
  context: ArchiveContext,
  id: string,
  signal?: AbortSignal,
): Promise<readonly Break[]> {
  return http.get(pathOf(context, ofStream(id, "/timeline")), readBreaks, { signal });
}

export function readBreaks(body: unknown): readonly Break[] {
  return objs(obj(body).breaks).flatMap((o) => {
    const [fromUs, toUs] = [num(o.from_us), num(o.to_us)];
    if (fromUs === null || toUs === null || toUs < fromUs) return [];
    return [{ kind: oneOf(o.kind, ["gap", "session"], "gap"), fromUs, toUs }];
  });
}

/** The server computes beats of at most ten minutes at once. */
const BEATS_US = 600_000_000;
/** Four hours; of a longer consult the newest. */
const MAX_BEAT_PAGES = 24;

/** Computed R peaks of a span, rising; of one longer than four hours those of its end. */
export async function fetchBeats(
  http: Http,
  context: ArchiveContext,
  id: string,
  { fromUs, toUs }: { readonly fromUs: number; readonly toUs: number },
  signal?: AbortSignal,
): Promise<readonly number[]> {
  const beats: number[] = [];
  for (let at = Math.max(fromUs, toUs - MAX_BEAT_PAGES * BEATS_US); at < toUs; at += BEATS_US) {
    const span = { from_us: Math.floor(at), to_us: Math.ceil(Math.min(toUs, at + BEATS_US)) };
    beats.push(
      ...(await http.get(pathOf(context, ofStream(id, "/beats"), span), readBeats, { signal, timeoutMs: 30_000 })),
    );
  }
  return beats.sort((a, b) => a - b);
}

const readBeats = (body: unknown): readonly number[] => list(obj(body).beats_us).flatMap((beat) => num(beat) ?? []);

export const FILE_KINDS = { dicom: "dcm", wfdb: "wfdb.zip" } as const;

export type FileKind = keyof typeof FILE_KINDS;

/** Fetch a file and hand it to the browser's downloads, so that a refusal can be told in words first. */
export async function download(http: Http, context: ArchiveContext, id: string, kind: FileKind): Promise<void> {
  const ending = FILE_KINDS[kind];
  const { value } = await http.getBlob(pathOf(context, ofStream(id, `.${ending}`)), { timeoutMs: 120_000 });
  const url = URL.createObjectURL(value);
  const link = document.createElement("a");
  link.href = url;
  // The archive's id, never a name (G8).
  link.download = `ecg-${id}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export const MAX_IMPORT_MB = 64;

export interface Notice {
  readonly code: string;
  readonly en: string;
  readonly zh: string;
  /** What it is about in the file, as the file names it. */
  readonly detail: string;
}

export interface Imported {
  readonly streams: readonly RecordedStream[];
  /** What the reader of the file found worth saying. */
  readonly notices: readonly Notice[];
  /** Strips of the file that are no ECG. */
  readonly leftOut: number;
}

export interface ImportFile {
  readonly file: File;
  readonly patient: string;
  readonly title: string;
  /** The person has compared: the file's other patient number is the same patient. */
  readonly isChecked: boolean;
}

/**
 * Send a file of the open patient.
 *
 * @throws ApiError `patient_differs` when the file names another patient and nobody has said that this was checked
 */
export function importFile(
  http: Http,
  context: ArchiveContext,
  { file, patient, title, isChecked }: ImportFile,
): Promise<Imported> {
  const form = new FormData();
  form.set("patient", patient);
  form.set("title", title);
  if (isChecked) form.set("patient_checked", "true");
  form.set("file", file, file.name);
  return http.upload(pathOf(context), form, readImported, { timeoutMs: 120_000 });
}

function readImported(body: unknown): Imported {
  const o = obj(body);
  return { streams: readStreams(o.streams), notices: objs(o.notices).map(readNotice), leftOut: num(o.left_out) ?? 0 };
}

const readNotice = (o: Obj): Notice => ({ code: str(o.code), en: str(o.en), zh: str(o.zh), detail: str(o.detail) });

export const printPath = (context: ArchiveContext, snapshot: string, kind: "svg" | "pdf"): string =>
  pathOf(context, `snapshots/${encodeURIComponent(snapshot)}.${kind}`);
