import { decode, encode } from "@msgpack/msgpack";
import { beforeEach, describe, expect, it } from "vitest";
import type { WaveformStream } from "../protocol/messages";
import { crc32 } from "./crc32";
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

function receiver(version: number | null, stream: WaveformStream = STREAM): Receiver {
  return new Receiver(stream, version, {
    send: (message) => sent.push(decode(message) as Record<string, unknown>),
    stored: () => undefined,
    cleared: () => {
      cleared += 1;
    },
  });
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
    ecg.setContext(4);
    expect(cleared).toBe(1);
    expect(filled(ecg)).toBe(0);
    feed(ecg, 6);
    expect(filled(ecg)).toBe(0);
    expect(ecg.context).toBe("not_in_sync");
    expect(receiver(null).context).toBe("not_in_sync");
  });

  it("[W24] forgets what it has when the device goes to another context before the page does", () => {
    const ecg = receiver(3);
    feed(ecg, 0, 6);
    expect(filled(ecg)).toBe(300);
    const next = (MESSAGES[0] as Uint8Array).slice();
    const view = new DataView(next.buffer);
    view.setUint32(8, 6, true);
    view.setUint32(12, 4, true);
    view.setUint32(48, crc32(next.subarray(52), crc32(next.subarray(0, 48))), true);
    ecg.onMessage(next, 10_000);
    expect(ecg.malformed).toBe(0);
    expect(filled(ecg)).toBe(0);
    expect(cleared).toBe(1);
    expect(ecg.context).toBe("not_in_sync");
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
