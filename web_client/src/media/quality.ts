/**
 * What a tile says about its picture: how good, and why not better.
 *
 * The relay says which layer it forwards and what limits it; the picture's own age says whether frames really come. A
 * picture that the relay rests because the line is too thin must not stand there as if it were live, and must not be
 * mistaken for a broken sender either: the words differ, because what a person can do differs. Pure.
 */
import { ageMs, type FrameMark } from "./videoAge";

export interface Layers {
  readonly spatial: number;
  readonly temporal: number;
  readonly spatial_layers: number;
  readonly limited_by: "nothing" | "view" | "line" | "source";
}

export interface Quality {
  /** `full`: as good as the tile can show. */
  readonly kind: "full" | "small_line" | "few_line" | "small_source" | "paused_line";
  /** Size that is shown, and how many there are. */
  readonly step: number;
  readonly of: number;
  /** Filled bars of `BARS`, whatever the number of sizes. */
  readonly bars: number;
}

export const BARS = 3;

/** Frames that were on their way when the relay stopped may still arrive; after this the picture stands. */
const RESTS_AFTER_MS = 1_000;

/** @returns null before anything is known: then nothing is claimed. */
export function qualityOf(layers: Layers | null, frames: FrameMark | undefined, nowMs: number): Quality | null {
  if (layers === null) return null;
  const of = Math.max(1, layers.spatial_layers);
  if (layers.spatial < 0) {
    // A late word must not cover a picture that moves.
    const stands = frames?.grewAtMs == null || ageMs(frames, nowMs) >= RESTS_AFTER_MS;
    return layers.limited_by === "line" && stands ? { kind: "paused_line", step: 0, of, bars: 0 } : null;
  }
  const step = Math.min(of, layers.spatial + 1);
  // Never full while something is missing, never empty while something comes.
  const bars = Math.min(BARS - 1, Math.max(1, Math.round((BARS * step) / of)));
  // In its full size, or its only one, a thin line can only have cost frames.
  if (layers.limited_by === "line") return { kind: step === of ? "few_line" : "small_line", step, of, bars };
  if (layers.limited_by === "source") return { kind: "small_source", step, of, bars };
  return { kind: "full", step, of, bars: BARS };
}
