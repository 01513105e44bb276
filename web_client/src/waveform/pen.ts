/**
 * How far the pen is behind server time.
 *
 * As far as frames need to arrive, and in "with video" mode at least as far as the picture
 * beside it takes, so that a heart beat is seen and drawn together (WAVEFORM 5b). It comes
 * near at 1 % of the time that passes, which nobody sees, and steps only when far off.
 */

import type { EcgTiming } from "./settings";

export const MIN_DELAY_US = 150_000;
/** Room above the typical lag for jitter. */
const MARGIN_US = 60_000;
const STEP_ABOVE_US = 250_000;
const SLEW = 0.01;
/**
 * A picture older than this is no reason to show an old trace: it would be DELAYED for the picture's sake (W12). Then both
 * are shown with their age, and an alert (W43).
 */
const MAX_VIDEO_US = 900_000;

export interface PenNeeds {
  readonly lagUs: number | null;
  readonly sourceAheadUs: number;
  readonly timing: EcgTiming;
  readonly videoDelayUs: number | null;
}

export class PenDelay {
  private delayUs: number | null = null;

  /** Null until frames have shown what they need. */
  get us(): number | null {
    return this.delayUs;
  }

  reset(): void {
    this.delayUs = null;
  }

  follow({ lagUs, sourceAheadUs, timing, videoDelayUs }: PenNeeds, elapsedUs: number): void {
    if (lagUs === null) return;
    const video = timing === "video" && videoDelayUs !== null && videoDelayUs <= MAX_VIDEO_US ? videoDelayUs : 0;
    const wanted = Math.max(MIN_DELAY_US, lagUs + sourceAheadUs + MARGIN_US, video);
    if (this.delayUs === null || Math.abs(wanted - this.delayUs) > STEP_ABOVE_US) {
      this.delayUs = wanted;
      return;
    }
    const allowed = SLEW * Math.max(0, elapsedUs);
    this.delayUs += Math.max(-allowed, Math.min(allowed, wanted - this.delayUs));
  }
}
