/**
 * Recorded frames by time, fetched page by page and kept within a bound.
 *
 * Time is cut into pieces of ten seconds that are fetched whole and kept, the least used going first: scrolling back and
 * forth asks once. The newest piece still grows, so it is never kept. Frames are handed on as the bytes that were sent;
 * whoever draws them checks their CRC. Nothing is made up where a piece cannot be had: the error is the caller's.
 */

export const PIECE_US = 10_000_000;
/** Six minutes of twelve leads are about 1.2 MB. */
const MAX_PIECES = 36;
/** A server that pages for ever must not keep us busy for ever. */
const MAX_PAGES = 50;
/** What is younger than this may still be repaired or not yet be written. */
const SETTLED_US = 15_000_000;
const MAX_FRAME_BYTES = 8192;

/** One answer of the server: frames, and what to ask on with; only the server reads it. */
export interface FramePage {
  readonly frames: readonly Uint8Array[];
  readonly next: string | null;
}

export type FetchFrames = (fromUs: number, toUs: number, next: string | null) => Promise<FramePage>;

export class MalformedHistory extends Error {
  override readonly name = "MalformedHistory";
}

export class FrameHistory {
  private readonly pieces = new Map<number, Promise<readonly Uint8Array[]>>();

  constructor(
    private readonly fetchFrames: FetchFrames,
    private readonly nowUs: () => number,
  ) {}

  /** Everything recorded from `fromUs` to `toUs`, in the order it is stored. */
  async range(fromUs: number, toUs: number): Promise<Uint8Array[]> {
    const first = Math.floor(fromUs / PIECE_US);
    const last = Math.floor(Math.max(fromUs, toUs) / PIECE_US);
    // More than is kept would push itself out of the cache while it is being read.
    const from = Math.max(first, last - MAX_PIECES + 1);
    const wanted = Array.from({ length: last - from + 1 }, (_, k) => this.piece(from + k));
    return (await Promise.all(wanted)).flat();
  }

  get kept(): number {
    return this.pieces.size;
  }

  private piece(number: number): Promise<readonly Uint8Array[]> {
    const known = this.pieces.get(number);
    if (known !== undefined) {
      this.pieces.delete(number);
      this.pieces.set(number, known);
      return known;
    }
    const loading = this.load(number * PIECE_US, (number + 1) * PIECE_US);
    if ((number + 1) * PIECE_US > this.nowUs() - SETTLED_US) return loading;
    this.pieces.set(number, loading);
    // What failed is asked for again next time.
    loading.catch(() => this.pieces.delete(number));
    for (const oldest of this.pieces.keys()) {
      if (this.pieces.size <= MAX_PIECES) break;
      this.pieces.delete(oldest);
    }
    return loading;
  }

  private async load(fromUs: number, toUs: number): Promise<readonly Uint8Array[]> {
    const frames: Uint8Array[] = [];
    let next: string | null = null;
    for (let page = 0; page < MAX_PAGES; page += 1) {
      const answer: FramePage = await this.fetchFrames(fromUs, toUs, next);
      frames.push(...answer.frames);
      // A page that does not get on is the last.
      if (answer.next === null || answer.next === next || answer.frames.length === 0) break;
      next = answer.next;
    }
    return frames;
  }
}

/**
 * Cut an answer into frames.
 *
 * @param bytes u32 little endian length, then so many bytes, again and again
 * @throws MalformedHistory when a length is impossible or the end is cut off
 */
export function splitFrames(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const frames: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = at + 4 <= bytes.length ? view.getUint32(at, true) : 0;
    if (length === 0 || length > MAX_FRAME_BYTES || at + 4 + length > bytes.length) throw new MalformedHistory();
    frames.push(bytes.slice(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return frames;
}

/** A place where the recording is broken: samples are missing, or the device began anew. */
export interface Break {
  readonly kind: "gap" | "session";
  readonly fromUs: number;
  readonly toUs: number;
}

/** Two views of the same break may differ by the rounding of a time. */
const SAME_US = 1_000;

/** All of both, each once. */
export function mergeBreaks(known: readonly Break[], fresh: readonly Break[]): readonly Break[] {
  const isKnown = (one: Break): boolean =>
    known.some(({ fromUs, kind }) => kind === one.kind && Math.abs(fromUs - one.fromUs) < SAME_US);
  const added = fresh.filter((one) => !isKnown(one));
  return added.length === 0 ? known : [...known, ...added];
}

const HEADER_BYTES = 52;
const SESSION_RESTART = 128;

/**
 * Where frames do not follow each other in time, read from their headers alone.
 *
 * @param frames as stored, in any order; what is no frame is passed over
 */
export function breaksOf(frames: readonly Uint8Array[]): readonly Break[] {
  const spans = frames.flatMap((frame) => spanOf(frame) ?? []).sort((a, b) => a.fromUs - b.fromUs);
  const breaks: Break[] = [];
  let endUs: number | null = null;
  for (const { fromUs, toUs, isRestart, sampleUs } of spans) {
    // A frame's time is that of its first sample in whole microseconds: less than half a sample is no hole.
    if (endUs !== null && fromUs - endUs > sampleUs / 2) breaks.push({ kind: "gap", fromUs: endUs, toUs: fromUs });
    if (isRestart && endUs !== null) breaks.push({ kind: "session", fromUs, toUs: fromUs });
    endUs = Math.max(endUs ?? toUs, toUs);
  }
  return breaks;
}

interface FrameSpan {
  readonly fromUs: number;
  readonly toUs: number;
  readonly sampleUs: number;
  readonly isRestart: boolean;
}

function spanOf(frame: Uint8Array): FrameSpan | null {
  if (frame.length < HEADER_BYTES || frame[0] !== 0x45 || frame[1] !== 0x43) return null;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const rateMhz = view.getUint32(32, true);
  const n = view.getUint16(36, true);
  if (rateMhz === 0 || n === 0) return null;
  const sampleUs = 1e9 / rateMhz;
  const fromUs = Number(view.getBigInt64(16, true) / 1000n);
  return { fromUs, toUs: fromUs + n * sampleUs, sampleUs, isRestart: (view.getUint8(3) & SESSION_RESTART) !== 0 };
}
