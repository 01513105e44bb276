/** What may be said about bandwidth: the source's words, the view's filter, and when "diagnostic" is a lie (W29, W30). */

import type { WaveformStream } from "../protocol/messages";
import { type FilterPlan, planFilter } from "./filters";
import type { EcgFilter, EcgNotch } from "./settings";
import { type EcgWords, WORDS } from "./words";

const DIAGNOSTIC_RATE_MHZ = 500_000;
const DIAGNOSTIC_BAND_HZ = [0.05, 150] as const;

type Described = Pick<WaveformStream, "filter" | "sample_rate_mhz">;

/** The band in the source's text, "0.05-150 Hz"; null when it names none. */
export function bandOf(text: string): readonly [lowHz: number, highHz: number] | null {
  const found = /(\d+(?:\.\d+)?)\s*(?:Hz\s*)?[-–—~]\s*(\d+(?:\.\d+)?)\s*Hz/i.exec(text);
  return found === null ? null : [Number(found[1]), Number(found[2])];
}

/** [W30] Below 500 Hz, or from a source that filters more or does not say, nothing is called diagnostic. */
export function mayCallDiagnostic({ filter, sample_rate_mhz }: Described): boolean {
  const band = bandOf(filter);
  if (sample_rate_mhz < DIAGNOSTIC_RATE_MHZ || band === null) return false;
  return band[0] <= DIAGNOSTIC_BAND_HZ[0] && band[1] >= DIAGNOSTIC_BAND_HZ[1];
}

/** [W29] ST may be judged only where neither the source nor the view cuts away more than what is below 0.05 Hz. */
export function mayJudgeSt(stream: Described, filter: EcgFilter): boolean {
  const band = bandOf(stream.filter);
  return band !== null && band[0] <= DIAGNOSTIC_BAND_HZ[0] && filter !== "monitor";
}

/** The source's filter in its own words. */
export function sourceFilterText(stream: Described, words: EcgWords): string {
  return stream.filter === "" ? words.filterUnknown : stream.filter;
}

/** The view's filter as it really is at this rate; empty when the view is unfiltered. */
export function viewFilterText(stream: Described, filter: EcgFilter, notch: EcgNotch, words: EcgWords): string {
  const plan = planFilter(filter, notch, stream.sample_rate_mhz / 1000);
  if (plan === null) return "";
  const name = filter === "off" || (filter === "diagnostic" && !mayCallDiagnostic(stream)) ? "" : words.filters[filter];
  const parts = [name, bandText(plan), plan.notchHz === null ? "" : `${words.notch} ${plan.notchHz} Hz`];
  return [words.view, ...parts.filter((part) => part !== "")].join(" ");
}

/** The same for the record, which names the source's filter itself: in English whoever orders it, empty when unfiltered. */
export function viewFilterRecord(stream: Described, filter: EcgFilter, notch: EcgNotch): string {
  return viewFilterText(stream, filter, notch, { ...WORDS.en, view: "" }).trim();
}

function bandText({ highPassHz, lowPassHz }: FilterPlan): string {
  if (highPassHz === null) return "";
  return lowPassHz === null ? `> ${highPassHz} Hz` : `${highPassHz}–${lowPassHz} Hz`;
}
