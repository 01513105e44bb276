import { describe, expect, it } from "vitest";
import { type EcgState, stateOf } from "./state";

describe("[W12] state by the table of times", () => {
  it.each<[number | null, number | null, number | null, EcgState]>([
    [null, 0, null, "LOST"],
    [200, null, null, "LOST"],
    [1000, 50, null, "LIVE"],
    [1001, 50, null, "DELAYED"],
    [3000, 50, null, "DELAYED"],
    [3001, 50, null, "STALE"],
    [60_000, 50, null, "STALE"],
    [4900, 4999, null, "STALE"],
    [5000, 5000, null, "LOST"],
    [2900, 2800, 2999, "DELAYED"],
    [3000, 2900, 3000, "LOST"],
  ])("age %s, silent %s, path gone %s: %s", (ageMs, silentMs, pathGoneMs, state) => {
    expect(stateOf({ ageMs, silentMs, pathGoneMs })).toBe(state);
  });
});
