import { expect, it } from "vitest";
import { foldReport, foldSent } from "./figures";

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

it.each([
  [{ candidateType: "host", protocol: "udp" }, "udp"],
  [{ candidateType: "prflx", protocol: "tcp" }, "tcp"],
  [{ candidateType: "relay", protocol: "udp", relayProtocol: "udp" }, "turn-udp"],
  [{ candidateType: "relay", protocol: "udp", relayProtocol: "tcp" }, "turn-tcp"],
  [{ candidateType: "relay", protocol: "udp", relayProtocol: "tls" }, "turn-tls"],
])("names the path in use: %o is %s", (local, via) => {
  const report = [
    // Once nominated, before an ICE restart.
    { type: "candidate-pair", id: "old", nominated: true, localCandidateId: "gone" },
    { type: "candidate-pair", id: "now", nominated: true, localCandidateId: "l" },
    { type: "transport", selectedCandidatePairId: "now" },
    { type: "local-candidate", id: "l", ...local },
    { type: "remote-inbound-rtp", fractionLost: 0.1 },
    { type: "remote-inbound-rtp", fractionLost: 0.3 },
    { type: "remote-inbound-rtp" },
  ];
  expect(foldSent(report)).toEqual({ via, lost: 0.3 });
  expect(foldReport(report, new Map()).via).toBe(via);
});

it("claims no path and no loss before there is one", () => {
  expect(foldSent([{ type: "candidate-pair", id: "a", nominated: false }])).toEqual({ via: null, lost: null });
});
