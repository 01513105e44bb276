import { describe, expect, it } from "vitest";
import { type Layers, qualityOf } from "./quality";
import type { FrameMark } from "./videoAge";

const NOW = 10_000;
const frames = (grewAtMs: number | null): FrameMark => ({ consumer: "k", frames: 100, grewAtMs, dueSinceMs: 0 });
const layers = (spatial: number, limited_by: Layers["limited_by"], spatial_layers = 3): Layers => ({
  spatial,
  temporal: 2,
  spatial_layers,
  limited_by,
});

describe("what a tile says about its picture", () => {
  it.each([
    ["the best there is", layers(2, "nothing"), { kind: "full", step: 3, of: 3, bars: 3 }],
    ["a small tile needs no more", layers(0, "view"), { kind: "full", step: 1, of: 3, bars: 3 }],
    ["a thin line, middle size", layers(1, "line"), { kind: "small_line", step: 2, of: 3, bars: 2 }],
    ["a thin line, smallest", layers(0, "line"), { kind: "small_line", step: 1, of: 3, bars: 1 }],
    ["the smaller of two", layers(0, "line", 2), { kind: "small_line", step: 1, of: 2, bars: 2 }],
    ["fewer frames of the largest", layers(2, "line"), { kind: "few_line", step: 3, of: 3, bars: 2 }],
    ["fewer frames of the only layer", layers(0, "line", 1), { kind: "few_line", step: 1, of: 1, bars: 2 }],
    ["the sender has a thin line", layers(0, "source"), { kind: "small_source", step: 1, of: 3, bars: 1 }],
    ["an odd count", layers(5, "nothing", 0), { kind: "full", step: 1, of: 1, bars: 3 }],
  ] as const)("%s", (_, news, quality) => {
    expect(qualityOf(news, frames(NOW), NOW)).toEqual(quality);
  });

  it("claims nothing before it knows", () => {
    expect(qualityOf(null, frames(NOW), NOW)).toBeNull();
  });

  it("says paused once no frame comes any more, and not over a picture that moves", () => {
    const paused = { kind: "paused_line", step: 0, of: 3, bars: 0 };
    expect(qualityOf(layers(-1, "line"), frames(NOW - 1_000), NOW)).toEqual(paused);
    expect(qualityOf(layers(-1, "line"), frames(null), NOW)).toEqual(paused);
    expect(qualityOf(layers(-1, "line"), undefined, NOW)).toEqual(paused);
    expect(qualityOf(layers(-1, "line"), frames(NOW - 400), NOW)).toBeNull();
  });

  it("does not blame the line for a sender that sends nothing, or for a tile out of sight", () => {
    expect(qualityOf(layers(-1, "source"), frames(0), NOW)).toBeNull();
    expect(qualityOf(layers(-1, "view"), frames(0), NOW)).toBeNull();
  });
});
