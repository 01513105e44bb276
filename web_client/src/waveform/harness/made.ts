/** A made-up 12-lead source on this page's own clock, for the gallery and the bench. */

import { decode, encode } from "@msgpack/msgpack";
import type { WaveformStream } from "../../protocol/messages";
import type { EcgChannel } from "../channel";
import { type MadeFrame, madeUpMv, makeFrame, TWELVE_LEADS } from "../testFrames";

export const RATE_HZ = 500;
export const BLOCK = 50;
const BLOCK_US = (BLOCK * 1e6) / RATE_HZ;
export const LSB_NV = 1000;

export const STREAM: WaveformStream = {
  stream_id: 7,
  leads: [...TWELVE_LEADS],
  sample_rate_mhz: 1000 * RATE_HZ,
  lsb_nv: LSB_NV,
  device: "Bedside 3",
  filter: "0.05-150 Hz",
  simulated: false,
  patient: "p1",
};

export function nowUs(): number {
  return Math.round((performance.timeOrigin + performance.now()) * 1000);
}

/** Samples of all leads from a time on, steps. */
export function madeUpRows(leads: readonly string[], fromUs: number, n: number, rateHz = RATE_HZ): number[][] {
  return leads.map((lead) =>
    Array.from({ length: n }, (_, i) => Math.round((1e6 / LSB_NV) * madeUpMv(lead, fromUs / 1e6 + i / rateHz))),
  );
}

export type Change = (frame: MadeFrame) => MadeFrame | null;

/** Sends frames as time goes on, with the last `backS` seconds at once. */
export class MadeChannel implements EcgChannel {
  open = true;
  private readonly frames = new Set<(message: ArrayBuffer) => void>();
  private readonly controls = new Set<(message: Uint8Array) => void>();
  private readonly startUs: number;
  private seq = 0;
  private timer: ReturnType<typeof setInterval> | null = null;

  constructor(
    private readonly leads: readonly string[],
    backS: number,
    private readonly change: Change = (frame) => frame,
    private readonly flags = 0,
  ) {
    this.startUs = Math.floor((nowUs() - backS * 1e6) / BLOCK_US) * BLOCK_US;
  }

  onFrame(callback: (message: ArrayBuffer) => void): () => void {
    this.frames.add(callback);
    this.timer ??= setInterval(() => this.send(), 20);
    return () => this.frames.delete(callback);
  }

  onControl(callback: (message: Uint8Array) => void): () => void {
    this.controls.add(callback);
    return () => this.controls.delete(callback);
  }

  onOpenChange(): () => void {
    return () => undefined;
  }

  sendControl(message: Uint8Array): void {
    const asked = decode(message) as { t: string; c?: number; stream?: number; first?: number; last?: number };
    const answer = asked.t === "ping" ? { t: "pong", c: asked.c, s: nowUs() } : { ...asked, t: "gone" };
    if (asked.t !== "have") for (const callback of this.controls) callback(encode(answer));
  }

  /** Frames of the past, as an archive would give them. */
  stored(fromUs: number, seconds: number): Uint8Array[] {
    return Array.from({ length: Math.floor((seconds * 1e6) / BLOCK_US) }, (_, i) => {
      const t0Us = fromUs + i * BLOCK_US;
      return makeFrame(this.frame(i, t0Us, i * BLOCK));
    });
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
  }

  private send(): void {
    while (this.startUs + (this.seq + 1) * BLOCK_US <= nowUs()) {
      const made = this.change(this.frame(this.seq, this.startUs + this.seq * BLOCK_US, this.seq * BLOCK));
      this.seq += 1;
      if (made === null) continue;
      const message = makeFrame(made);
      for (const callback of this.frames) callback(message.slice().buffer);
    }
  }

  private frame(seq: number, t0Us: number, firstSample: number): MadeFrame {
    return { seq, t0Us, firstSample, rateHz: RATE_HZ, flags: this.flags, rows: madeUpRows(this.leads, t0Us, BLOCK) };
  }
}
