/** Heart rate, skew and what a stream may be called. */
import { describe, expect, it } from "vitest";
import type { HeartRate } from "../protocol";
import { foldHeart, heartText, mergeBeats } from "./heart";
import { gradeOf, upperHz } from "./labels";
import { skewOf } from "./skew";

const NOW_US = 1_790_000_000_000_000;
const rate = (changes: Partial<HeartRate> = {}): HeartRate => ({
  type: "heart_rate",
  context_version: 3,
  stream_id: 7,
  bpm: 71.6,
  beats_us: [],
  at_us: NOW_US,
  unsure: false,
  ...changes,
});

describe("the computed heart rate", () => {
  const text = (changes: Partial<HeartRate>, lateUs = 0, lateMs = 0, isLost = false) =>
    heartText(foldHeart(undefined, rate(changes), 0), NOW_US + lateUs, lateMs, isLost).text;

  it("(W8) is shown for 5 s, then blank", () => {
    expect([text({}), text({}, 5_000_000, 5_000), text({}, 5_000_001), text({}, 0, 5_001)]).toEqual([
      "72",
      "72",
      "---",
      "---",
    ]);
  });

  it("is a question mark when the computation is unsure or has no rate", () => {
    expect([text({ unsure: true }), text({ bpm: null })]).toEqual(["?", "?"]);
  });

  it("(W12) is blank when the trace is lost, and before anything is known", () => {
    expect([text({}, 0, 0, true), heartText(undefined, NOW_US, 0, false).text]).toEqual(["---", "---"]);
  });

  it("is not replaced by an older one", () => {
    const newer = foldHeart(undefined, rate(), 0);
    expect(foldHeart(newer, rate({ bpm: 30, at_us: NOW_US - 1, beats_us: [5] }), 0)).toMatchObject({
      bpm: 71.6,
      beatsUs: [5],
    });
  });

  it("keeps each beat once, the newer placing, for a minute", () => {
    expect(mergeBeats([1_000_000, 1_800_000], [1_802_000, 2_600_000])).toEqual([1_000_000, 1_802_000, 2_600_000]);
    expect(mergeBeats([1_000_000], [61_000_001])).toEqual([61_000_001]);
  });

  it("drops a beat that the newer look at the same time no longer finds, and nothing from outside it", () => {
    const known = [1_000_000, 1_400_000, 1_800_000, 9_000_000];
    expect(mergeBeats(known, [1_000_000, 1_800_000, 2_600_000])).toEqual([1_000_000, 1_800_000, 2_600_000, 9_000_000]);
    const newer = foldHeart(undefined, rate({ beats_us: [1_000_000, 1_800_000] }), 0);
    expect(foldHeart(newer, rate({ at_us: NOW_US - 1, beats_us: [200_000, 1_400_000, 2_000_001] }), 0).beatsUs).toEqual(
      [200_000, 1_000_000, 1_800_000],
    );
  });
});

describe("the ages of picture and trace", () => {
  it("(W43) are told when they differ by more than a second, either way", () => {
    const of = (ms: number) => ({ ms, isLeast: false });
    expect([skewOf(of(1_400), 300), skewOf(of(200), 1_201), skewOf(of(1_300), 300)]).toEqual([
      { ms: 1_100, isLeast: false },
      { ms: -1_001, isLeast: false },
      null,
    ]);
  });

  it("are not compared when one is not known", () => {
    expect([skewOf(null, 3_000), skewOf({ ms: 3_000, isLeast: false }, null)]).toEqual([null, null]);
  });

  it("(W43) of a picture that may be older than is known, only that it is too old is told", () => {
    const least = (ms: number) => ({ ms, isLeast: true });
    expect([skewOf(least(2_500), 300), skewOf(least(0), 2_500)]).toEqual([{ ms: 2_200, isLeast: true }, null]);
  });
});

describe("the label of a stream", () => {
  const leads = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"];
  const stream = { leads, sample_rate_mhz: 500_000, filter: "0.05-150 Hz" };

  it("(W30) is diagnostic only with enough leads, rate and a stated bandwidth", () => {
    expect([
      gradeOf(stream),
      gradeOf({ ...stream, sample_rate_mhz: 499_999 }),
      gradeOf({ ...stream, leads: leads.slice(1) }),
      gradeOf({ ...stream, filter: "Monitor 0.5–40 Hz" }),
      gradeOf({ ...stream, filter: "" }),
    ]).toEqual(["diagnostic", "low_rate", "few_leads", "narrow_band", "unknown_band"]);
  });

  it.each([
    ["0.05-150 Hz", 150],
    ["Diagnostic 0.05 Hz – 150 Hz, notch 50 Hz", 150],
    ["notch 50 Hz", null],
    ["", null],
  ])("(W29) reads the band of %j", (filter, hz) => expect(upperHz(filter)).toBe(hz));
});
