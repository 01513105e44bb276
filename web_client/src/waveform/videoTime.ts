/**
 * How long one video picture takes from capture to screen, by the server's clock.
 *
 * The relay says twice a second which RTP timestamp of each forwarded video means which server time (media/WAVEFORM_WIRE
 * [WF16]). The browser says with every shown frame its RTP timestamp and when it will be on the glass
 * (`requestVideoFrameCallback`). The difference is the picture's delay; `captureTime` is not
 * used, since it is absent or wrong by up to 230 ms behind a relay (WAVEFORM 5b). Pure.
 */

export interface RtpMap {
  readonly producer: string;
  readonly ssrc: number;
  readonly rtp: number;
  readonly serverUs: number;
  readonly rateHz: number;
  /** `arrival`: when the relay had it; it was taken earlier by everything upstream, so ages by it are too small. */
  readonly how: "capture" | "arrival";
  /** Off by at most this; null while nobody knows. */
  readonly errorUs: number | null;
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
/** Without a picture for this long it has stopped. */
const RUNNING_US = 1_000_000;
/** A delay outside is no delay but a wrong map. */
const MAX_DELAY_US = 30_000_000;
/** [W43] Above this difference of ages people are told. */
export const SKEW_ALERT_MS = 1_000;

/** What a `map` message of the relay says; empty when it is something else. Entries that make no sense are left out. */
export function readRtpMaps(message: unknown): readonly RtpMap[] {
  if (typeof message !== "object" || message === null) return [];
  const { t, of } = message as Record<string, unknown>;
  return t === "map" && Array.isArray(of) ? of.flatMap((entry) => readEntry(entry) ?? []) : [];
}

function readEntry(entry: unknown): RtpMap | null {
  if (typeof entry !== "object" || entry === null) return null;
  const { producer, ssrc, rtp, s, rate, how, err } = entry as Record<string, unknown>;
  const numbers = [ssrc, rtp, s, rate];
  if (typeof producer !== "string" || (how !== "capture" && how !== "arrival")) return null;
  if (!numbers.every((n): n is number => typeof n === "number" && Number.isFinite(n))) return null;
  const [of, stamp, serverUs, rateHz] = numbers as [number, number, number, number];
  const errorUs = typeof err === "number" && Number.isFinite(err) ? err : null;
  return rateHz > 0 ? { producer, ssrc: of, rtp: stamp, serverUs, rateHz, how, errorUs } : null;
}

export class VideoTime {
  private map: RtpMap | null = null;
  private meanUs: number | null = null;
  private shown: { readonly atUs: number; readonly takenUs: number } | null = null;

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
    const takenUs = map.serverUs + (ticks * 1e6) / map.rateHz;
    const delayUs = serverUs - takenUs;
    if (delayUs < 0 || delayUs > MAX_DELAY_US) return;
    this.shown = { atUs: serverUs, takenUs };
    this.meanUs = this.meanUs === null ? delayUs : this.meanUs + SMOOTHING * (delayUs - this.meanUs);
  }

  /** Capture to screen, milliseconds; null while not known. For `EcgView.videoDelayMs`. */
  get delayMs(): number | null {
    return this.meanUs === null ? null : this.meanUs / 1000;
  }

  /** The same, and null as well when no picture has come lately: what stands still is nothing to wait for. */
  delayMsAt(serverUs: number): number | null {
    return this.shown === null || serverUs - this.shown.atUs > RUNNING_US ? null : this.delayMs;
  }

  /** Age of what is on screen, also when nothing new comes; null while not known. */
  ageMsAt(serverUs: number): number | null {
    return this.shown === null ? null : Math.max(0, serverUs - this.shown.takenUs) / 1000;
  }

  /** What is known of the times: the last map. */
  get basis(): Pick<RtpMap, "how" | "errorUs"> | null {
    return this.map;
  }
}

/** [W43] Whether picture and trace are so far apart that people must be told; `EcgStatus.skewMs`. */
export function isSkewed(skewMs: number | null): boolean {
  return skewMs !== null && Math.abs(skewMs) > SKEW_ALERT_MS;
}
