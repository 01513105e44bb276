/**
 * How this display shows an ECG, kept in this browser: a wall and a phone each have their own.
 *
 * Anything unreadable falls back to paper as it is usual (W26): 25 mm/s, 10 mm/mV. Pure but for the two ends that
 * touch the storage.
 */
import { num, obj, str } from "../common/read";
import type {
  EcgFilter,
  EcgGain,
  EcgLayout,
  EcgMode,
  EcgNotch,
  EcgOrder,
  EcgSpeed,
  EcgTiming,
} from "../waveform/settings";

export const LAYOUTS: readonly EcgLayout[] = ["auto", "3x4+1", "3x4", "6x2", "12x1", "rhythm"];
export const ORDERS: readonly EcgOrder[] = ["standard", "cabrera"];
export const MODES: readonly EcgMode[] = ["sweep", "scroll"];
export const SPEEDS: readonly EcgSpeed[] = [12.5, 25, 50];
export const GAINS: readonly EcgGain[] = [5, 10, 20];
export const FILTERS: readonly EcgFilter[] = ["off", "monitor", "st", "diagnostic"];
export const NOTCHES: readonly EcgNotch[] = [0, 50, 60];
export const TIMINGS: readonly EcgTiming[] = ["live", "video"];

export interface EcgDisplay {
  readonly layout: EcgLayout;
  readonly order: EcgOrder;
  readonly mode: EcgMode;
  readonly speed: EcgSpeed;
  readonly gain: EcgGain;
  readonly filter: EcgFilter;
  readonly notch: EcgNotch;
  /** Lead of the rhythm strip; empty for the usual one. */
  readonly rhythm: string;
  readonly timing: EcgTiming;
}

export const USUAL: EcgDisplay = {
  layout: "auto",
  order: "standard",
  mode: "sweep",
  speed: 25,
  gain: 10,
  filter: "off",
  notch: 0,
  rhythm: "",
  // With the picture where one of the patient is shown, else as early as frames allow (WAVEFORM section 0).
  timing: "video",
};

const KEY = "consilium.ecg.display";
const MAX_LEAD = 8;

/** What was stored, each part that makes sense. */
export function readDisplay(text: string | null, usual: EcgDisplay = USUAL): EcgDisplay {
  const o = obj(parsed(text));
  const word = <T extends string>(value: unknown, known: readonly T[], otherwise: T): T =>
    known.find((one) => one === value) ?? otherwise;
  const number = <T extends number>(value: unknown, known: readonly T[], otherwise: T): T =>
    known.find((one) => one === num(value)) ?? otherwise;
  return {
    layout: word(o.layout, LAYOUTS, usual.layout),
    order: word(o.order, ORDERS, usual.order),
    mode: word(o.mode, MODES, usual.mode),
    speed: number(o.speed, SPEEDS, usual.speed),
    gain: number(o.gain, GAINS, usual.gain),
    filter: word(o.filter, FILTERS, usual.filter),
    notch: number(o.notch, NOTCHES, usual.notch),
    rhythm: str(o.rhythm).slice(0, MAX_LEAD),
    timing: word(o.timing, TIMINGS, usual.timing),
  };
}

function parsed(text: string | null): unknown {
  try {
    return text === null ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

export function rememberedDisplay(usual: EcgDisplay = USUAL): EcgDisplay {
  try {
    return readDisplay(localStorage.getItem(KEY), usual);
  } catch {
    return usual;
  }
}

export function rememberDisplay(display: EcgDisplay): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(display));
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}

/** The next of a list, round and round: what a key steps through. */
export function after<T>(values: readonly T[], present: T): T {
  return values[(values.indexOf(present) + 1) % values.length] ?? present;
}
