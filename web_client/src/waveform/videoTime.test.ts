import { describe, expect, it } from "vitest";
import { MIN_DELAY_US, PenDelay } from "./pen";
import { isSkewed, readRtpMap, VideoTime } from "./videoTime";

const MAP = { t: "map", ssrc: 9, rtp: 4_294_967_000, s: 5_000_000, rate: 90_000 };

describe("VideoTime", () => {
  it("finds capture to screen by the relay's map, over the wrap of RTP timestamps", () => {
    const time = new VideoTime();
    expect(time.delayMs).toBeNull();
    const map = readRtpMap(MAP);
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
    const map = readRtpMap(MAP);
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
    for (const wrong of [null, 7, {}, { ...MAP, t: "pong" }, { ...MAP, rate: 0 }, { ...MAP, s: "x" }]) {
      expect(readRtpMap(wrong)).toBeNull();
    }
  });

  it("[W43] tells of a second between picture and trace", () => {
    expect([isSkewed(null), isSkewed(999), isSkewed(-1_001), isSkewed(1_001)]).toEqual([false, false, true, true]);
  });
});

describe("PenDelay", () => {
  const needs = { lagUs: 100_000, sourceAheadUs: 0, timing: "video", videoDelayUs: null } as const;

  it("is what frames need, or the picture's delay where that is longer", () => {
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
    pen.follow({ ...needs, videoDelayUs: 9_000_000 }, 0);
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
