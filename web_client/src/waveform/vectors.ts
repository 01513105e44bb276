/** Golden vectors of the wire, shared with Python; read by tests only. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";

export interface FrameVector {
  stream_id: number;
  seq: number;
  flags: number;
  context_version: number;
  t0_us: number;
  first_sample: number;
  numbering: number;
  sample_rate_mhz: number;
  n: number;
  lead_mask: number;
  lead_off_mask: number;
  saturated_mask: number;
  lsb_nv: number;
  invalid_runs: [number, number, number, number][];
  pace_offsets: number[];
  samples: string;
}

export interface Vectors {
  good: { name: string; message: string; frame: FrameVector; previous: FrameVector | null }[];
  broken: { name: string; message: string; error: "malformed" | "unsupported" }[];
  stories: {
    steps: {
      frame: [seq: number, flags: number, t0Us: number, firstSample: number, n: number, numbering: number];
      placement: [position: number, session: number, late: boolean, restart: boolean] | null;
    }[];
    missing: [number, number][];
    restarts: number;
  }[];
}

export function readVectors(): Vectors {
  const path = resolve(import.meta.dirname, "../../../tests/vectors/waveform/vectors.json");
  return JSON.parse(readFileSync(path, "utf-8")) as Vectors;
}

export function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(Buffer.from(base64, "base64"));
}
