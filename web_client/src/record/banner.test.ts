/** Ages as clinicians say them, and banners that must be whole. */
import { describe, expect, it } from "vitest";
import { ageOn, readBanner } from "./banner";

describe("ageOn", () => {
  const today = new Date(2026, 10, 21);

  it.each([
    ["1964-03-14", { unit: "years", count: 62 }],
    ["1964-11-21", { unit: "years", count: 62 }],
    ["1964-11-22", { unit: "years", count: 61 }],
    ["2024-11-21", { unit: "years", count: 2 }],
    ["2024-11-22", { unit: "months", count: 23 }],
    ["2026-11-21", { unit: "months", count: 0 }],
    ["2026-11-22", null],
    ["1964", null],
    ["1964-13-01", null],
    ["", null],
  ])("of %s", (born, age) => {
    expect(ageOn(born, today)).toEqual(age);
  });
});

describe("readBanner", () => {
  it("[W18] refuses half an identity", () => {
    const whole = {
      id: "p",
      name: "沈静秋",
      sex: "female",
      birth_date: "1964-03-14",
      identifiers: [
        { label: "a", value: "1" },
        { label: "b", value: "2" },
      ],
    };
    expect(readBanner(whole)).toMatchObject({ id: "p", test: false, name_latin: "" });
    expect(readBanner({ ...whole, name: "" })).toBeNull();
    expect(readBanner({ ...whole, identifiers: [{ label: "a", value: "1" }] })).toBeNull();
  });
});
