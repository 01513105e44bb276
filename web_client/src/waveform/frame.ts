/**
 * Wire frame v2, the browser's half (media/WAVEFORM_WIRE.md sections 1 and 2).
 *
 * A message is checked in full before anything of it is used: envelope, CRC, that the
 * appended frame is the one before, and that the samples decode. What does not hold is
 * a typed failure, never an exception: a peer's bytes must not stop the display.
 */

import { crc32 } from "./crc32";
import { type Coded, codedLength, decodeRaw16, decodeRice } from "./rice";

export const Flag = {
  gapBefore: 1,
  resend: 2,
  clockUnsynced: 4,
  simulated: 8,
  paceEvents: 16,
  redundant: 32,
  streamEnd: 64,
  sessionRestart: 128,
} as const;

export interface InvalidRun {
  /** Bit number of the lead. */
  readonly lead: number;
  readonly reason: number;
  readonly first: number;
  readonly count: number;
}

export interface WaveformFrame {
  readonly streamId: number;
  readonly seq: number;
  readonly flags: number;
  readonly contextVersion: number;
  /** Server time of the first sample, microseconds since 1970. */
  readonly t0Us: number;
  readonly firstSample: number;
  /** The source's name for the counting that `seq` is of; 0: it has none. */
  readonly numbering: number;
  readonly sampleRateMhz: number;
  /** Samples per lead. */
  readonly n: number;
  readonly leadMask: number;
  readonly leadOffMask: number;
  readonly saturatedMask: number;
  readonly lsbNv: number;
  readonly invalidRuns: readonly InvalidRun[];
  readonly paceOffsets: readonly number[];
  /** Bit numbers of the leads present, in the order of the rows of `samples`. */
  readonly leads: readonly number[];
  /** Raw steps, row after row, `leads.length * n`. */
  readonly samples: Int16Array;
}

export type FrameError = "malformed" | "unsupported";

export type MessageResult =
  | { readonly ok: true; readonly frame: WaveformFrame; readonly previous: WaveformFrame | null }
  | { readonly ok: false; readonly error: FrameError };

const HEADER_BYTES = 52;
const CRC_OFFSET = 48;
const RUN_BYTES = 6;
const VERSION = 2;
const MAX_SAMPLES = 2048;
const MAX_FRAME_BYTES = 8192;
const MAX_INDEX = 2 ** 48 - 1;
const LIMB_MASK = 0x3f;

/** Check and decode one data-channel message: a frame, perhaps with the one before it. */
export function parseMessage(message: Uint8Array): MessageResult {
  const first = parseLeading(message);
  if (typeof first === "string") return { ok: false, error: first };
  const rest = message.subarray(first.bytes);
  if ((first.frame.flags & Flag.redundant) === 0) {
    return rest.length === 0 ? { ok: true, frame: canonical(first.frame), previous: null } : MALFORMED;
  }
  const second = parseLeading(rest);
  if (typeof second === "string") return { ok: false, error: second };
  const previous = second.frame;
  const follows = previous.streamId === first.frame.streamId && previous.seq + 1 === first.frame.seq;
  if (second.bytes !== rest.length || (previous.flags & Flag.redundant) !== 0 || !follows) return MALFORMED;
  return { ok: true, frame: canonical(first.frame), previous: canonical(previous) };
}

const MALFORMED: MessageResult = { ok: false, error: "malformed" };

interface Leading {
  readonly frame: WaveformFrame;
  readonly bytes: number;
}

