/** What a person chooses about an ECG on screen, and what the display says about itself; shared by page and worker. */

import type { EcgTheme } from "./palette";
import type { EcgState } from "./state";
import type { EcgLanguage } from "./words";

export type EcgLayout = "auto" | "3x4+1" | "3x4" | "6x2" | "12x1" | "rhythm";
export type EcgOrder = "standard" | "cabrera";
/** The pen runs over standing paper, or the paper runs under a standing pen. */
export type EcgMode = "sweep" | "scroll";
export type EcgSpeed = 12.5 | 25 | 50;
export type EcgGain = 5 | 10 | 20;
/** Bandwidth of the view; what is measured, stored and exported stays raw (W10). */
export type EcgFilter = "off" | "monitor" | "st" | "diagnostic";
export type EcgNotch = 0 | 50 | 60;
/** "live": as early as frames allow. "video": as late as the picture beside it (WAVEFORM 5b). */
export type EcgTiming = "live" | "video";

export interface EcgSettings {
  readonly layout: EcgLayout;
  readonly order: EcgOrder;
  readonly mode: EcgMode;
  readonly speedMmS: EcgSpeed;
  readonly gainMmMv: EcgGain;
  readonly filter: EcgFilter;
  readonly notch: EcgNotch;
  /** Leads of the rhythm strips, at most three; empty = II, or what there is. */
  readonly rhythm: readonly string[];
  readonly timing: EcgTiming;
  /** Print date and time of the newest sample: needed beside another ECG. */
  readonly dated: boolean;
  /** Enlargement that two views side by side agree on; null = by size (far view of a wall). */
  readonly zoom: number | null;
  readonly theme: EcgTheme;
  readonly language: EcgLanguage;
}

/** Capture to screen of the picture beside the trace, milliseconds; null while it is not known. */
export type VideoDelayMs = number | null;

/** A page that stands still: its right edge is this server time, microseconds. */
export interface StillAt {
  readonly atUs: number;
}

/** One lane of a still page in CSS px of the view, so that a layer above can draw on it. */
export interface StillLane {
  /** Lead as the stream or the standard names it; "aVR" also where the lane shows -aVR. */
  readonly lead: string;
  readonly derived: boolean;
  readonly xPx: number;
  readonly wPx: number;
  /** Where 0 uV is. */
  readonly midPx: number;
  readonly topPx: number;
  readonly bottomPx: number;
  /** Server time at `xPx`. */
  readonly fromUs: number;
  readonly usPerPx: number;
  /** Microvolts per px upwards; negative where the lane is drawn inverted (-aVR). `y = midPx - uv / uvPerPx`. */
  readonly uvPerPx: number;
}

export interface StillMap {
  readonly atUs: number;
  readonly lanes: readonly StillLane[];
}

/** The real sample nearest to a time; raw, never filtered (W32). */
export type EcgSample =
  | { readonly atUs: number; readonly uv: number; readonly valid: true }
  | { readonly atUs: number; readonly uv: null; readonly valid: false };

export interface EcgStatus {
  readonly state: EcgState;
  readonly ageMs: number | null;
  readonly samplesDrawn: number;
  /** Context version on screen; null when nothing of a patient is. */
  readonly context: number | null;
  readonly gaps: number;
  readonly sync: "in_sync" | "waiting" | "not_in_sync" | "unbound";
  readonly clockErrorMs: number | null;
  /** Leads on screen that the display computed (W7). */
  readonly derived: readonly string[];
  /** Bandwidth as printed: the source's and the view's (W29). */
  readonly filter: string;
  /** Speed, gain and calibration as printed (W26, W27). */
  readonly scale: string;
  /** Samples so far at which a measured limb lead contradicted I and II by more than one step (W7). */
  readonly limbError: number;
  readonly isStill: boolean;
  /** How far the pen is behind server time. */
  readonly penDelayMs: number | null;
  /** Age of the video less age of the trace; null while one of them is not known (W43). */
  readonly skewMs: number | null;
  readonly framesPerSecond: number;
  /** JavaScript per painted frame, mean since the last status. */
  readonly paintMs: number;
}
