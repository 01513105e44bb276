import { describe, expect, it } from "vitest";
import type { Participant } from "../protocol";
import { type BehindSince, untrusted, watchScreens } from "./screenSync";

const screen = (
  number: number,
  context_seen: number,
  connection: Participant["connection"] = "connected",
): Participant => ({
  id: `s${number}`,
  role: "screen",
  name: `Screen ${number}`,
  hospital: "",
  screen: "record",
  screen_number: number,
  connection,
  joined_at_ms: 0,
  context_seen,
  simulated: false,
  hub: false,
});
const NEVER: BehindSince = new Map();

describe("[W19] screens out of step are named", () => {
  it("after more than three seconds behind the open version, not before", () => {
    const screens = [screen(1, 4), screen(2, 5)];
    const since = watchScreens(watchScreens(NEVER, screens, 5, 1_000), screens, 5, 2_000);

    expect(untrusted(since, screens, 4_000)).toEqual([]);
    expect(untrusted(since, screens, 4_001)).toEqual([1]);
  });

  it("at once when cut off, whatever they last confirmed", () => {
    expect(untrusted(NEVER, [screen(3, 9, "reconnecting"), screen(2, 9)], 0)).toEqual([3]);
  });

  it("no longer once they have caught up, and the next change counts anew", () => {
    const caughtUp = watchScreens(watchScreens(NEVER, [screen(1, 4)], 5, 0), [screen(1, 5)], 5, 5_000);
    const next = watchScreens(caughtUp, [screen(1, 5)], 6, 9_000);

    expect(untrusted(caughtUp, [screen(1, 5)], 9_000)).toEqual([]);
    expect(untrusted(next, [screen(1, 5)], 11_000)).toEqual([]);
  });

  it("says nothing of doctors, nor when no patient is open", () => {
    const doctor: Participant = { ...screen(1, 0), role: "doctor" };
    expect(untrusted(watchScreens(NEVER, [doctor], 5, 0), [doctor], 99_000)).toEqual([]);
    expect(untrusted(watchScreens(NEVER, [screen(1, 0)], null, 0), [screen(1, 0)], 99_000)).toEqual([]);
  });
});
