import { describe, expect, it } from "vitest";
import { cameraEncodings, screenEncodings, VOICE } from "./encodings";

describe("how a camera is sent", () => {
  it.each([
    [{ width: 1280, height: 720 }, [4, 2, 1]],
    [{ width: 1920, height: 1080 }, [4, 2, 1]],
    [{ width: 720, height: 1280 }, [4, 2, 1]],
    [{ width: 640, height: 480 }, [2, 1]],
    [{ width: 640, height: 360 }, [2, 1]],
    [{ width: 320, height: 180 }, [undefined]],
    [{}, [undefined]],
  ])("%o in layers scaled by %o", (size, scales) => {
    expect(cameraEncodings(size).map(({ scaleResolutionDownBy }) => scaleResolutionDownBy)).toEqual(scales);
  });

  it("gives each larger layer more, all of it below what a hospital's uplink carries", () => {
    const rates = cameraEncodings({ width: 1280, height: 720 }).map(({ maxBitrate }) => maxBitrate ?? 0);
    expect(rates).toEqual([...rates].sort((a, b) => a - b));
    expect(rates.reduce((sum, rate) => sum + rate, 0)).toBeLessThan(2_500_000);
  });

  it("lets every layer give up frames", () => {
    const all = [...cameraEncodings({ width: 1280 }), ...cameraEncodings({ width: 640 }), ...screenEncodings()];
    expect(new Set(all.map(({ scalabilityMode }) => scalabilityMode))).toEqual(new Set(["L1T3"]));
  });
});

it("sends a screen once, in its own size", () => {
  expect(screenEncodings()).toHaveLength(1);
  expect(screenEncodings()[0]?.scaleResolutionDownBy).toBeUndefined();
});

it("keeps NACK for speech although codec options are given (ORTC.md trap 4)", () => {
  expect(VOICE.opusNack).toBe(true);
});
