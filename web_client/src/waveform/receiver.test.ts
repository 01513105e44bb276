import { decode, encode } from "@msgpack/msgpack";
import { beforeEach, describe, expect, it } from "vitest";
import type { WaveformStream } from "../protocol/messages";
import { crc32 } from "./crc32";
import { Flag } from "./frame";
import { Receiver } from "./receiver";
import { bytesOf, readVectors } from "./vectors";

/** Twelve messages of a real record: stream 7, context 3, simulated, each with the frame before. */
const MESSAGES = readVectors()
  .good.filter(({ name }) => name.startsWith("dicom"))
  .map(({ message }) => bytesOf(message));

const STREAM: WaveformStream = {
  stream_id: 7,
  leads: ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"],
  sample_rate_mhz: 1_000_000,
  lsb_nv: 1250,
  device: "monitor",
  filter: "",
  simulated: true,
  patient: "p",
};

const T0_US = 1_763_712_000_000_000;

let sent: Record<string, unknown>[];
let cleared: number;
let hidden: number;

function receiver(version: number | null, stream: WaveformStream = STREAM, first = version): Receiver {
  const events = {
    send: (message: Uint8Array) => sent.push(decode(message) as Record<string, unknown>),
    stored: () => undefined,
    cleared: () => {
      cleared += 1;
    },
    hidden: () => {
      hidden += 1;
    },
  };
  return new Receiver(stream, version, events, first);
}

/** Each message is its frame and the one before. */
const bytesOfFrame = (k: number): number => (MESSAGES[k] as Uint8Array).length - (k === 0 ? 0 : bytesOfFrame(k - 1));

/** Frame `k` of the record, as it would be under another context version, alone. */
function under(version: number, k: number): Uint8Array {
  const made = (MESSAGES[k] as Uint8Array).slice(0, bytesOfFrame(k));
  const view = new DataView(made.buffer);
  view.setUint8(3, view.getUint8(3) & ~Flag.redundant);
  view.setUint32(12, version, true);
  view.setUint32(48, crc32(made.subarray(52), crc32(made.subarray(0, 48))), true);
  return made;
}

function feed(to: Receiver, from = 0, until = MESSAGES.length, without: readonly number[] = []): void {
  MESSAGES.slice(from, until).forEach((message, i) => {
    if (!without.includes(from + i)) to.onMessage(message, 1000 * (from + i));
  });
}

const filled = (of: Receiver): number =>
  Array.from({ length: 600 }, (_, p) => p).filter((p) => of.buffer.received(p)).length;

beforeEach(() => {
  sent = [];
  cleared = 0;
  hidden = 0;
});

