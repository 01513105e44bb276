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
  readonly kind: "full" | "small_line" | "small_source" | "paused_line";
  /** Filled dots out of `of`. */
  readonly dots: number;
  readonly of: number;
}

/** Frames that were on their way when the relay stopped may still arrive; after this the picture stands. */
const RESTS_AFTER_MS = 1_000;

/** @returns null before anything is known: then nothing is claimed. */
export function qualityOf(layers: Layers | null, frames: FrameMark | undefined, nowMs: number): Quality | null {
  if (layers === null) return null;
  const of = Math.max(1, layers.spatial_layers);
  if (layers.spatial < 0) {
    // A late word must not cover a picture that moves.
    const stands = frames?.grewAtMs == null || ageMs(frames, nowMs) >= RESTS_AFTER_MS;
    return layers.limited_by === "line" && stands ? { kind: "paused_line", dots: 0, of } : null;
  }
  const dots = Math.min(of, layers.spatial + 1);
  if (layers.limited_by === "line") return { kind: "small_line", dots, of };
  if (layers.limited_by === "source") return { kind: "small_source", dots, of };
  return { kind: "full", dots: of, of };
}
