/** Codes as people type them, and the usual place of each screen. */
import { describe, expect, it } from "vitest";
import { cleanCode, usualRole } from "./pairing";

describe("cleanCode", () => {
  it.each([
    ["abc234", "ABC234"],
    [" AB-C2 34 ", "ABC234"],
    ["ABC23456", "ABC234"],
    ["配对", ""],
  ])("%j becomes %j", (typed, code) => {
    expect(cleanCode(typed)).toBe(code);
  });
});

describe("usualRole", () => {
  const screen = (number: number, role: "record" | null = null) => ({ number, role, paired: false, online: false });

  it("is record, video, ECG from left to right, unless the screen has one", () => {
    expect([1, 2, 3].map((number) => usualRole(screen(number)))).toEqual(["record", "video", "ecg"]);
    expect(usualRole(screen(3, "record"))).toBe("record");
  });
});
