import { expect, it } from "vitest";
import { foldReport } from "./figures";

it("matches figures to Consumers by track and sums frames and sound", () => {
  const consumers = new Map([
    ["p1", { id: "k1", kind: "video", track: { id: "t1" } }],
    ["p2", { id: "k2", kind: "audio", track: { id: "t2" } }],
  ]);
  const figures = foldReport(
    [
      {
        type: "inbound-rtp",
        trackIdentifier: "t1",
        framesDecoded: 40,
        jitterBufferDelay: 2,
        jitterBufferEmittedCount: 40,
      },
      { type: "inbound-rtp", trackIdentifier: "t2", totalAudioEnergy: 0.5 },
      // mediasoup-client's bandwidth probator has a track of its own that nobody consumes.
      { type: "inbound-rtp", trackIdentifier: "probator", framesDecoded: 7 },
      { type: "candidate-pair", nominated: true, currentRoundTripTime: 0.012 },
      "not an entry",
    ],
    consumers,
  );

  expect([figures.framesDecoded, figures.audioEnergy, figures.roundTripMs]).toEqual([40, 0.5, 12]);
  expect(figures.consumers.map(({ producer, jitterBufferMs }) => [producer, jitterBufferMs])).toEqual([
    ["p1", 50],
    ["p2", 0],
  ]);
});
