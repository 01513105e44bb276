import { describe, expect, it } from "vitest";
import { planReceiving } from "./plan";

const consult = {
  producers: [
    { id: "p1", participant: "me", kind: "video" },
    { id: "p2", participant: "room", kind: "video" },
    { id: "p3", participant: "room", kind: "audio" },
  ],
  dataProducers: [
    { id: "d1", participant: "monitor", label: "ecg" },
    { id: "d2", participant: "other", label: "ctl" },
  ],
} as const;
const everything = { audio: true, video: true, ecg: true };
const nothingHeld = { producers: new Set<string>(), dataProducers: new Set<string>() };

describe("what to receive", () => {
  it("takes everything of the others and nothing of its own", () => {
    expect(planReceiving(consult, "me", everything, nothingHeld)).toEqual({
      consume: ["p2", "p3"],
      close: [],
      consumeData: ["d1"],
      closeData: [],
    });
  });

  it("takes only what the view shows", () => {
    const plan = planReceiving(consult, "me", { audio: false, video: false, ecg: true }, nothingHeld);
    expect([plan.consume, plan.consumeData]).toEqual([[], ["d1"]]);
  });

  it("lets go of what the consult no longer has and leaves the rest alone", () => {
    const held = { producers: new Set(["p2", "gone"]), dataProducers: new Set(["d1", "old"]) };
    expect(planReceiving(consult, "me", everything, held)).toEqual({
      consume: ["p3"],
      close: ["gone"],
      consumeData: [],
      closeData: ["old"],
    });
  });

  it("carried out once, leaves nothing to do", () => {
    const held = { producers: new Set(["p2", "p3"]), dataProducers: new Set(["d1"]) };
    const plan = planReceiving(consult, "me", everything, held);
    expect([plan.consume, plan.close, plan.consumeData, plan.closeData].flat()).toEqual([]);
  });
});