describe("Receiver", () => {
  it("fills every place of a clean stream once", () => {
    const ecg = receiver(3);
    feed(ecg);
    expect(filled(ecg)).toBe(600);
    expect(ecg.context).toBe("in_sync");
    expect(ecg.buffer.overlapping).toBe(0);
  });

  it("loses nothing to a single loss, and asks for what two losses took", () => {
    const ecg = receiver(3);
    feed(ecg, 0, 12, [3, 6, 7]);
    expect(filled(ecg)).toBe(550);
    ecg.poll(20_000);
    expect(sent.filter(({ t }) => t === "nack")).toEqual([{ t: "nack", stream: 7, first: 6, last: 6 }]);
    ecg.onControl(encode({ t: "gone", stream: 7, first: 6, last: 6 }), 30_000);
    ecg.poll(2_000_000);
    expect(sent.filter(({ t }) => t === "nack")).toHaveLength(1);
  });

  it("[W19] [W24] shows nothing of another context, and forgets at once when it changes", () => {
    const other = receiver(4);
    feed(other);
    expect(other.context).toBe("not_in_sync");
    expect(filled(other)).toBe(0);

    const ecg = receiver(3);
    feed(ecg, 0, 6);
    cleared = 0;
    ecg.setContext(4, 4, 6_000);
    expect(cleared).toBe(1);
    expect(filled(ecg)).toBe(0);
    feed(ecg, 6);
    expect(filled(ecg)).toBe(0);
    expect(ecg.context).toBe("not_in_sync");
    expect(receiver(null).context).toBe("not_in_sync");
  });

  it("[W24] hides what it has when the device goes to another context before the page does, then forgets it", () => {
    const ecg = receiver(3);
    feed(ecg, 0, 6);
    expect(filled(ecg)).toBe(300);
    ecg.onMessage(under(4, 6), 10_000);
    expect(ecg.malformed).toBe(0);
    expect([ecg.context, hidden, cleared]).toEqual(["not_in_sync", 1, 0]);
    // A frame that was on its way brings nothing of the former patient back.
    ecg.onMessage(under(3, 5), 11_000);
    ecg.onMessage(under(4, 7), 12_000);
    expect([ecg.context, hidden]).toEqual(["not_in_sync", 1]);
    // The page hears that it is another opening: all of the former is gone, what came of the new one is there.
    ecg.setContext(4, 4, 13_000);
    expect([ecg.context, cleared, filled(ecg)]).toEqual(["in_sync", 1, 100]);
  });

  it("[AN2] goes on when a report is opened beside the same patient, whoever hears of it first", () => {
    const page = receiver(3);
    feed(page, 0, 6);
    page.setContext(4, 3, 6_000);
    page.onMessage(under(3, 6), 7_000);
    page.onMessage(under(4, 7), 8_000);
    expect([page.context, cleared, hidden, filled(page)]).toEqual(["in_sync", 0, 0, 400]);

    const device = receiver(3);
    feed(device, 0, 6);
    device.onMessage(under(4, 6), 7_000);
    expect([device.context, hidden]).toEqual(["not_in_sync", 1]);
    device.setContext(4, 3, 8_000);
    expect([device.context, cleared, filled(device)]).toEqual(["in_sync", 0, 350]);
  });

  it("[W18] [W24] takes nothing from before the opening, and nothing over it", () => {
    const late = receiver(4, STREAM, 4);
    feed(late);
    expect([late.context, filled(late)]).toEqual(["not_in_sync", 0]);
    const joined = receiver(4, STREAM, 3);
    feed(joined);
    expect([joined.context, filled(joined)]).toEqual(["in_sync", 600]);
    // Nobody, then the same numbers again: no version comes back, so this was another opening.
    joined.setContext(null, null, 20_000);
    expect([joined.context, cleared, filled(joined)]).toEqual(["not_in_sync", 2, 0]);
    joined.setContext(4, 3, 21_000);
    expect(filled(joined)).toBe(0);
  });

  it("keeps a bound on what waits, and does not wait for ever where the device goes back", () => {
    const ecg = receiver(3);
    feed(ecg, 0, 6);
    ecg.onMessage(under(4, 6), 7_000);
    ecg.onMessage(under(3, 8), 8_000);
    expect([ecg.context, filled(ecg)]).toEqual(["in_sync", 350]);
  });

  it.each<[string, Partial<WaveformStream>]>([
    ["stream", { stream_id: 8 }],
    ["rate", { sample_rate_mhz: 500_000 }],
    ["scale", { lsb_nv: 1000 }],
    ["[W9] simulation", { simulated: false }],
    ["leads", { leads: ["I", "II"] }],
  ])("refuses frames of another %s than announced", (_, change) => {
    const ecg = receiver(3, { ...STREAM, ...change });
    feed(ecg);
    expect(filled(ecg)).toBe(0);
    expect(ecg.refused).toBeGreaterThanOrEqual(12);
    expect(ecg.context).toBe("waiting");
  });

  it("believes only answers to its own pings", () => {
    const ecg = receiver(3);
    ecg.poll(1000);
    expect(sent).toEqual([{ t: "ping", c: 1000 }]);
    ecg.onControl(encode({ t: "pong", c: 999, s: T0_US }), 2000);
    expect(ecg.clock.serverNowUs(0)).toBeNull();
    ecg.onControl(encode({ t: "pong", c: 1000, s: T0_US }), 2000);
    expect(ecg.clock.serverNowUs(1500)).toBe(T0_US);
  });

  it("learns what frames take, not how long a backlog lay", () => {
    const ecg = receiver(3);
    ecg.poll(0);
    ecg.onControl(encode({ t: "pong", c: 0, s: T0_US }), 0);
    // All at once, when the last of them has just ended.
    for (const message of MESSAGES) ecg.onMessage(message, 610_000);
    expect(ecg.lagUs).toBe(60_000);
  });

  it("asks for what it missed when the path is back", () => {
    const ecg = receiver(3);
    ecg.onOpen();
    expect(sent).toEqual([]);
    feed(ecg, 0, 5);
    ecg.onOpen();
    expect(sent).toEqual([{ t: "have", stream: 7, seq: 4 }]);
  });

  it("counts rubbish and goes on", () => {
    const ecg = receiver(3);
    for (const junk of [
      new Uint8Array(),
      new Uint8Array(60),
      Uint8Array.of(0xc1),
      encode([1]),
      encode({ t: "pong" }),
    ]) {
      ecg.onMessage(junk, 0);
      ecg.onControl(junk, 0);
    }
    expect(ecg.malformed).toBe(10);
    feed(ecg);
    expect(filled(ecg)).toBe(600);
  });
});
