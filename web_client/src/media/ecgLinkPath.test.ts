import { describe, expect, it } from "vitest";
import { NEW_PATH, nextPath, type PathInput, type PathState } from "./ecgLinkPath";

/** Look every 250 ms from `from` to `to`; `at` says what is seen then. */
function run(state: PathState, from: number, to: number, at: (nowMs: number) => Partial<PathInput>): PathState {
  let next = state;
  for (let nowMs = from; nowMs <= to; nowMs += 250) {
    next = nextPath(next, {
      nowMs,
      profile: "auto",
      isWanted: true,
      isDataOpen: true,
      isSocketOpen: false,
      dataHeardMs: nowMs,
      ...at(nowMs),
    });
  }
  return next;
}

const closed = { isDataOpen: false, dataHeardMs: null };

describe("the way of waveforms", () => {
  it("is the data channel as long as it flows", () => {
    expect(run(NEW_PATH, 0, 60_000, () => ({}))).toMatchObject({ wantsSocket: false, active: "data" });
  });

  it("is tried by socket when no data channel is open after 3 s", () => {
    expect(run(NEW_PATH, 0, 2_750, () => closed)).toMatchObject({ wantsSocket: false, active: null });
    expect(run(NEW_PATH, 0, 3_000, () => closed)).toMatchObject({ wantsSocket: true, active: null });
  });

  it("is tried by socket when the channel stalls for more than a second, and control goes there once it is open", () => {
    const stalled = (nowMs: number) => ({ dataHeardMs: Math.min(nowMs, 10_000) });
    const flowing = run(NEW_PATH, 0, 11_000, stalled);
    expect(flowing).toMatchObject({ wantsSocket: false, active: "data" });
    const waiting = run(flowing, 11_250, 11_250, stalled);
    expect(waiting).toMatchObject({ wantsSocket: true, active: "data" });
    expect(run(waiting, 11_500, 11_500, (t) => ({ ...stalled(t), isSocketOpen: true })).active).toBe("socket");
  });

  it("goes back to the data channel at once, and lets the socket go when that has proved itself", () => {
    const bySocket = { ...run(NEW_PATH, 0, 3_000, () => closed), active: "socket" as const };
    const back = run(bySocket, 3_250, 3_250, () => ({ isSocketOpen: true }));
    expect(back).toMatchObject({ wantsSocket: true, active: "data" });
    expect(run(back, 3_500, 6_000, () => ({ isSocketOpen: true })).wantsSocket).toBe(true);
    expect(run(back, 3_500, 6_250, () => ({ isSocketOpen: true }))).toMatchObject({
      wantsSocket: false,
      active: "data",
    });
  });

  it("keeps the socket longer each time it was let go too early", () => {
    let state = run(NEW_PATH, 0, 3_000, () => closed);
    const proofs: number[] = [];
    for (let round = 1; round <= 6; round += 1) {
      const start = round * 200_000;
      state = run(state, start, start + 90_000, () => ({ isSocketOpen: true }));
      expect(state.wantsSocket).toBe(false);
      state = { ...state, releasedMs: start + 90_000 };
      state = run(state, start + 90_250, start + 92_000, () => ({ dataHeardMs: start + 90_000 }));
      expect(state.wantsSocket).toBe(true);
      proofs.push(state.proofMs);
    }
    expect(proofs).toEqual([6_000, 12_000, 24_000, 48_000, 60_000, 60_000]);
  });

  it("is the socket always where the display is set so, and the data channel while that is not open", () => {
    expect(run(NEW_PATH, 0, 0, () => ({ profile: "socket" }))).toMatchObject({ wantsSocket: true, active: "data" });
    expect(run(NEW_PATH, 0, 30_000, () => ({ profile: "socket", isSocketOpen: true }))).toMatchObject({
      wantsSocket: true,
      active: "socket",
    });
  });

  it("is not judged by what this page slept through", () => {
    const awake = run(NEW_PATH, 0, 10_000, () => ({}));
    const woken = run(awake, 70_000, 71_000, () => ({ dataHeardMs: 10_000 }));
    expect(woken.wantsSocket).toBe(false);
    expect(run(woken, 71_250, 73_500, () => ({ dataHeardMs: 10_000 })).wantsSocket).toBe(true);
  });

  it("is none where no stream is wanted", () => {
    const bySocket = run(NEW_PATH, 0, 3_000, () => closed);
    expect(run(bySocket, 3_250, 3_250, () => ({ isWanted: false }))).toMatchObject({
      wantsSocket: false,
      active: null,
    });
  });
});
