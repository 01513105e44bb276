/** Maps, pings and shown frames, together the age of a picture. */
import { decode, encode } from "@msgpack/msgpack";
import { describe, expect, it } from "vitest";
import { PictureTimes } from "./pictureTimes";

const SERVER_US = 1_790_000_000_000_000;
/** Of the page's clock at 0. */
const OFFSET_US = SERVER_US;
const TRIP_MS = 4;

const entry = (changes: object = {}) => ({
  producer: "cam",
  ssrc: 9,
  rtp: 90_000,
  s: SERVER_US + 1_000_000,
  rate: 90_000,
  how: "capture",
  err: 3_000,
  ...changes,
});

/** A page whose pings a relay answers, each way taking half of `TRIP_MS`. */
function page() {
  const asked: { t: string; c: number }[] = [];
  const times = new PictureTimes((message) => void asked.push(decode(message) as { t: string; c: number }));
  const answer = (nowMs: number) => {
    times.tend(nowMs);
    const ping = asked.at(-1);
    if (ping === undefined) throw new Error("no ping");
    const pong = { t: "pong", c: ping.c, s: OFFSET_US + ping.c + (TRIP_MS * 1000) / 2 };
    return times.takeControl(encode(pong), nowMs + TRIP_MS);
  };
  const tell = (...of: object[]) => times.takeControl(encode({ t: "map", of }), 1_000);
  return { times, asked, answer, tell };
}

describe("the times of pictures", () => {
  it("are what the relay's map says of the frames that are shown, by the relay's clock", () => {
    const { times, answer, tell } = page();
    expect([times.delayMs("cam", 1_000), times.age("cam", 1_000)]).toEqual([null, null]);
    expect([answer(1_000), tell(entry(), entry({ producer: "other", how: "arrival", err: null }))]).toEqual([
      true,
      true,
    ]);
    // Taken at 1.1 s of server time, on the glass at 1.25.
    times.onShown("cam", 99_000, 1_250);
    times.onShown("other", 99_000, 1_250);
    times.onShown("unheard-of", 99_000, 1_250);

    expect(times.delayMs("cam", 1_250)).toBeCloseTo(150, 3);
    // The relay's bound and half the round trip to it.
    expect(times.age("cam", 1_250)).toEqual({ ms: 150, isLeast: false, errorMs: 3 + TRIP_MS / 2 });
    expect(times.age("other", 1_250)).toEqual({ ms: 150, isLeast: true, errorMs: null });
    expect([times.age("unheard-of", 1_250), times.age(null, 1_250), times.delayMs(null, 1_250)]).toEqual([
      null,
      null,
      null,
    ]);
  });

  it("(W43) go on growing when the picture stands still, while nothing waits for it", () => {
    const { times, answer, tell } = page();
    answer(1_000);
    tell(entry());
    times.onShown("cam", 99_000, 1_250);
    expect([times.age("cam", 6_100)?.ms, times.delayMs("cam", 6_100)]).toEqual([5_000, null]);
  });

  it("take nothing that is for others, and no answer to what was not asked", () => {
    const { times, answer } = page();
    const others = [{ t: "gone", stream: 7, first: 1, last: 2 }, { t: "pong", c: 5, s: SERVER_US }, 7, null];
    expect(others.map((message) => times.takeControl(encode(message), 1_000))).toEqual([false, false, false, false]);
    expect(times.takeControl(new Uint8Array([0xc1]), 1_000)).toBe(false);
    answer(1_000);
    expect(times.takeControl(encode({ t: "pong", c: 1_000_000, s: SERVER_US }), 1_010), "a second answer").toBe(false);
  });

  it("are forgotten with the path and with the source, and the clock is asked again", () => {
    const { times, asked, answer, tell } = page();
    answer(1_000);
    tell(entry(), entry({ producer: "other" }));
    for (const producer of ["cam", "other"]) times.onShown(producer, 99_000, 1_250);
    times.keep(new Set(["cam"]));
    expect([times.age("other", 1_250), times.age("cam", 1_250)?.ms]).toEqual([null, 150]);
    times.restart();
    expect(times.age("cam", 1_250)).toBeNull();
    const before = asked.length;
    times.tend(1_001);
    expect(asked.length).toBe(before + 1);
  });
});
