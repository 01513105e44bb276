import { describe, expect, it } from "vitest";
import type { StillLane, StillMap } from "../waveform/settings";
import { aimAt, laneAt, laneOfSpan, pageSpan, placesOf } from "./still";

const T0 = 1_790_000_000_000_000;
const lane = (lead: string, row: number, changes: Partial<StillLane> = {}): StillLane => ({
  lead,
  derived: false,
  xPx: 100,
  wPx: 500,
  midPx: 50 + 100 * row,
  topPx: 100 * row,
  bottomPx: 100 * row + 99,
  fromUs: T0,
  usPerPx: 10_000,
  uvPerPx: 25,
  ...changes,
});
const page: StillMap = { atUs: T0 + 5_000_000, lanes: [lane("I", 0), lane("II", 1), lane("aVR", 2, { uvPerPx: -25 })] };

describe("a still page", () => {
  it("tells time and voltage of a place, and the place of a time and voltage", () => {
    const place = { xPx: 350, yPx: 110 };
    const found = laneAt(page, place);
    expect(found?.lead).toBe("II");
    if (found === null) return;
    const point = aimAt(found, place);
    expect(point).toEqual({ lead: "II", atUs: T0 + 2_500_000, uv: 1000 });
    expect(placesOf(page, point)).toEqual([{ lane: found, ...place }]);
  });

  it("turns the voltage over where the lane is", () => {
    const found = laneAt(page, { xPx: 100, yPx: 210 });
    expect(found === null ? null : aimAt(found, { xPx: 100, yPx: 210 }).uv).toBe(-1000);
  });

  it("has no lane beside or between its strips", () => {
    expect([laneAt(page, { xPx: 99, yPx: 50 }), laneAt(page, { xPx: 350, yPx: 99.5 })]).toEqual([null, null]);
  });

  it("puts the same point on another viewer's page in his own geometry, on each lane that shows it", () => {
    const other: StillMap = {
      atUs: page.atUs,
      lanes: [
        lane("II", 0, { wPx: 125 }),
        lane("II", 3, { usPerPx: 5_000, uvPerPx: 12.5 }),
        lane("II", 4, { fromUs: T0 + 3_000_000 }),
      ],
    };
    const places = placesOf(other, { lead: "II", atUs: T0 + 1_000_000, uv: 250 });
    expect(places.map(({ xPx, yPx }) => [xPx, yPx])).toEqual([
      [200, 40],
      [300, 330],
    ]);
  });

  it("shows nothing of a time or lead that is not on it, and keeps a high peak inside its strip", () => {
    expect(placesOf(page, { lead: "V1", atUs: T0, uv: 0 })).toEqual([]);
    expect(placesOf(page, { lead: "I", atUs: T0 + 5_000_001, uv: 0 })).toEqual([]);
    expect(placesOf(page, { lead: "I", atUs: T0, uv: 9_000 })[0]?.yPx).toBe(0);
  });

  it("draws an interval on a strip that shows both its ends, and on the one in hand where several do", () => {
    const column = lane("II", 0, { wPx: 125 });
    const [strip, other] = [lane("II", 3), lane("II", 4)];
    const paper: StillMap = { atUs: page.atUs, lanes: [column, lane("aVL", 0, { xPx: 225 }), strip, other] };
    const of = (fromS: number, toS: number | null, inHand: StillLane | null = null) =>
      laneOfSpan(paper, "II", T0 + fromS * 1e6, toS === null ? null : T0 + toS * 1e6, inHand);
    // Beyond 1.25 s the column is aVL's.
    expect([of(0.5, 1), of(0.5, 3), of(0.5, null)]).toEqual([column, strip, column]);
    expect([of(0.5, null, other), of(0.5, 3, other), of(0.5, 3, column)]).toEqual([other, other, strip]);
    expect([of(6, 7), of(0.5, 9)]).toEqual([null, column]);
  });

  it("spans from its first to its last time", () => {
    expect(pageSpan(page)).toEqual({ fromUs: T0, toUs: T0 + 5_000_000 });
    expect(pageSpan({ atUs: T0, lanes: [] })).toBeNull();
  });
});
