import { describe, expect, it } from "vitest";
import { correctQt, isBazettDoubtful, parseQt, QT_FORMULAS, qtProblem, qtText, readQt, rrBefore } from "./qtc";

describe("QTc", () => {
  it("is QT itself at 60 per minute, by every formula", () => {
    for (const formula of QT_FORMULAS) expect(correctQt({ qtMs: 400, rrMs: 1000 }, formula)).toBeCloseTo(400, 9);
  });

  it.each([
    ["bazett", 360 / Math.sqrt(0.6)],
    ["fridericia", 360 / 0.6 ** (1 / 3)],
    ["framingham", 360 + 154 * 0.4],
    ["hodges", 360 + 1.75 * 40],
  ] as const)("by %s at 100 per minute", (formula, expected) => {
    expect(correctQt({ qtMs: 360, rrMs: 600 }, formula)).toBeCloseTo(expected, 9);
  });

  it("is the mean of each beat's own QTc", () => {
    const beats = [
      { qtMs: 400, rrMs: 1000 },
      { qtMs: 360, rrMs: 640 },
    ];
    expect(readQt(beats, "bazett")).toEqual({ formula: "bazett", beats: 2, qtMs: 380, rrMs: 820, qtcMs: 425 });
  });

  it.each([
    [{ qtMs: 90, rrMs: 1000 }, "qt_range"],
    [{ qtMs: 400, rrMs: Number.NaN }, "rr_range"],
    [{ qtMs: 400, rrMs: 4000 }, "rr_range"],
    [{ qtMs: 500, rrMs: 480 }, "qt_beyond_rr"],
  ] as const)("leaves %o out: %s", (beat, problem) => {
    expect(qtProblem(beat)).toBe(problem);
    expect(readQt([beat], "fridericia")).toBeNull();
    expect(readQt([beat, { qtMs: 400, rrMs: 1000 }], "fridericia")?.beats).toBe(1);
  });

  it("warns of Bazett outside 60 to 100 per minute only", () => {
    const at = (rrMs: number, formula: "bazett" | "fridericia" = "bazett") =>
      isBazettDoubtful({ formula, rrMs, beats: 1, qtMs: 380, qtcMs: 400 });
    expect([at(599), at(600), at(1000), at(1001), at(500, "fridericia")]).toEqual([true, false, false, true, false]);
  });
});

describe("the words of a reading", () => {
  const reading = { formula: "fridericia", beats: 3, qtMs: 386, rrMs: 812, qtcMs: 414 } as const;

  it("always name formula and RR, and can be read back", () => {
    expect(qtText(reading)).toBe("QTc 414 ms (Fridericia), QT 386 ms, RR 812 ms, n 3");
    expect(parseQt(qtText(reading))).toEqual(reading);
  });

  it.each(["QTc 414 ms", "QTc 414 ms (Smith), QT 386 ms, RR 812 ms, n 3", "QTc 414 ms (Fridericia), QT 386 ms", ""])(
    "are no reading when something is missing: %j",
    (text) => expect(parseQt(text)).toBeNull(),
  );
});

describe("RR from computed beats", () => {
  const beats = [1_000_000, 1_800_000, 2_650_000];

  it("is that of the beat whose Q onset it is", () => {
    expect(rrBefore(1_760_000, [beats])).toBe(800);
    expect(rrBefore(2_650_000, [beats])).toBe(850);
  });

  it.each([
    ["before the first beat", 900_000],
    ["after the last", 2_700_000],
    ["far from any", 1_300_000],
  ])("is unknown %s", (_, us) => expect(rrBefore(us, [beats])).toBeNull());

  it("is never taken between the beats of two computations", () => {
    // The live one knows only the newest two; the stored one places the same R 20 ms off and ends before them.
    const [live, stored] = [
      [2_650_000, 3_450_000],
      [1_000_000, 1_820_000],
    ];
    expect(rrBefore(2_600_000, [live, stored])).toBeNull();
    expect(rrBefore(3_400_000, [live, stored])).toBe(800);
    expect(rrBefore(1_780_000, [live, stored])).toBe(820);
    expect(rrBefore(1_780_000, [[1_780_000], stored])).toBe(820);
  });
});
