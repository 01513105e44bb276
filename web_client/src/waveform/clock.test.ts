import { describe, expect, it } from "vitest";
import { ServerClock } from "./clock";

describe("ServerClock", () => {
  it("believes the fastest answer, whatever the slow ones say", () => {
    const clock = new ServerClock();
    expect(clock.serverNowUs(0)).toBeNull();
    clock.onPong(0, 1_000_000, 80_000); // 80 ms, all of it on the way back
    clock.onPong(100_000, 1_102_000, 104_000); // 4 ms
    clock.onPong(200_000, 1_400_000, 400_000);
    expect(clock.serverNowUs(500_000)).toBe(1_500_000);
    expect(clock.uncertaintyUs).toBe(2000);
    expect(clock.rttUs).toBe(4000);
  });

  it("pings fast at first, then every 5 s", () => {
    const clock = new ServerClock();
    let pings = 0;
    for (let us = 0; us < 2_000_000; us += 100_000) pings += clock.pingDue(us) ? 1 : 0;
    expect(pings).toBe(10);
    clock.onPong(0, 5, 10);
    const later: number[] = [];
    for (let us = 2_000_000; us < 20_000_000; us += 100_000) if (clock.pingDue(us)) later.push(us);
    expect(later.slice(1).map((us, i) => us - (later[i] as number))).toEqual([5_000_000, 5_000_000, 5_000_000]);
  });

  it("ignores answers that cannot be", () => {
    const clock = new ServerClock();
    clock.onPong(10, 5, 9);
    clock.onPong(Number.NaN, 5, 9);
    clock.onPong(0, Number.NaN, 9);
    expect(clock.serverNowUs(0)).toBeNull();
  });

  it("[W11] believes the newer answer when a clock stepped: a new relay, or a computer that slept", () => {
    const clock = new ServerClock();
    clock.onPong(0, 10_000_500, 1_000); // the best round trip there will be
    clock.onPong(1_000_000, 41_004_000, 1_008_000); // 30 s further, though 1 s later by this clock
    expect(clock.serverNowUs(2_000_000)).toBe(42_000_000);
    clock.onPong(3_000_000, 23_010_000, 3_020_000); // and back
    expect(clock.serverNowUs(4_000_000)).toBe(24_000_000);
  });

  it("keeps the better of two answers that a little drift sets apart", () => {
    const clock = new ServerClock();
    clock.onPong(0, 500, 1_000);
    clock.onPong(50_000_000, 50_006_000, 50_001_000); // 5.5 ms in 50 s
    expect(clock.serverNowUs(0)).toBe(0);
  });
});
