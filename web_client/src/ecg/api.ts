/** What the server keeps of a consult's waveforms: streams, frames by time, beats, strips, files. */
import { ApiError, type Http } from "../common/http";
import { list, num, type Obj, obj, objs, oneOf, str } from "../common/read";
import type { WaveformStream } from "../protocol";
import { type FetchFrames, MalformedHistory, splitFrames } from "./history";

/** One archived stream, live or imported. */
export interface RecordedStream {
  readonly stream: WaveformStream;
  readonly kind: "live" | "import";
  readonly title: string;
  readonly version: number;
  readonly firstUs: number;
  readonly lastUs: number;
  readonly frames: number;
  readonly gaps: number;
  readonly lost: number;
}

export const waveformsPath = (consultId: string): string => `/api/consults/${encodeURIComponent(consultId)}/waveforms`;

const streamPath = (consultId: string, streamId: number): string => `${waveformsPath(consultId)}/${streamId}`;

/** Streams that can be drawn; one without a time span has nothing recorded yet and is left out. */
export function readStreams(body: unknown): readonly RecordedStream[] {
  const entries = Array.isArray(body) ? objs(body) : objs(obj(body).waveforms);
  return entries.flatMap((o) => readStream(o) ?? []);
}

export function readStream(o: Obj): RecordedStream | null {
  const [streamId, rate, lsb] = [num(o.stream_id), num(o.sample_rate_mhz), num(o.lsb_nv)];
  const [firstUs, lastUs] = [num(o.first_us), num(o.last_us)];
  const leads = list(o.leads).map(str);
  if (streamId === null || rate === null || rate <= 0 || lsb === null || leads.length === 0) return null;
  if (firstUs === null || lastUs === null || lastUs < firstUs) return null;
  return {
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
    title: str(o.title),
    version: num(o.context_version) ?? 0,
    firstUs,
    lastUs,
    frames: num(o.frames) ?? 0,
    gaps: num(o.gaps) ?? 0,
    lost: num(o.lost) ?? 0,
  };
}

export function fetchStreams(http: Http, consultId: string, signal?: AbortSignal): Promise<readonly RecordedStream[]> {
  return http.get(waveformsPath(consultId), readStreams, { signal });
}

/** Frames of one stream by time; each answer says where the next begins. */
export function framesOf(http: Http, consultId: string, streamId: number): FetchFrames {
  return async (fromUs, toUs) => {
    const path = `${streamPath(consultId, streamId)}/frames?from_us=${Math.floor(fromUs)}&to_us=${Math.ceil(toUs)}`;
    const { value, headers } = await http.getBlob(path, { timeoutMs: 20_000 });
    const next = headers.get("X-Next");
    try {
      const frames = splitFrames(new Uint8Array(await value.arrayBuffer()));
      return { frames, nextUs: next === null ? null : num(Number(next)) };
    } catch (error) {
      if (!(error instanceof MalformedHistory)) throw error;
      throw new ApiError(200, "bad_answer", "The server's answer cannot be read.", "无法读取服务器的响应。");
    }
  };
}

/** Computed R peaks of a span, rising. */
export function fetchBeats(
  http: Http,
  consultId: string,
  streamId: number,
  fromUs: number,
  toUs: number,
  signal?: AbortSignal,
): Promise<readonly number[]> {
  const path = `${streamPath(consultId, streamId)}/beats?from_us=${Math.floor(fromUs)}&to_us=${Math.ceil(toUs)}`;
  const read = (body: unknown): readonly number[] => {
    const beats = Array.isArray(body) ? body : list(obj(body).beats_us);
    return beats.flatMap((beat) => num(beat) ?? []).sort((a, b) => a - b);
  };
  return http.get(path, read, { signal, timeoutMs: 20_000 });
}

export const FILE_KINDS = { dicom: "dcm", wfdb: "wfdb.zip" } as const;

export type FileKind = keyof typeof FILE_KINDS;

/** Fetch a file and hand it to the browser's downloads, so that a refusal can be told in words first. */
export async function download(http: Http, consultId: string, streamId: number, kind: FileKind): Promise<void> {
  const ending = FILE_KINDS[kind];
  const path = `${streamPath(consultId, streamId)}.${ending}`;
  const { value } = await http.getBlob(path, { timeoutMs: 120_000 });
  const url = URL.createObjectURL(value);
  const link = document.createElement("a");
  link.href = url;
  // The consult's id and the stream's, never a name (G8).
  link.download = `ecg-${consultId}-${streamId}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export const MAX_IMPORT_MB = 50;

/** Send a file of the open patient. */
export function importFile(
  http: Http,
  consultId: string,
  { file, patient, title }: { file: File; patient: string; title: string },
): Promise<RecordedStream | null> {
  const form = new FormData();
  form.set("patient", patient);
  form.set("title", title);
  form.set("file", file, file.name);
  return http.upload(waveformsPath(consultId), form, (body) => readStream(obj(body)), { timeoutMs: 120_000 });
}

export const printPath = (consultId: string, snapshot: string): string =>
  `/api/consults/${encodeURIComponent(consultId)}/snapshots/${encodeURIComponent(snapshot)}.svg`;
