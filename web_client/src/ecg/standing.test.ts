import { describe, expect, it } from "vitest";
import type { EcgFreeze } from "../protocol";
import { freezeMine, goLive, hear, RUNNING, rejoin, reviewAt, shownOf } from "./standing";

const freeze = (at_us: number): EcgFreeze => ({
  stream_id: 7,
  at_us,
  context_version: 3,
  by: "a",
  at_ms: at_us / 1000,
});
const FIRST = freeze(5_000_000);
const SECOND = freeze(9_000_000);

describe("a trace", () => {
  it("runs until somebody stops it", () => {
    expect(shownOf(RUNNING, null)).toEqual({ kind: "live", atUs: null });
    expect(shownOf(freezeMine(RUNNING, 4), null)).toEqual({ kind: "mine", atUs: 4 });
    expect(shownOf(reviewAt(freezeMine(RUNNING, 4), 2), null)).toEqual({ kind: "review", atUs: 2 });
    expect(shownOf(goLive(reviewAt(RUNNING, 2), null), null).kind).toBe("live");
  });

  it("is taken along by a freeze for all, whatever its viewer was looking at", () => {
    const reviewing = reviewAt(hear(RUNNING, null), 2);
    const taken = hear(reviewing, FIRST);
    expect(shownOf(taken, FIRST)).toEqual({ kind: "shared", atUs: 5_000_000, freeze: FIRST });
    expect(shownOf(hear(taken, null), null).kind).toBe("live");
  });

  it("can be left running alone, until the next freeze for all", () => {
    const away = goLive(hear(RUNNING, FIRST), FIRST);
    expect(shownOf(hear(away, FIRST), FIRST).kind).toBe("live");
    expect(shownOf(rejoin(away), FIRST).kind).toBe("shared");
    expect(shownOf(hear(away, SECOND), SECOND)).toMatchObject({ kind: "shared", atUs: 9_000_000 });
  });

  it("that its viewer stopped himself stays when the freeze for all is released", () => {
    const reviewing = reviewAt(hear(RUNNING, FIRST), 2);
    expect(shownOf(hear(reviewing, null), null)).toEqual({ kind: "review", atUs: 2 });
  });
});