function parseLeading(data: Uint8Array): Leading | FrameError {
  if (data.length < HEADER_BYTES) return "malformed";
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (data[0] !== 0x45 || data[1] !== 0x43) return "malformed";
  const versionCodec = view.getUint8(2);
  const codec = versionCodec & 15;
  if (versionCodec >> 4 !== VERSION || codec > 1) return "unsupported";
  const header = readHeader(view);
  const runBytes = view.getUint16(46, true);
  const leads = leadsOf(header.leadMask);
  if (!soundHeader(header) || runBytes % RUN_BYTES !== 0) return "malformed";

  const payloadAt = HEADER_BYTES + runBytes;
  if (payloadAt > data.length) return "malformed";
  const coded: Coded = { leads: leads.length, n: header.n, limb: (header.leadMask & LIMB_MASK) === LIMB_MASK };
  const length = codec === 1 ? codedLength(data.subarray(payloadAt), coded) : 2 * leads.length * header.n;
  if (length === null) return "malformed";
  const paceAt = payloadAt + length;
  const end = paceAt + ((header.flags & Flag.paceEvents) === 0 ? 0 : 1 + 2 * (data[paceAt] ?? 0));
  if (end > Math.min(data.length, MAX_FRAME_BYTES)) return "malformed";
  const crc = crc32(data.subarray(HEADER_BYTES, end), crc32(data.subarray(0, CRC_OFFSET)));
  if (crc !== view.getUint32(CRC_OFFSET, true)) return "malformed";

  const invalidRuns = readRuns(view, payloadAt, header);
  const paceOffsets = readPace(view, paceAt, end, header.n);
  const payload = data.subarray(payloadAt, paceAt);
  const samples = codec === 1 ? decodeRice(payload, coded) : decodeRaw16(payload);
  if (invalidRuns === null || paceOffsets === null || samples === null) return "malformed";
  return { frame: { ...header, leads, invalidRuns, paceOffsets, samples }, bytes: end };
}

type Header = Omit<WaveformFrame, "leads" | "invalidRuns" | "paceOffsets" | "samples">;

function readHeader(view: DataView): Header {
  return {
    flags: view.getUint8(3),
    streamId: view.getUint32(4, true),
    seq: view.getUint32(8, true),
    contextVersion: view.getUint32(12, true),
    t0Us: Number(view.getBigInt64(16, true) / 1000n),
    firstSample: view.getUint32(24, true) + view.getUint16(28, true) * 2 ** 32,
    numbering: view.getUint16(30, true),
    sampleRateMhz: view.getUint32(32, true),
    n: view.getUint16(36, true),
    leadMask: view.getUint16(38, true),
    leadOffMask: view.getUint16(40, true),
    saturatedMask: view.getUint16(42, true),
    lsbNv: view.getUint16(44, true),
  };
}

function soundHeader(header: Header): boolean {
  const inRange =
    header.t0Us >= 0 &&
    header.t0Us <= Number.MAX_SAFE_INTEGER &&
    header.firstSample + header.n <= MAX_INDEX &&
    header.n <= MAX_SAMPLES;
  const named = header.streamId !== 0 && header.sampleRateMhz !== 0 && (header.leadMask & header.leadOffMask) === 0;
  const hasSamples = header.n > 0 && (header.leadMask | header.leadOffMask) !== 0;
  const emptyEnd = (header.flags & Flag.streamEnd) !== 0 && header.n === 0 && header.leadMask === 0;
  return inRange && named && (hasSamples || emptyEnd);
}

function leadsOf(mask: number): number[] {
  const leads: number[] = [];
  for (let bit = 0; bit < 16; bit += 1) if ((mask >> bit) & 1) leads.push(bit);
  return leads;
}

function readRuns(view: DataView, end: number, header: Header): InvalidRun[] | null {
  const runs: InvalidRun[] = [];
  for (let at = HEADER_BYTES; at < end; at += RUN_BYTES) {
    const run = {
      lead: view.getUint8(at),
      reason: view.getUint8(at + 1),
      first: view.getUint16(at + 2, true),
      count: view.getUint16(at + 4, true),
    };
    const present = run.lead < 16 && ((header.leadMask >> run.lead) & 1) === 1;
    if (!present || run.count === 0 || run.first + run.count > header.n) return null;
    runs.push(run);
  }
  return runs;
}

function readPace(view: DataView, start: number, end: number, n: number): number[] | null {
  if (start === end) return [];
  const offsets: number[] = [];
  for (let at = start + 1; at < end; at += 2) {
    const offset = view.getUint16(at, true);
    if (offset >= n || offset <= (offsets.at(-1) ?? -1)) return null;
    offsets.push(offset);
  }
  return offsets.length > 0 ? offsets : null;
}

function canonical(frame: WaveformFrame): WaveformFrame {
  return { ...frame, flags: frame.flags & ~(Flag.resend | Flag.redundant) };
}
