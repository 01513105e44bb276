/**
 * How this browser's sources are encoded: sizes and rates per layer.
 *
 * A camera is sent in up to three sizes at once, so that every viewer gets the one that fits its tile and its line;
 * each carries three temporal layers, so that a viewer between two sizes is given fewer frames before a smaller picture.
 * A shared screen is sent once: text that was scaled down cannot be read, so only frames may be given up.
 * Rates are sized for a hospital uplink: enough for a face or a page of text, far from filling the line.
 */
import type { types } from "mediasoup-client";

export interface Size {
  readonly width?: number | undefined;
  readonly height?: number | undefined;
}

const MODE = "L1T3";

/** From the smallest layer to the largest; the names r0, r1, r2 are mediasoup-client's. */
export function cameraEncodings({ width = 0, height = 0 }: Size): types.RtpEncodingParameters[] {
  const longSide = Math.max(width, height);
  if (longSide >= 960) return [layer(4, 150_000), layer(2, 500_000), layer(1, 1_700_000)];
  if (longSide >= 480) return [layer(2, 200_000), layer(1, 800_000)];
  return [{ maxBitrate: 400_000, scalabilityMode: MODE }];
}

const layer = (scaleResolutionDownBy: number, maxBitrate: number): types.RtpEncodingParameters => ({
  scaleResolutionDownBy,
  maxBitrate,
  scalabilityMode: MODE,
});

export function screenEncodings(): types.RtpEncodingParameters[] {
  return [{ maxBitrate: 3_000_000, maxFramerate: 15, scalabilityMode: MODE }];
}

/**
 * Speech: silence costs nothing (DTX), a lost packet is mended from the next one (in-band FEC) or sent again (NACK).
 *
 * NACK must be named: mediasoup-client strips it from what it negotiates once any codec option is given.
 */
export const VOICE: types.ProducerCodecOptions = { opusDtx: true, opusFec: true, opusNack: true };
