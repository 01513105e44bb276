import { describe, expect, it } from "vitest";
import type { GoodbyeReason } from "../protocol";
import { delayMs, INITIAL, type Input, type Machine, type Phase, step, turnMs } from "./machine";

const joined: Machine = [{ type: "start" }, { type: "joined" }].reduce(
  (machine, input) => step(machine, input as Input, 0),
  INITIAL,
);

/** What happens at which second, and the phase after it. */
type Story = [seconds: number, input: Input, phase: Phase][];

function refused(code: string): Input {
  return { type: "refused", refusal: { code, en: "e", zh: "z" } };
}

const stories: Record<string, Story> = {
  "a short loss is resumed": [
    [0, { type: "lost" }, "reconnecting"],
    [4, { type: "attempt_failed" }, "reconnecting"],
    [14.9, { type: "tick" }, "reconnecting"],
    [14.9, { type: "joined" }, "connected"],
  ],
  "from 15 s everything is made anew": [
    [0, { type: "lost" }, "reconnecting"],
    [15, { type: "tick" }, "rejoining"],
    [59.9, { type: "attempt_failed" }, "rejoining"],
    [59.9, { type: "joined" }, "connected"],
  ],
  "at 60 s it stops until someone asks": [
    [0, { type: "lost" }, "reconnecting"],
    [60, { type: "tick" }, "stopped"],
    [61, { type: "joined" }, "stopped"],
    [70, { type: "retry" }, "connecting"],
    [71, { type: "joined" }, "connected"],
  ],
  "a new loss counts from its own beginning": [
    [0, { type: "lost" }, "reconnecting"],
    [10, { type: "joined" }, "connected"],
    [20, { type: "lost" }, "reconnecting"],
    [34, { type: "tick" }, "reconnecting"],
  ],
  "a second sign of the same loss does not restart the clock": [
    [0, { type: "lost" }, "reconnecting"],
    [10, { type: "lost" }, "reconnecting"],
    [15, { type: "tick" }, "rejoining"],
  ],
  "a refused token is passing, a full consult is not": [
    [0, { type: "lost" }, "reconnecting"],
    [1, refused("token_invalid"), "reconnecting"],
    [2, refused("consult_full"), "stopped"],
  ],
  "[SE16] a server that says when it is our turn is waited for, however long, and the minute counts from there": [
    [0, { type: "lost" }, "reconnecting"],
    [1, { type: "busy", untilMs: 50_000 }, "reconnecting"],
    [20, { type: "tick" }, "rejoining"],
    [50, { type: "busy", untilMs: 110_000 }, "rejoining"],
    [110, { type: "attempt_failed" }, "rejoining"],
    [169.9, { type: "tick" }, "rejoining"],
    [170, { type: "tick" }, "stopped"],
  ],
  "a worker that restarts is waited for": [
    [0, { type: "lost" }, "reconnecting"],
    [1, refused("media_unavailable"), "reconnecting"],
  ],
  "leaving ends it": [
    [0, { type: "leave" }, "idle"],
    [1, { type: "lost" }, "idle"],
    [2, { type: "joined" }, "idle"],
  ],
};

describe("step", () => {
  it.each(Object.entries(stories))("%s", (_, story) => {
    let machine = joined;
    for (const [seconds, input, phase] of story) {
      machine = step(machine, input, seconds * 1000);
      expect(machine.phase).toBe(phase);
    }
  });

  it.each<[GoodbyeReason, Phase]>([
    ["replaced", "stopped"],
    ["ended", "stopped"],
    ["removed", "stopped"],
    ["malformed", "stopped"],
    ["server_stopping", "reconnecting"],
    ["too_slow", "reconnecting"],
  ])("goodbye %s leads to %s and is remembered", (reason, phase) => {
    const machine = step(joined, { type: "goodbye", reason }, 1_000);
    expect(machine.phase).toBe(phase);
    expect(machine.goodbye).toBe(reason);
  });

  it("gives up the first join after 60 s, too", () => {
    const connecting = step(INITIAL, { type: "start" }, 0);
    expect(step(connecting, { type: "attempt_failed" }, 59_999).phase).toBe("connecting");
    expect(step(connecting, { type: "attempt_failed" }, 60_000).phase).toBe("stopped");
  });

  it("forgets old trouble when it has joined", () => {
    const troubled = step(step(joined, { type: "lost" }, 0), refused("too_busy"), 1);
    expect(step(troubled, { type: "joined" }, 2)).toEqual({ ...INITIAL, phase: "connected" });
  });
});

describe("turnMs", () => {
  it("[SE16] is never sooner than the server said, and spread over a second", () => {
    expect([turnMs(7_000, 0), turnMs(7_000, 0.5), turnMs(7_000, 0.999)]).toEqual([7_000, 7_500, 7_999]);
    expect(turnMs(-5, 0)).toBe(1_000);
    expect(turnMs(1e12, 0)).toBe(120_000);
  });
});

describe("delayMs", () => {
  it("doubles to a cap, and half of it is jitter", () => {
    expect([0, 1, 2, 3, 4, 5, 50].map((attempt) => delayMs(attempt, 0))).toEqual([
      125, 250, 500, 1000, 2000, 2000, 2000,
    ]);
    expect(delayMs(0, 0.999)).toBe(250);
  });
});
