import { describe, expect, it } from "vitest";
import {
  clampEdge,
  clockOf,
  fractionOf,
  jumpTo,
  neighbour,
  type OverviewEvent,
  rateTrend,
  stepPage,
  timeAt,
} from "./review";

const S = 1_000_000;
const recorded = { firstUs: 100 * S, lastUs: 200 * S };
const PAGE = 10 * S;

describe("a place in the review", () => {
  it("never leaves what was recorded", () => {
    expect([
      clampEdge(0, recorded, PAGE),
      clampEdge(150 * S, recorded, PAGE),
      clampEdge(999 * S, recorded, PAGE),
    ]).toEqual([110 * S, 150 * S, 200 * S]);
    expect(clampEdge(0, { firstUs: 100 * S, lastUs: 103 * S }, PAGE)).toBe(103 * S);
  });

  it("turns pages so that a tenth stays in view", () => {
    expect([stepPage(150 * S, -1, recorded, PAGE), stepPage(150 * S, 1, recorded, PAGE)]).toEqual([141 * S, 159 * S]);
    expect(stepPage(112 * S, -1, recorded, PAGE)).toBe(110 * S);
  });

  it("puts a moment into the middle", () => expect(jumpTo(150 * S, recorded, PAGE)).toBe(155 * S));

  it("is a fraction of the overview and back", () => {
    expect([fractionOf(125 * S, recorded), fractionOf(0, recorded), fractionOf(999 * S, recorded)]).toEqual([
      0.25, 0, 1,
    ]);
    expect([timeAt(0.25, recorded), timeAt(-1, recorded), timeAt(2, recorded)]).toEqual([125 * S, 100 * S, 200 * S]);
    expect(fractionOf(5, { firstUs: 5, lastUs: 5 })).toBe(1);
  });
});

describe("jumping", () => {
  const at = (s: number): OverviewEvent => ({ kind: "mark", fromUs: s * S, toUs: s * S, label: "" });
  const events = [at(180), at(120), at(150)];

  it("goes to the nearest event on either side, never to the one just reached", () => {
    const from = (s: number, step: 1 | -1) => (neighbour(events, s * S, step)?.fromUs ?? 0) / S;
    expect([from(150, 1), from(150, -1), from(130, 1), from(180, 1), from(120, -1)]).toEqual([180, 120, 150, 0, 0]);
  });
});

describe("the rate over the recording", () => {
  it("is the median of each part, and nothing where beats do not follow each other", () => {
    const beats = [100, 101, 102, 102.1, 103, 160, 160.5, 161].map((s) => s * S);
    expect(rateTrend(beats, recorded, 4)).toEqual([60, null, 120, null]);
  });
});

it("tells local time to the second on a clock of 24 hours", () => {
  const us = new Date(2026, 10, 22, 0, 3, 20).getTime() * 1000;
  expect([clockOf(us, "en"), clockOf(us, "zh-CN", true)]).toEqual(["00:03:20", "2026-11-22 00:03:20"]);
});
