import { describe, expect, it } from "vitest";
import { AWAIT_MS, foldSources, type Producer, type RemoteSource } from "./sources";

const camera = (id: string, participant = "room"): Producer => ({
  id,
  participant,
  kind: "video",
  source: "camera",
  label: "",
  paused: false,
});
const participants = new Set(["me", "room"]);
const start: { epoch: number; sources: RemoteSource[] } = { epoch: 0, sources: [] };
const fold = (
  before: { epoch: number; sources: readonly RemoteSource[] },
  epoch: number,
  producers: Producer[],
  atMs: number,
) => ({
  epoch,
  sources: foldSources(before, { epoch, producers, participants }, "me", atMs),
});

describe("sources of the others", () => {
  it("leaves out one's own", () => {
    expect(fold(start, 0, [camera("p1", "me"), camera("p2")], 0).sources.map(({ producer }) => producer)).toEqual([
      "p2",
    ]);
  });

  it("drops a camera that was taken away", () => {
    const before = fold(start, 0, [camera("p1")], 0);
    expect(fold(before, 0, [], 10).sources).toEqual([]);
  });

  it("keeps the tile through a reset and gives it the new Producer under the same key", () => {
    const before = fold(start, 0, [camera("p1")], 0);
    const reset = fold(before, 1, [], 1_000);
    const waiting = fold(reset, 1, [], 1_500);
    const back = fold(waiting, 1, [camera("p9")], 2_000);

    expect(waiting.sources.map(({ producer, lostAtMs }) => [producer, lostAtMs])).toEqual([[null, 1_000]]);
    expect(back.sources.map(({ key, producer, lostAtMs }) => [key, producer, lostAtMs])).toEqual([
      ["room/camera/", "p9", null],
    ]);
  });

  it("stops waiting after a while, and at once for someone who left", () => {
    const reset = fold(fold(start, 0, [camera("p1")], 0), 1, [], 1_000);

    expect(fold(reset, 1, [], 1_000 + AWAIT_MS).sources).toEqual([]);
    expect(foldSources(reset, { epoch: 1, producers: [], participants: new Set(["me"]) }, "me", 1_001)).toEqual([]);
  });
});
