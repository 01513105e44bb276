import { describe, expect, it } from "vitest";
import { bpmText, marchOut, measure, msText, mvText, resolutionMs, type TracePoint } from "./calipers";

const point = (atUs: number, uv = 0, lead = "II"): TracePoint => ({ lead, atUs, uv });
const T0 = 1_790_000_000_000_000;

describe("a caliper", () => {
  it("(W32) gives ms, mV and rate of two samples, whichever was set first", () => {
    const [q, r] = [point(T0, -120), point(T0 + 820_000, 980)];
    const expected = { ms: 820, mv: 1.1, bpm: 60_000 / 820 };
    expect(measure(q, r)).toEqual(expected);
    expect(measure(r, q)).toEqual(expected);
    expect(bpmText(expected.bpm)).toBe("73/min");
  });

  it("keeps the sign of a falling trace", () => {
    expect(measure(point(T0, 200), point(T0 + 1_000, -100)).mv).toBeCloseTo(-0.3);
  });

  it.each([0, 90_000, 7_000_000])("gives no rate for %i us: no heart beats so", (us) => {
    expect(measure(point(T0), point(T0 + us)).bpm).toBeNull();
  });

  it("gives no voltage between two leads", () => {
    expect(measure(point(T0, 100, "II"), point(T0 + 1_000_000, 300, "V5"))).toMatchObject({ mv: null, bpm: 60 });
  });

  it("loses no microsecond of the year 2026", () => {
    expect(measure(point(T0), point(T0 + 1)).ms).toBe(0.001);
  });
});

describe("marching out", () => {
  it("repeats the interval over the page, to both sides, without its own legs", () => {
    expect(marchOut(T0 + 800_000, T0, T0 - 1_700_000, T0 + 3_300_000).map((us) => (us - T0) / 1000)).toEqual([
      -1600, -800, 1600, 2400, 3200,
    ]);
  });

  it.each([
    ["nothing", 0],
    ["one sample", 2_000],
  ])("draws no lines for an interval of %s", (_, us) => {
    expect(marchOut(T0, T0 + us, T0, T0 + 10_000_000)).toEqual([]);
  });
});

it("rounds what is read no finer than it is", () => {
  expect([msText(411.6), mvText(-0.154), mvText(-0.001), resolutionMs(500_000), resolutionMs(249_890)]).toEqual([
    "412 ms",
    "-0.15 mV",
    "0.00 mV",
    2,
    1_000_000 / 249_890,
  ]);
});
