import { describe, expect, it } from "vitest";
import { GapTracker, Recovery } from "./tracker";
import { readVectors } from "./vectors";

describe("placement", () => {
  it.each(readVectors().stories.map((story, i) => ({ i, story })))(
    "[W2] [W3] [W4] [W5] places each frame where Python does: story $i",
    ({ story }) => {
      const tracker = new GapTracker(500_000);
      for (const { frame, placement } of story.steps) {
        const [seq, flags, t0Us, firstSample, n, numbering] = frame;
        const got = tracker.offer({ seq, flags, t0Us, firstSample, n, numbering, sampleRateMhz: 500_000 });
        expect(got === null ? null : [got.position, got.session, got.late, got.restart]).toEqual(placement);
      }
      expect(tracker.missing).toEqual(story.missing);
      expect(tracker.restarts).toBe(story.restarts);
    },
  );
});

describe("recovery", () => {
  it("asks at once, then every 1.5 round trips, five times in all", () => {
    const recovery = new Recovery();
    const asked: number[] = [];
    for (let us = 0; us < 3_000_000; us += 50_000) if (recovery.due([[4, 6]], 200_000, us).length > 0) asked.push(us);
    expect(asked).toEqual([0, 300_000, 600_000, 900_000, 1_200_000]);
    expect(recovery.hopes(5)).toBe(false);
  });

  it("asks for ranges, not for what came meanwhile", () => {
    const recovery = new Recovery();
    expect(recovery.due([[1, 3]], null, 0)).toEqual([[1, 3]]);
    expect(
      recovery.due(
        [
          [1, 1],
          [3, 3],
        ],
        null,
        100_000,
      ),
    ).toEqual([
      [1, 1],
      [3, 3],
    ]);
    expect(recovery.hopes(2)).toBe(false);
  });

  it("takes 'gone' for an answer", () => {
    const recovery = new Recovery();
    recovery.due([[1, 3]], null, 0);
    recovery.gone(1, 2);
    expect(recovery.due([[1, 3]], null, 200_000)).toEqual([[3, 3]]);
  });

  it("bounds what it asks for after a hostile jump", () => {
    const asked = new Recovery().due([[0, 4_000_000_000]], null, 0);
    expect(asked.reduce((sum, [first, last]) => sum + last - first + 1, 0)).toBeLessThanOrEqual(600);
  });
});
