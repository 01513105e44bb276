import { describe, expect, it } from "vitest";
import { dueAction, type IceState, isUnstable, NEW_PATH, onIceState, onRestart, type PathHealth } from "./pathHealth";

const path = (steps: [IceState, number][]): PathHealth =>
  steps.reduce((health, [ice, atMs]) => onIceState(health, ice, atMs), NEW_PATH);

describe("repairing a media path (ARCHITECTURE section 8)", () => {
  const cut = path([
    ["connecting", 0],
    ["connected", 100],
    ["disconnected", 1_000],
  ]);

  it.each([
    [1_000, "none", false],
    [2_999, "none", false],
    [3_000, "restart_ice", true],
    [15_999, "restart_ice", true],
    [16_000, "rebuild", true],
  ] as const)("cut at 1000 ms, seen at %i ms: %s", (atMs, action, unstable) => {
    expect(dueAction(cut, atMs)).toBe(action);
    expect(isUnstable(cut, atMs)).toBe(unstable);
  });

  it("repeats a restart every 3 s and forgets the trouble once connected", () => {
    const restarted = onRestart(cut, 3_000);

    expect(dueAction(restarted, 5_999)).toBe("none");
    expect(dueAction(restarted, 6_000)).toBe("restart_ice");
    expect(dueAction(onIceState(restarted, "connected", 6_100), 60_000)).toBe("none");
  });

  it("keeps counting from the first sign of trouble through disconnected, failed and connecting", () => {
    const worse = onIceState(onIceState(onRestart(cut, 3_000), "failed", 9_000), "connecting", 9_500);

    expect(worse.troubleSinceMs).toBe(1_000);
    expect(dueAction(worse, 16_000)).toBe("rebuild");
  });

  it("restarts at once when ICE says failed", () => {
    expect(dueAction(onIceState(cut, "failed", 1_100), 1_100)).toBe("restart_ice");
  });

  it("lets a first connection take its time, then builds anew", () => {
    const first = path([["connecting", 0]]);

    expect(dueAction(first, 14_999)).toBe("none");
    expect(isUnstable(first, 14_999)).toBe(false);
    expect(dueAction(first, 15_000)).toBe("rebuild");
  });

  it("asks nothing of a closed or untried transport", () => {
    expect(dueAction(NEW_PATH, 99_000)).toBe("none");
    expect(dueAction(path([["closed", 0]]), 99_000)).toBe("none");
  });
});
