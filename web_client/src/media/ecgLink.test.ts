import { describe, expect, it } from "vitest";
import type { DataProducerInfo } from "../protocol";
import { EcgLink } from "./ecgLink";
import type { Leg } from "./leg";

const info = (id: string): DataProducerInfo => ({
  id,
  participant: "monitor",
  label: "ecg",
  protocol: "",
  waveform: {
    stream_id: 7,
    leads: ["I"],
    sample_rate_mhz: 500_000,
    lsb_nv: 2_500,
    device: "monitor",
    filter: "",
    simulated: true,
    patient: "p",
  },
});

/** A transport whose channels open at once; what arrives and what is sent can be seen. */
function openLeg() {
  const inbox = new Map<string, (bytes: ArrayBuffer) => void>();
  const sent: Uint8Array[] = [];
  const channel = { once: () => undefined, close: () => undefined };
  const leg = {
    consumeData: async (id: string, onMessage: (bytes: ArrayBuffer) => void) => {
      inbox.set(id, onMessage);
      return channel;
    },
    produceData: async () => ({ ...channel, send: (bytes: Uint8Array) => void sent.push(bytes) }),
  };
  return { leg: leg as unknown as Leg, inbox, sent };
}

const bytes = (...values: number[]): ArrayBuffer => new Uint8Array(values).buffer;

describe("the ECG's channels", () => {
  it("are open only when frames and control can both flow", async () => {
    const link = new EcgLink(() => undefined);
    const channel = link.channel(7);
    const { leg, sent } = openLeg();

    await link.consume(leg, info("d1"));
    await link.openControl(leg);
    channel.sendControl(new Uint8Array([1]));
    expect([channel.open, sent.length]).toEqual([false, 0]);

    await link.listen(leg);
    channel.sendControl(new Uint8Array([2]));
    expect([channel.open, sent.length]).toEqual([true, 1]);
  });

  it("stay the same object through a reset, closed meanwhile, so that the view asks for what it missed", async () => {
    const link = new EcgLink(() => undefined);
    const channel = link.channel(7);
    const opens: boolean[] = [];
    const frames: number[] = [];
    channel.onOpenChange((open) => opens.push(open));
    channel.onFrame((message) => frames.push(new Uint8Array(message)[0] ?? -1));

    for (const id of ["d1", "d2"]) {
      const { leg, inbox } = openLeg();
      await Promise.all([link.consume(leg, info(id)), link.openControl(leg), link.listen(leg)]);
      inbox.get(id)?.(bytes(opens.length));
      link.detach();
    }

    expect(link.channel(7)).toBe(channel);
    expect([opens, frames, [...link.held]]).toEqual([[true, false, true, false], [1, 3], []]);
  });

  it("throw away what finished opening after a reset", async () => {
    const link = new EcgLink(() => undefined);
    const { leg } = openLeg();
    const late = Promise.all([link.consume(leg, info("d1")), link.openControl(leg), link.listen(leg)]);
    link.detach();
    await late;

    expect([link.channel(7).open, link.sources]).toEqual([false, []]);
  });

  it("give each listener a buffer of its own, since one may transfer it away", async () => {
    const link = new EcgLink(() => undefined);
    const { leg, inbox } = openLeg();
    const taken: ArrayBuffer[] = [];
    link.channel(7).onFrame((message) => taken.push(message));
    link.channel(7).onFrame((message) => taken.push(message));
    await link.consume(leg, info("d1"));

    inbox.get("d1")?.(bytes(9));

    expect(taken[0]).not.toBe(taken[1]);
    expect(taken.map((message) => [...new Uint8Array(message)])).toEqual([[9], [9]]);
  });
});
