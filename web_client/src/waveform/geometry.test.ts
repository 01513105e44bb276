import { describe, expect, it } from "vitest";
import { UNCALIBRATED } from "./calibration";
import { columnOf, computePage, type PageRequest, xOfColumn } from "./geometry";

const LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"];

function request(more: Partial<PageRequest> = {}, surface: Partial<PageRequest["surface"]> = {}): PageRequest {
  return {
    surface: { width: 1200, height: 700, dpr: 1, calibration: UNCALIBRATED, theme: "light", ...surface },
    leads: LEADS,
    sampleRateMhz: 500_000,
    layout: "3x4+1",
    speedMmS: 25,
    gainMmMv: 10,
    ...more,
  };
}

describe("page", () => {
  it("[W26] derives pixels from millimetres at every speed, gain and pixel ratio", () => {
    for (const dpr of [1, 1.25, 1.5, 2]) {
      for (const speedMmS of [12.5, 25, 50] as const) {
        for (const gainMmMv of [5, 10, 20] as const) {
          const page = computePage(request({ speedMmS, gainMmMv }, { dpr, width: 1200 * dpr, height: 700 * dpr }));
          const mm = (96 / 25.4) * dpr;
          expect(page.pxPerSample * 500).toBeCloseTo(speedMmS * mm, 9);
          expect(page.pxPerMv).toBeCloseTo(gainMmMv * mm, 9);
        }
      }
    }
  });

  it("[W27] uses the measured millimetre where there is one, in both directions", () => {
    const calibration = { pxPerMmX: 1.6, pxPerMmY: 1.7, calibrated: true };
    const page = computePage(request({}, { calibration, dpr: 2 }));
    expect(page.pxPerSample * 500).toBeCloseTo(25 * 3.2, 9);
    expect(page.pxPerMv).toBeCloseTo(34, 9);
  });

  it("lays 3x4 out over one sweep with the rhythm strip below", () => {
    const { rows, sweepSamples } = computePage(request());
    expect(rows.map((row) => row.segments.map((segment) => segment.name))).toEqual([
      ["I", "aVR", "V1", "V4"],
      ["II", "aVL", "V2", "V5"],
      ["III", "aVF", "V3", "V6"],
      ["II"],
    ]);
    for (const { segments } of rows) {
      expect(segments[0]?.from).toBe(0);
      expect(segments.at(-1)?.to).toBe(sweepSamples);
      segments.slice(1).forEach((segment, i) => {
        expect(segment.from).toBe(segments[i]?.to);
      });
    }
  });

  it("[W31] keeps the slot of a lead the device does not send", () => {
    const { rows } = computePage(request({ leads: ["V1", "ii", "I", "V2", "V3", "V4", "V5"] }));
    const leads = Object.fromEntries(
      rows.flatMap((row) => row.segments.map(({ name, terms }) => [name, terms.map(({ lead }) => lead)])),
    );
    expect(leads).toMatchObject({ I: [2], II: [1], V1: [0], aVR: [2, 1], V6: [] });
  });

  it("shows unknown leads as they come, one below the other", () => {
    expect(computePage(request({ leads: ["MLII", "V5"] })).rows.map((row) => row.segments[0]?.terms)).toEqual([
      [{ lead: 0, weight: 1 }],
      [{ lead: 1, weight: 1 }],
    ]);
  });

  it("chooses rows for a phone and says how far a wall enlarges", () => {
    expect(computePage(request({ layout: "auto" }, { width: 390, height: 720 }))).toMatchObject({
      layout: "6x2",
      narrow: true,
    });
    expect(computePage(request({ layout: "auto" }, { width: 390, height: 400 })).layout).toBe("rhythm");
    expect(computePage(request({ layout: "auto" }, { width: 844, height: 340 })).layout).toBe("3x4+1");
    const wall = computePage(request({ layout: "auto" }, { width: 1920, height: 1080, theme: "wall" }));
    expect(wall.zoom).toBe(2);
    expect(((1920 - wall.sweepX) / wall.pxPerSample) * 2).toBeGreaterThan(9500);
  });

  it("keeps every row's mark on the paper and its baseline on a grid line", () => {
    for (const layout of ["3x4+1", "3x4", "6x2", "12x1"] as const) {
      const { rows, bandTop, height, bandBottom, pxPerMmY } = computePage(request({ layout }));
      for (const { baseline } of rows) {
        expect(baseline).toBeGreaterThan(bandTop);
        expect(baseline).toBeLessThan(height - bandBottom);
        const mm = (baseline - (rows[0]?.baseline ?? 0)) / pxPerMmY;
        expect(mm).toBeCloseTo(Math.round(mm), 6);
      }
    }
  });

  it("[W3] gives every position of the axis its column, before zero too", () => {
    const page = computePage(request());
    expect(columnOf(page, 0)).toBe(0);
    expect(columnOf(page, -1)).toBe(page.sweepSamples - 1);
    expect(columnOf(page, page.sweepSamples * 7 + 3)).toBe(3);
    expect(xOfColumn(page, 2) - xOfColumn(page, 1)).toBeCloseTo(page.pxPerSample, 9);
  });
});
