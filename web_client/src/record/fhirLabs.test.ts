/** A trend shows reported numbers of one unit, and a flag says no more than the laboratory or arithmetic does. */
import { describe, expect, it } from "vitest";
import { groupResults, readResults } from "./fhirLabs";
import { paddedRange } from "./pages/Trend";

interface Given {
  day?: number;
  value?: unknown;
  unit?: string;
  comparator?: string;
  status?: string;
  flag?: string;
  range?: object;
}

function result({ day = 1, value = 5, unit = "mmol/L", comparator, status = "final", flag, range }: Given) {
  const [one] =
    readResults({
      id: `r${day}`,
      status,
      code: { text: "血钾 Potassium", coding: [{ code: "2823-3" }] },
      category: [{ coding: [{ code: "laboratory" }] }],
      effectiveDateTime: `2026-11-0${day}T08:00:00+08:00`,
      valueQuantity: { value, unit, ...(comparator === undefined ? {} : { comparator }) },
      ...(flag === undefined ? {} : { interpretation: [{ coding: [{ code: flag }] }] }),
      ...(range === undefined ? {} : { referenceRange: [range] }),
    }) ?? [];
  if (one === undefined) throw new Error("not readable");
  return one;
}

const range = { low: { value: 3.5 }, high: { value: 5.3 } };

describe("flags", () => {
  it.each([
    [{ value: 5.4, range }, "H"],
    [{ value: 5.3, range }, "N"],
    [{ value: 3.4, range }, "L"],
    [{ value: 9.9, range }, "H"],
    [{ value: 9.9, range, flag: "HH" }, "HH"],
    [{ value: 4, range, flag: "HU" }, "HH"],
    [{ value: 4 }, "none"],
    [{ value: 4, flag: "??" }, "none"],
  ] as const)("of %j", (given, flag) => {
    expect(result(given).flag).toBe(flag);
  });
});

describe("ranges", () => {
  it("show the laboratory's text, else what the limits say", () => {
    expect(result({ range: { ...range, text: "3.5-5.3" } }).range?.text).toBe("3.5-5.3");
    expect(result({ range }).range?.text).toBe("3.5 – 5.3");
    expect(result({ range: { high: { value: 5 } } }).range?.text).toBe("≤ 5");
    expect(result({ range: {} }).range).toBeNull();
  });
});

describe("groupResults", () => {
  it("draws plain numbers of the latest unit, oldest first", () => {
    const values = [
      result({ day: 3, value: 4.2 }),
      result({ day: 1, value: 3.4 }),
      result({ day: 2, value: 16, unit: "mg/dL" }),
      result({ day: 4, value: 2, comparator: "<" }),
    ];

    const [series] = groupResults(values);

    expect(series?.drawn.map((point) => point.value)).toEqual([3.4, 4.2]);
    expect(series?.otherUnits).toEqual(["mg/dL"]);
    expect(series?.latest?.text.en).toBe("<2");
  });

  it("neither draws nor counts a result entered in error", () => {
    const [series] = groupResults([result({ day: 2, value: 99, status: "entered-in-error" }), result({ day: 1 })]);

    expect(series?.latest?.number).toBe(5);
    expect(series?.drawn).toHaveLength(1);
    expect(series?.values.map((value) => value.void)).toEqual([true, false]);
  });

  it("puts critical tests first and keeps the record's order within", () => {
    const of = (code: string, flag: string) => ({ ...result({ flag }), code });
    const tests = [of("a", "N"), of("b", "H"), of("c", "LL"), of("d", "L"), of("e", "none")];
    expect(groupResults(tests).map((series) => series.code)).toEqual(["c", "b", "d", "a", "e"]);
  });

  it("makes one test of each part of a blood pressure", () => {
    const part = (code: string, value: number) => ({
      code: { text: code, coding: [{ code }] },
      valueQuantity: { value },
    });
    const values = readResults({
      id: "bp",
      code: { text: "BP" },
      component: [part("8480-6", 120), part("8462-4", 70)],
    });

    expect(groupResults(values ?? []).map((series) => [series.code, series.latest?.number])).toEqual([
      ["8480-6", 120],
      ["8462-4", 70],
    ]);
  });
});

describe("paddedRange", () => {
  it("holds values and reference range, and never goes below zero without a negative value", () => {
    expect(paddedRange(2, 4, { low: 1, high: 5, text: "" })).toEqual([0.6, 5.4]);
    expect(paddedRange(0, 10, null)).toEqual([0, 11]);
    expect(paddedRange(-5, 5, null)).toEqual([-6, 6]);
    expect(paddedRange(null, null, null)).toEqual([0, 1]);
  });
});
