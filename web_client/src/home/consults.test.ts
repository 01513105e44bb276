/** The list shows what is open first and knows which day it is. */
import { describe, expect, it } from "vitest";
import type { ConsultCard } from "../common/api";
import { clockText, dayText, groupConsults } from "./consults";

const card = (id: string, status: ConsultCard["status"], startsAtMs: number | null): ConsultCard => ({
  id,
  status,
  startsAtMs,
  title: id,
  room: "",
  hub: "",
  partner: "",
  patients: [],
  participants: 0,
});

const at = (day: number, hour: number): number => new Date(2026, 10, day, hour).getTime();

describe("groupConsults", () => {
  it("puts open consults first, whenever they began", () => {
    const consults = [
      card("later", "scheduled", at(21, 15)),
      card("over", "ended", at(21, 8)),
      card("since yesterday", "open", at(20, 23)),
      card("tomorrow", "scheduled", at(22, 9)),
      card("soon", "scheduled", at(21, 11)),
      card("no time", "scheduled", null),
    ];

    const { today, others } = groupConsults(consults, new Date(at(21, 10)));

    expect(today.map((one) => one.id)).toEqual(["since yesterday", "no time", "soon", "later", "over"]);
    expect(others.map((one) => one.id)).toEqual(["tomorrow"]);
  });
});

describe("times", () => {
  it("are two digits each, and say when they are unknown", () => {
    expect([clockText(at(1, 7)), dayText(at(1, 7))]).toEqual(["07:00", "2026-11-01"]);
    expect([clockText(null), dayText(null)]).toEqual(["--:--", ""]);
  });
});
