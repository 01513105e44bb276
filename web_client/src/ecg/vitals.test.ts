import { describe, expect, it } from "vitest";
import { foldVital, MAX_ALARMS, NO_VITALS, type Vitals, vitalCells, withVersion } from "./vitals";

const NOW_US = 1_790_000_000_000_000;
const NOW_MS = 50_000;
const empty = withVersion(NO_VITALS, 4);
const vital = (changes: object = {}) => ({
  t: "vital",
  cv: 4,
  code: "HR",
  v: 72,
  u: "/min",
  at: NOW_US,
  q: "ok",
  sim: false,
  ...changes,
});
const after = (...messages: object[]): Vitals =>
  messages.reduce((vitals: Vitals, message) => foldVital(vitals, message, NOW_MS), empty);
const cell = (vitals: Vitals, code: string, { lateUs = 0, lateMs = 0, lost = false } = {}) =>
  vitalCells(vitals, NOW_US + lateUs, NOW_MS + lateMs, lost).find((one) => one.code === code);

describe("vital signs", () => {
  it("(W8) show a continuous value for 5 s from its own time, then blank it", () => {
    const vitals = after(vital());
    expect(cell(vitals, "HR", { lateUs: 5_000_000, lateMs: 5_000 })).toMatchObject({ state: "shown", text: "72" });
    expect(cell(vitals, "HR", { lateUs: 5_000_001, lateMs: 5_000 })).toMatchObject({ state: "blank", text: "---" });
  });

  it("(W8) blank a value that is not renewed, whatever the clocks say", () => {
    const frozenClock = { lateUs: 0, lateMs: 5_001 };
    expect(cell(after(vital()), "HR", frozenClock)).toMatchObject({ text: "---" });
  });

  it("blank a value from the future: it would never grow old", () => {
    expect(cell(after(vital({ at: NOW_US + 2_000_001 })), "HR")).toMatchObject({ text: "---" });
    expect(cell(after(vital({ at: NOW_US + 1_000_000 })), "HR")).toMatchObject({ text: "72" });
  });

  it("come back after a device's clock was ahead: its old time keeps no new value out for longer than 5 s", () => {
    const ahead = after(vital({ at: NOW_US + 3_600_000_000 }), vital({ code: "NIBP", v: [128, 74, null] }));
    expect(foldVital(ahead, vital(), NOW_MS + 5_000).values.HR?.atUs).toBe(NOW_US + 3_600_000_000);
    expect(foldVital(ahead, vital(), NOW_MS + 5_001).values.HR?.atUs).toBe(NOW_US);
    const older = vital({ code: "NIBP", v: [90, 50, null], at: NOW_US - 1 });
    expect(foldVital(ahead, older, NOW_MS + 60_000).values.NIBP?.value).toEqual([128, 74, null]);
  });

  it("(W8) keep a blood pressure with its time, however old", () => {
    const vitals = after(vital({ code: "NIBP", v: [128, 74, 92], u: "mmHg" }));
    const hourLater = { lateUs: 3_600_000_000, lateMs: 3_600_000 };
    expect(cell(vitals, "NIBP", hourLater)).toMatchObject({ state: "shown", text: "128/74 (92)", atUs: NOW_US });
  });

  it("(W12) blank everything when the path is lost, pressures included", () => {
    const vitals = after(vital(), vital({ code: "NIBP", v: [128, 74, null] }));
    expect(vitalCells(vitals, NOW_US, NOW_MS, true).map(({ text }) => text)).toEqual(["---", "", "---", "", ""]);
  });

  it("(W8) show what is not sent as absent, not hidden; a pulse rate only where it is sent", () => {
    const codes = (vitals: Vitals) => vitalCells(vitals, NOW_US, NOW_MS, false).map(({ code, state }) => [code, state]);
    expect(codes(after(vital()))).toEqual([
      ["HR", "shown"],
      ["SpO2", "absent"],
      ["NIBP", "absent"],
      ["Resp", "absent"],
      ["Temp", "absent"],
    ]);
    expect(codes(after(vital({ code: "Pulse" }))).at(-1)).toEqual(["Pulse", "shown"]);
  });

  it("tell a questionable value from a sound one, and show no invalid one", () => {
    expect(cell(after(vital({ q: "questionable" })), "HR")).toMatchObject({ state: "doubtful", text: "72" });
    for (const bad of [{ q: "invalid" }, { q: "new" }, { v: null }]) {
      expect(cell(after(vital(bad)), "HR")).toMatchObject({ state: "blank", text: "---" });
    }
  });

  it("never go back to an older measurement", () => {
    expect(cell(after(vital(), vital({ v: 40, at: NOW_US - 1 })), "HR")).toMatchObject({ text: "72" });
  });

  it("(W24) keep nothing of another context", () => {
    expect(after(vital({ cv: 3 }))).toBe(empty);
    expect(foldVital(NO_VITALS, vital({ cv: null }), 0)).toBe(NO_VITALS);
    expect(withVersion(after(vital(), { t: "alarm", cv: 4, text: "VT", at: NOW_US, prio: "high" }), 5)).toEqual({
      ...NO_VITALS,
      version: 5,
    });
  });

  it.each([
    null,
    7,
    [],
    {},
    { t: "vital", cv: 4 },
    vital({ code: "Glucose" }),
    vital({ v: "72" }),
    vital({ v: [1, 2] }),
    vital({ at: Number.NaN }),
    vital({ code: "NIBP", v: 120 }),
  ])("are not changed by %j", (message) => expect(foldVital(empty, message, 0)).toBe(empty));
});

describe("reported alarms", () => {
  const alarm = (k: number) => ({ t: "alarm", cv: 4, text: `alarm ${k}`, at: NOW_US + k, prio: "high" });

  it("(W36) are kept as text with their time, newest first, each once", () => {
    const { alarms } = after(alarm(1), alarm(3), alarm(2), alarm(3));
    expect(alarms.map(({ text, atUs }) => [text, atUs - NOW_US])).toEqual([
      ["alarm 3", 3],
      ["alarm 2", 2],
      ["alarm 1", 1],
    ]);
  });

  it("(W36) say how many older ones are no longer listed", () => {
    const many = after(...Array.from({ length: MAX_ALARMS + 3 }, (_, k) => alarm(k)));
    expect([many.alarms.length, many.alarmsDropped, many.alarms[0]?.text]).toEqual([50, 3, "alarm 52"]);
  });
});
