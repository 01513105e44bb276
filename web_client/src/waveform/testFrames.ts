/** Frames made in the browser, raw16, for tests and the harness; the real encoder lives at the source, in Python. */

import { crc32 } from "./crc32";

export interface MadeFrame {
  readonly streamId?: number;
  readonly seq: number;
  readonly flags?: number;
  readonly contextVersion?: number;
  readonly t0Us: number;
  readonly firstSample: number;
  /** Default 0: the source names none. */
  readonly numbering?: number;
  readonly rateHz: number;
  /** Steps of each lead in mask order. */
  readonly rows: readonly (readonly number[])[];
  /** Default: as many leads as rows, from bit 0. */
  readonly leadMask?: number;
  readonly leadOffMask?: number;
  readonly saturatedMask?: number;
  readonly runs?: readonly (readonly [lead: number, reason: number, first: number, count: number])[];
  readonly pace?: readonly number[];
  /** Default 0: that of the announcement. */
  readonly lsbNv?: number;
}

const HEADER_BYTES = 52;
const PACE_FLAG = 16;

/** One message holding one frame (media/WAVEFORM_WIRE.md section 1). */
export function makeFrame(made: MadeFrame): Uint8Array {
  const { rows, runs = [], pace = [] } = made;
  const n = rows[0]?.length ?? 0;
  const paceBytes = pace.length === 0 ? 0 : 1 + 2 * pace.length;
  const bytes = new Uint8Array(HEADER_BYTES + 6 * runs.length + 2 * rows.length * n + paceBytes);
  const view = new DataView(bytes.buffer);
  bytes.set([0x45, 0x43, 2 << 4, (made.flags ?? 0) | (pace.length === 0 ? 0 : PACE_FLAG)]);
  view.setUint32(4, made.streamId ?? 7, true);
  view.setUint32(8, made.seq, true);
  view.setUint32(12, made.contextVersion ?? 1, true);
  view.setBigInt64(16, BigInt(made.t0Us) * 1000n, true);
  view.setBigUint64(24, BigInt(made.firstSample), true);
  view.setUint16(30, made.numbering ?? 0, true);
  view.setUint32(32, 1000 * made.rateHz, true);
  view.setUint16(36, n, true);
  view.setUint16(38, made.leadMask ?? (1 << rows.length) - 1, true);
  view.setUint16(40, made.leadOffMask ?? 0, true);
  view.setUint16(42, made.saturatedMask ?? 0, true);
  view.setUint16(44, made.lsbNv ?? 0, true);
  view.setUint16(46, 6 * runs.length, true);
  let at = HEADER_BYTES;
  for (const [lead, reason, first, count] of runs) {
    bytes.set([lead, reason], at);
    view.setUint16(at + 2, first, true);
    view.setUint16(at + 4, count, true);
    at += 6;
  }
  for (const row of rows) {
    for (const value of row) {
      view.setInt16(at, value, true);
      at += 2;
    }
  }
  if (pace.length > 0) {
    bytes[at] = pace.length;
    at += 1;
    for (const offset of pace) {
      view.setUint16(at, offset, true);
      at += 2;
    }
  }
  view.setUint32(48, crc32(bytes.subarray(HEADER_BYTES), crc32(bytes.subarray(0, 48))), true);
  return bytes;
}

const LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"] as const;
/** Height of P, Q, R, S and T in mV of the leads that are not computed. */
const SHAPES: Readonly<Record<string, readonly [number, number, number, number, number]>> = {
  I: [0.08, -0.05, 0.7, -0.12, 0.22],
  II: [0.14, -0.08, 1.1, -0.2, 0.32],
  V1: [0.06, 0, 0.25, -1.1, -0.1],
  V2: [0.08, 0, 0.5, -1.4, 0.35],
  V3: [0.09, -0.03, 0.9, -0.9, 0.45],
  V4: [0.1, -0.08, 1.5, -0.5, 0.45],
  V5: [0.1, -0.1, 1.3, -0.25, 0.38],
  V6: [0.09, -0.1, 1.0, -0.12, 0.28],
};
const WAVES = [
  [0.16, 0.022],
  [0.265, 0.008],
  [0.285, 0.01],
  [0.308, 0.009],
  [0.52, 0.045],
] as const;
const BEAT_S = 0.82;

/** A made-up sinus rhythm, mV of one lead at a time; other leads than the standard ones look like V5. */
export function madeUpMv(lead: string, atS: number): number {
  const one = shape("I", atS);
  const two = shape("II", atS);
  if (lead === "III") return two - one;
  if (lead === "aVR") return -(one + two) / 2;
  if (lead === "aVL") return one - two / 2;
  if (lead === "aVF") return two - one / 2;
  return shape(lead, atS);
}

function shape(lead: string, atS: number): number {
  const heights = SHAPES[lead] ?? (SHAPES.V5 as readonly number[]);
  const phase = atS - Math.floor(atS / BEAT_S) * BEAT_S;
  let mv = 0.03 * Math.sin(2 * Math.PI * 0.25 * atS);
  WAVES.forEach(([centre, width], i) => {
    mv += (heights[i] as number) * Math.exp(-(((phase - centre) / width) ** 2) / 2);
  });
  return mv;
}

export const TWELVE_LEADS: readonly string[] = LEADS;
