import { describe, expect, it } from "vitest";
import { MIN_DELAY_US, PenDelay } from "./pen";
import { isSkewed, readRtpMaps, VideoTime } from "./videoTime";

const ENTRY = { producer: "cam", ssrc: 9, rtp: 4_294_967_000, s: 5_000_000, rate: 90_000, how: "capture", err: 900 };
const read = (entry: unknown) => readRtpMaps({ t: "map", of: [entry] })[0] ?? null;

describe("VideoTime", () => {
  it("finds capture to screen by the relay's map, over the wrap of RTP timestamps", () => {
    const time = new VideoTime();
    expect(time.delayMs).toBeNull();
    const map = read(ENTRY);
    if (map === null) throw new Error("no map");
    time.onMap(map);
    // Captured 0.1 s after the map, on the glass 0.23 s later.
    time.onFrame({ rtpTimestamp: (4_294_967_000 + 9_000) % 2 ** 32, serverUs: 5_330_000 });
    expect(time.delayMs).toBeCloseTo(230, 3);
    for (let i = 0; i < 200; i += 1) {
      time.onFrame({ rtpTimestamp: (4_294_967_000 + 9_000) % 2 ** 32, serverUs: 5_350_000 });
    }
    expect(time.delayMs).toBeCloseTo(250, 0);
  });

  it("forgets with an old map or another source, and believes no delay from the future", () => {
    const time = new VideoTime();
    const map = read(ENTRY);
    if (map === null) throw new Error("no map");
    time.onMap(map);
    time.onFrame({ rtpTimestamp: map.rtp, serverUs: 4_900_000 });
    expect(time.delayMs).toBeNull();
    time.onFrame({ rtpTimestamp: map.rtp, serverUs: 5_200_000 });
    expect(time.delayMs).toBeCloseTo(200, 3);
    time.onMap({ ...map, ssrc: 10 });
    expect(time.delayMs).toBeNull();
    time.onFrame({ rtpTimestamp: map.rtp, serverUs: 5_200_000 });
    time.onFrame({ rtpTimestamp: map.rtp, serverUs: 12_000_000 });
    expect(time.delayMs).toBeNull();
  });

  it("takes nothing but maps", () => {
    for (const wrong of [null, 7, {}, { t: "pong", of: [ENTRY] }, { t: "map" }, { t: "map", of: 7 }]) {
      expect(readRtpMaps(wrong)).toEqual([]);
    }
    const wrong = [null, 7, {}, { ...ENTRY, rate: 0 }, { ...ENTRY, s: "x" }, { ...ENTRY, how: "guess" }];
    expect(readRtpMaps({ t: "map", of: [...wrong, { ...ENTRY, err: null }] })).toEqual([
      {
        producer: "cam",
        ssrc: 9,
        rtp: 4_294_967_000,
        serverUs: 5_000_000,
        rateHz: 90_000,
        how: "capture",
        errorUs: null,
      },
    ]);
  });

  it("[W43] lets a picture that stands still grow old, and is then nothing to wait for", () => {
    const time = new VideoTime();
    const map = read(ENTRY);
    if (map === null) throw new Error("no map");
    expect([time.ageMsAt(5_000_000), time.delayMsAt(5_000_000), time.basis]).toEqual([null, null, null]);
    time.onMap(map);
    time.onFrame({ rtpTimestamp: map.rtp, serverUs: 5_200_000 });
    expect([time.ageMsAt(5_200_000), time.delayMsAt(5_200_000)]).toEqual([200, 200]);
    expect([time.ageMsAt(9_000_000), time.delayMsAt(6_200_001)]).toEqual([4_000, null]);
    // A picture of before the switch to another numbering keeps its age, since that is of the server's time.
    time.onMap({ ...map, ssrc: 10 });
    expect(time.ageMsAt(9_000_000)).toBe(4_000);
  });

  it("[W43] tells of a second between picture and trace", () => {
    expect([isSkewed(null), isSkewed(999), isSkewed(-1_001), isSkewed(1_001)]).toEqual([false, false, true, true]);
  });
});

describe("PenDelay", () => {
  const needs = { lagUs: 100_000, sourceAheadUs: 0, timing: "video", videoDelayUs: null } as const;

  it("is what frames need, or the picture's delay where that is longer, and never DELAYED for the picture (W12)", () => {
    const pen = new PenDelay();
    pen.follow({ ...needs, lagUs: null }, 0);
    expect(pen.us).toBeNull();
    pen.follow(needs, 0);
    expect(pen.us).toBe(160_000);
    pen.reset();
    pen.follow({ ...needs, lagUs: 20_000 }, 0);
    expect(pen.us).toBe(MIN_DELAY_US);
    pen.reset();
    pen.follow({ ...needs, videoDelayUs: 300_000 }, 0);
    expect(pen.us).toBe(300_000);
    pen.reset();
    pen.follow({ ...needs, timing: "live", videoDelayUs: 300_000 }, 0);
    expect(pen.us).toBe(160_000);
    pen.reset();
    pen.follow({ ...needs, videoDelayUs: 900_001 }, 0);
    expect(pen.us).toBe(160_000);
  });

  it("comes near at one per cent, and steps only when far off", () => {
    const pen = new PenDelay();
    pen.follow(needs, 0);
    pen.follow({ ...needs, videoDelayUs: 400_000 }, 1_000_000);
    expect(pen.us).toBe(170_000);
    pen.follow({ ...needs, videoDelayUs: 421_000 }, 1_000_000);
    expect(pen.us).toBe(421_000);
    pen.follow(needs, 16_000);
    expect(pen.us).toBe(160_000);
  });
});
