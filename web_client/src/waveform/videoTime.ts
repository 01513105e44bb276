/**
 * How long one video picture takes from capture to screen, by the server's clock.
 *
 * The relay says now and then which RTP timestamp of a forwarded video means which server
 * time: `{"t":"map","ssrc":u32,"rtp":u32,"s":server us,"rate":Hz}` on `ctl`. The browser says
 * with every shown frame its RTP timestamp and when it will be on the glass
 * (`requestVideoFrameCallback`). The difference is the picture's delay; `captureTime` is not
 * used, since it is absent or wrong by up to 230 ms behind a relay (WAVEFORM 5b). Pure.
 */

export interface RtpMap {
  readonly ssrc: number;
  readonly rtp: number;
  readonly serverUs: number;
  readonly rateHz: number;
}

/** One shown frame: its RTP timestamp, and the server time at which it is on the glass. */
export interface ShownFrame {
  readonly rtpTimestamp: number;
  readonly serverUs: number;
}

/** Weight of one frame: at 25 a second the mean follows within a second. */
const SMOOTHING = 0.05;
/** A map older than this may belong to what was sent before a switch of source. */
const MAP_HOLDS_US = 5_000_000;
/** A delay outside is no delay but a wrong map. */
const MAX_DELAY_US = 30_000_000;
/** [W43] Above this difference of ages people are told. */
export const SKEW_ALERT_MS = 1_000;

/** A `map` message of the relay; null when it is something else. */
export function readRtpMap(message: unknown): RtpMap | null {
  if (typeof message !== "object" || message === null) return null;
  const { t, ssrc, rtp, s, rate } = message as Record<string, unknown>;
  const numbers = [ssrc, rtp, s, rate];
  if (t !== "map" || !numbers.every((n): n is number => typeof n === "number" && Number.isFinite(n))) return null;
  const [of, stamp, serverUs, rateHz] = numbers as [number, number, number, number];
  return rateHz > 0 ? { ssrc: of, rtp: stamp, serverUs, rateHz } : null;
}

export class VideoTime {
  private map: RtpMap | null = null;
  private meanUs: number | null = null;

  /** Take a map of the video that is shown; a jump of its times begins anew. */
  onMap(map: RtpMap): void {
    if (this.map !== null && this.map.ssrc !== map.ssrc) this.meanUs = null;
    this.map = map;
  }

  onFrame({ rtpTimestamp, serverUs }: ShownFrame): void {
    const { map } = this;
    if (map === null || Math.abs(serverUs - map.serverUs) > MAP_HOLDS_US) {
      this.meanUs = null;
      return;
    }
    // RTP timestamps count modulo 2^32: the nearer way round is the right one.
    const ticks = (rtpTimestamp - map.rtp) | 0;
    const delayUs = serverUs - (map.serverUs + (ticks * 1e6) / map.rateHz);
    if (delayUs < 0 || delayUs > MAX_DELAY_US) return;
    this.meanUs = this.meanUs === null ? delayUs : this.meanUs + SMOOTHING * (delayUs - this.meanUs);
  }

  /** Capture to screen, milliseconds; null while not known. For `EcgView.videoDelayMs`. */
  get delayMs(): number | null {
    return this.meanUs === null ? null : this.meanUs / 1000;
  }
}

/** [W43] Whether picture and trace are so far apart that people must be told; `EcgStatus.skewMs`. */
export function isSkewed(skewMs: number | null): boolean {
  return skewMs !== null && Math.abs(skewMs) > SKEW_ALERT_MS;
}
