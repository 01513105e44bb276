/** What the relay no longer has comes from the store, late, paced, and never as live. */
import { decode, encode } from "@msgpack/msgpack";
import { beforeEach, describe, expect, it } from "vitest";
import type { WaveformStream } from "../protocol/messages";
import { Backfill } from "./backfill";
import { Receiver } from "./receiver";
import { makeFrame } from "./testFrames";
import type { SeqRange } from "./tracker";

const N = 50;
const FRAME_US = 100_000;
const SECOND_US = 1_000_000;
const T0_US = 1_763_712_000_000_000;
const STREAM: WaveformStream = {
  stream_id: 7,
  leads: ["I", "II"],
  sample_rate_mhz: 500_000,
  lsb_nv: 2_000,
  device: "monitor",
  filter: "",
  simulated: false,
  patient: "p",
};

const frame = (seq: number, contextVersion = 1): Uint8Array =>
  makeFrame({
    seq,
    contextVersion,
    t0Us: T0_US + seq * FRAME_US,
    firstSample: seq * N,
    rateHz: 500,
    rows: [0, 1].map((lead) => Array.from({ length: N }, (_, i) => 1000 * lead + seq + i)),
  });

let asked: SeqRange[];
let nacks: number;
let stored: number[];

function receiver(hasStore = true): Receiver {
  const made: Receiver = new Receiver(STREAM, 1, {
    send: (message) => {
      if ((decode(message) as { t: string }).t === "nack") nacks += 1;
    },
    stored: (from) => stored.push(from),
    cleared: () => undefined,
    hidden: () => undefined,
    ...(hasStore ? { fetch: (range: SeqRange) => asked.push(range) } : {}),
  });
  return made;
}

/** Frames of so many seconds but for some, with a look every 50 ms. */
function play(to: Receiver, fromS: number, toS: number, without: readonly number[] = []): void {
  for (let nowUs = fromS * SECOND_US; nowUs < toS * SECOND_US; nowUs += FRAME_US / 2) {
    const seq = nowUs / FRAME_US;
    if (Number.isInteger(seq) && !without.includes(seq)) to.onMessage(frame(seq), nowUs);
    to.poll(nowUs);
  }
}

const has = (of: Receiver, seq: number): boolean => of.buffer.received(seq * N);

beforeEach(() => {
  asked = [];
  nacks = 0;
  stored = [];
});

describe("repair from the store", () => {
  it("[W4] asks the store when the relay does not answer, and puts what comes where it belongs", () => {
    const ecg = receiver();
    play(ecg, 0, 3, [10, 11]);
    expect(nacks).toBe(5);
    expect(asked).toEqual([[10, 11]]);
    expect(ecg.mayCome(9, 12)).toBe(true);
    ecg.onFetched([10, 11], [frame(10), frame(11)], 3 * SECOND_US);
    expect([has(ecg, 10), has(ecg, 11)]).toEqual([true, true]);
    expect(ecg.buffer.value(1, 10 * N + 3)).toBe(1013);
    expect(ecg.tracker.missing).toEqual([]);
    play(ecg, 3, 6);
    expect(asked).toHaveLength(1);
  });

  it("[W4] asks at once for what the relay calls gone", () => {
    const ecg = receiver();
    play(ecg, 0, 1.2, [10]);
    ecg.onControl(encode({ t: "gone", stream: 7, first: 10, last: 10 }), 1.2 * SECOND_US);
    expect(ecg.mayCome(9, 11)).toBe(true);
    ecg.poll(1.2 * SECOND_US);
    expect(asked).toEqual([[10, 10]]);
  });

  it("[W4] calls a hole lost only when the store too lacks it, after it had the time to repair itself", () => {
    const ecg = receiver();
    let answered = 0;
    for (let s = 0; s < 25; s += 0.5) {
      play(ecg, s, s + 0.5, [10]);
      for (; answered < asked.length; answered += 1) ecg.onFetched(asked[answered] as SeqRange, [], s * SECOND_US);
      if (s === 15) expect(ecg.mayCome(9, 11)).toBe(true);
    }
    expect(ecg.mayCome(9, 11)).toBe(false);
    expect(asked.length).toBeGreaterThan(3);
    expect(asked.length).toBeLessThan(8);
    expect(ecg.tracker.missing).toEqual([[10, 10]]);
  });

  it("is lost at once where there is no store", () => {
    const ecg = receiver(false);
    play(ecg, 0, 3, [10]);
    expect(ecg.mayCome(9, 11)).toBe(false);
  });

  it("[W13] takes nothing that was not missing: no newer frame, no other number, nothing unasked", () => {
    const ecg = receiver();
    play(ecg, 0, 3, [10]);
    const [newest, end] = [ecg.tracker.newestSeq, ecg.buffer.end];
    stored = [];
    ecg.onFetched([10, 12], [frame(10)], 3 * SECOND_US);
    expect(has(ecg, 10)).toBe(false);
    const later = makeFrame({ seq: 10, t0Us: T0_US + 60 * SECOND_US, firstSample: 0, rateHz: 500, rows: [[1], [1]] });
    ecg.onFetched([10, 10], [frame(5), later, frame(40), frame(10), new Uint8Array(9)], 3 * SECOND_US);
    expect(stored).toEqual([10 * N]);
    expect([ecg.tracker.newestSeq, ecg.buffer.end, ecg.lastFrameUs]).toEqual([newest, end, 2.9 * SECOND_US]);
    expect(ecg.malformed).toBe(1);
  });

  it("[W24] takes nothing of another context", () => {
    const ecg = receiver();
    play(ecg, 0, 3, [10]);
    ecg.onFetched([10, 10], [frame(10, 2)], 3 * SECOND_US);
    expect(has(ecg, 10)).toBe(false);
  });
});

describe("asking", () => {
  const all = (first: number, last: number): Set<number> =>
    new Set(Array.from({ length: last - first + 1 }, (_, k) => first + k));

  it("is one request at a time, newest first, in pieces, with a pause", () => {
    const backfill = new Backfill();
    const missing = all(0, 249);
    expect(backfill.due(missing, 0)).toEqual([150, 249]);
    expect(backfill.due(missing, SECOND_US)).toBeNull();
    for (let seq = 150; seq < 250; seq += 1) missing.delete(seq);
    backfill.answered((seq) => missing.has(seq), SECOND_US);
    expect(backfill.due(missing, 1.1 * SECOND_US)).toBeNull();
    expect(backfill.due(missing, 1.3 * SECOND_US)).toEqual([50, 149]);
  });

  it("waits longer each time that it fails, and gives up what is too old to be placed", () => {
    const backfill = new Backfill();
    const times: number[] = [];
    for (let us = 0; us < 65 * SECOND_US; us += 50_000) {
      if (backfill.due(all(1, 2), us) === null) continue;
      times.push(us / SECOND_US);
      backfill.failed(us);
    }
    expect(times).toEqual([0, 1, 3, 7, 15, 31]);
    expect(backfill.hopes(1)).toBe(false);
  });

  it("does not wait for an answer for ever", () => {
    const backfill = new Backfill();
    backfill.due(all(1, 1), 0);
    expect(backfill.due(all(1, 1), 25 * SECOND_US)).toBeNull();
    expect(backfill.isAsked([1, 1])).toBe(false);
    expect(backfill.due(all(1, 1), 27 * SECOND_US)).toEqual([1, 1]);
  });
});
