import { describe, expect, it } from "vitest";
import { parseMessage, type WaveformFrame } from "./frame";
import { laneOf, laneRows } from "./lanes";
import { LimbCheck } from "./limbCheck";
import { makeFrame, TWELVE_LEADS } from "./testFrames";

const names = (request: Partial<Parameters<typeof laneRows>[0]>): string[][] =>
  laneRows({ leads: TWELVE_LEADS, layout: "3x4", order: "standard", rhythm: [], ...request }).map(({ lanes }) =>
    lanes.map(({ label }) => label),
  );

describe("lanes", () => {
  it("[W31] stand in standard or Cabrera order, column by column", () => {
    expect(names({ layout: "3x4+1", rhythm: ["V1"] })).toEqual([
      ["I", "aVR", "V1", "V4"],
      ["II", "aVL", "V2", "V5"],
      ["III", "aVF", "V3", "V6"],
      ["V1"],
    ]);
    expect(names({ order: "cabrera" })).toEqual([
      ["aVL", "II", "V1", "V4"],
      ["I", "aVF", "V2", "V5"],
      ["-aVR", "III", "V3", "V6"],
    ]);
    expect(names({ layout: "6x2", order: "cabrera" }).map(([limb]) => limb)).toEqual([
      "aVL",
      "I",
      "-aVR",
      "II",
      "aVF",
      "III",
    ]);
    expect(names({ layout: "12x1" })).toHaveLength(12);
    expect(names({ layout: "rhythm", rhythm: ["II", "V1", "V5", "V6"] })).toEqual([["II"], ["V1"], ["V5"]]);
  });

  it("gives further leads lanes of their own", () => {
    const leads = [...TWELVE_LEADS, "V7", "V8", "V9", "V3R", "V4R"];
    expect(names({ leads }).slice(3)).toEqual([["V7", "V8", "V9", "V3R"], ["V4R"]]);
    expect(names({ leads, layout: "6x2" }).slice(6)).toEqual([["V7", "V8"], ["V9", "V3R"], ["V4R"]]);
    expect(names({ leads, layout: "3x4+1" }).at(-1)).toEqual(["II"]);
  });

  it("[W7] are computed by Einthoven and Goldberger, turned over for -aVR", () => {
    const leads = ["II", "I"];
    const shares = (label: string): unknown => laneOf(label, leads).terms.map(({ lead, weight }) => [lead, weight]);
    expect(shares("III")).toEqual([
      [1, -1],
      [0, 1],
    ]);
    expect(shares("aVR")).toEqual([
      [1, -0.5],
      [0, -0.5],
    ]);
    expect(shares("-aVR")).toEqual([
      [1, 0.5],
      [0, 0.5],
    ]);
    expect(shares("aVL")).toEqual([
      [1, 1],
      [0, -0.5],
    ]);
    expect(shares("aVF")).toEqual([
      [1, -0.5],
      [0, 1],
    ]);
    expect(laneOf("aVR", leads)).toMatchObject({ derived: true, name: "aVR" });
    expect(laneOf("-aVR", TWELVE_LEADS)).toMatchObject({ derived: false, terms: [{ lead: 3, weight: -1 }] });
    expect(laneOf("V1", leads).terms).toEqual([]);
  });

  it("shows all limb leads of a monitor that sends two of them", () => {
    expect(names({ leads: ["I", "II", "V"] }).flat()).toEqual(["I", "II", "III", "aVR", "aVL", "aVF", "V"]);
    expect(names({ leads: ["MLII", "V5"] }).flat()).toEqual(["MLII", "V5"]);
  });
});

describe("LimbCheck", () => {
  const frameOf = (change: (rows: number[][]) => void, more: Partial<Parameters<typeof makeFrame>[0]> = {}) => {
    const [one, two] = [
      [300, -301, 7],
      [500, 222, -4],
    ] as const;
    const rows = [
      [...one],
      [...two],
      one.map((value, i) => (two[i] as number) - value),
      one.map((value, i) => -((value + (two[i] as number)) >> 1)),
      one.map((value, i) => value - ((two[i] as number) >> 1)),
      one.map((value, i) => (two[i] as number) - (value >> 1)),
    ];
    change(rows);
    const made = makeFrame({ seq: 0, t0Us: 1e15, firstSample: 0, rateHz: 500, rows, ...more });
    const result = parseMessage(made);
    if (!result.ok) throw new Error(result.error);
    return result.frame as WaveformFrame;
  };
  const violations = (frame: WaveformFrame): number => {
    const check = new LimbCheck(TWELVE_LEADS);
    check.look(frame);
    return check.violations;
  };

  it("[W7] accepts one step, counts two, for each measured lead", () => {
    expect(violations(frameOf(() => undefined))).toBe(0);
    for (const lead of [2, 3, 4, 5]) {
      const off = (by: number) => (rows: number[][]) => {
        const row = rows[lead] as number[];
        row[0] = (row[0] as number) + by;
      };
      // Halves round either way: 2.5 steps are off whatever the rounding.
      expect(violations(frameOf(off(3)))).toBe(1);
      expect(violations(frameOf(off(-3)))).toBe(1);
    }
  });

  it("[W7] leaves out samples that are no signal", () => {
    const wrong = (rows: number[][]): void => {
      (rows[2] as number[])[1] = 9_000;
    };
    expect(violations(frameOf(wrong))).toBe(1);
    expect(violations(frameOf(wrong, { runs: [[0, 2, 1, 1]] }))).toBe(0);
    expect(violations(frameOf(wrong, { saturatedMask: 4 }))).toBe(0);
  });

  it("has nothing to compare where the display computes the lead itself", () => {
    const check = new LimbCheck(["I", "II", "V1", "V2", "V3", "V4"]);
    expect(check.look(frameOf(() => undefined))).toBe(false);
  });
});
