import { describe, expect, it } from "vitest";
import { ageMs, clockText, type FrameMark, freshness, isPictureOld, observeFrames, restartClock } from "./videoAge";

const mark = (readings: [string, number, number][]): FrameMark | undefined =>
  readings.reduce<FrameMark | undefined>(
    (m, [consumer, frames, at]) => observeFrames(m, { consumer, frames }, at),
    undefined,
  );

describe("age of a picture (ARCHITECTURE section 8)", () => {
  it.each([
    [1_999, "live"],
    [2_000, "quiet"],
    [2_999, "quiet"],
    [3_000, "stopped"],
  ] as const)("%i ms after the last frame it is %s", (lateMs, state) => {
    const seen = mark([
      ["k1", 10, 0],
      ["k1", 20, 1_000],
      ["k1", 20, 1_500],
    ]);
    expect(freshness(seen, 1_000 + lateMs)).toBe(state);
  });

  it("keeps counting when a new Consumer replaces the old one and has not decoded yet", () => {
    const seen = mark([
      ["k1", 300, 1_000],
      ["k2", 0, 5_000],
    ]);
    expect(ageMs(seen, 6_000)).toBe(5_000);
    expect(freshness(seen, 6_000)).toBe("stopped");
    expect(freshness(observeFrames(seen, { consumer: "k2", frames: 1 }, 6_500), 6_500)).toBe("live");
  });

  it("is never live before a first frame", () => {
    const seen = mark([["k1", 0, 1_000]]);
    expect(freshness(seen, 1_000)).toBe("waiting");
    expect(freshness(undefined, 0)).toBe("waiting");
    expect(ageMs(seen, 4_000)).toBe(3_000);
  });

  it("does not count the time a source was switched off, nor call the picture of before live", () => {
    const seen = mark([["k1", 5, 0]]);
    const resumed = restartClock(seen as FrameMark, 60_000);
    expect(freshness(resumed, 60_100)).toBe("waiting");
    expect(isPictureOld(resumed)).toBe(true);
    expect([freshness(resumed, 63_000), ageMs(resumed, 63_000)]).toEqual(["stopped", 3_000]);
    const live = observeFrames(resumed, { consumer: "k1", frames: 6 }, 61_000);
    expect([freshness(live, 61_000), isPictureOld(live)]).toEqual(["live", false]);
  });

  it("has no old picture before the first", () => {
    expect([isPictureOld(undefined), isPictureOld(mark([["k1", 0, 0]]))]).toEqual([false, false]);
  });

  it.each([
    [0, "00:00"],
    [7_999, "00:07"],
    [61_000, "01:01"],
    [3_723_000, "1:02:03"],
    [-5, "00:00"],
  ])("%i ms reads %s", (ms, text) => expect(clockText(ms)).toBe(text));
});
