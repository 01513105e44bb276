/**
 * What a stream may be called (W29, W30).
 *
 * "Diagnostic 12-lead" takes twelve leads, at least 500 samples a second and a bandwidth up to 150 Hz that the source
 * itself states; less is a rhythm display, whatever it looks like. An unknown filter is called unknown. Pure.
 */
import type { WaveformStream } from "../protocol";

const STANDARD = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"];
/** These may be computed from I and II. */
const DERIVABLE = ["III", "aVR", "aVL", "aVF"];
const DIAGNOSTIC_MHZ = 500_000;
const DIAGNOSTIC_HZ = 150;

export type Grade = "diagnostic" | "low_rate" | "few_leads" | "narrow_band" | "unknown_band";

type Described = Pick<WaveformStream, "leads" | "sample_rate_mhz" | "filter">;

/** The first reason against "diagnostic", or that there is none. */
export function gradeOf({ leads, sample_rate_mhz, filter }: Described): Grade {
  const has = new Set(leads.map((lead) => lead.toLowerCase()));
  const needed = STANDARD.filter((lead) => !DERIVABLE.includes(lead));
  if (!needed.every((lead) => has.has(lead.toLowerCase()))) return "few_leads";
  if (sample_rate_mhz < DIAGNOSTIC_MHZ) return "low_rate";
  const top = upperHz(filter);
  if (top === null) return "unknown_band";
  return top < DIAGNOSTIC_HZ ? "narrow_band" : "diagnostic";
}

/** The upper limit that a filter text states, as in "0.05-150 Hz" or "Monitor 0.5–40 Hz"; `null` when it states none. */
export function upperHz(filter: string): number | null {
  const found = /(\d+(?:\.\d+)?)\s*(?:Hz)?\s*(?:-|–|—|to|\.\.)\s*(\d+(?:\.\d+)?)\s*Hz/i.exec(filter);
  return found?.[2] === undefined ? null : Number(found[2]);
}
