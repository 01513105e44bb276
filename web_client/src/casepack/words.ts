/** Times and states of a case pack in words. */
import type { TFunction } from "i18next";
import { clockText, dayText } from "../home/consults";
import { localized } from "../i18n";
import type { Finding, PackValue } from "./api";

export function whenText(ms: number | null): string {
  return ms === null ? "" : `${dayText(ms)} ${clockText(ms)}`;
}

/** When something is of: a day that was written without a time stays that day in every zone. */
export function dateText({ atMs, isDay }: { atMs: number | null; isDay: boolean }): string {
  return atMs !== null && isDay ? new Date(atMs).toISOString().slice(0, 10) : whenText(atMs);
}

/** "12-lead ECG within 24 h: too old"; what is there needs no second word that it is. */
export function findingText(t: TFunction, finding: Finding): string {
  const part = localized(finding);
  return finding.why === "found" ? part : t("casepack.finding", { part, why: t(`casepack.why.${finding.why}`) });
}

export function valueText({ value, unit }: PackValue): string {
  return [value, unit].filter((part) => part !== "").join(" ");
}

/** A former value; in another unit than the newest it says so, or the two would be compared. */
export function trendText(former: PackValue, unit: string): string {
  return former.unit === unit ? former.value : valueText(former);
}

/** What the reader must know to be missing: what is needed first, then what would be there if known. */
export function gaps(findings: readonly Finding[]): readonly Finding[] {
  const lacking = findings.filter(({ state }) => state !== "present");
  return [...lacking.filter(({ isNeeded }) => isNeeded), ...lacking.filter(({ isNeeded }) => !isNeeded)];
}

/** A `datetime-local` value as a FHIR dateTime with this browser's offset; empty when it is none. */
export function fhirTime(local: string, offsetMin: number = new Date(local).getTimezoneOffset()): string {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(local) || Number.isNaN(offsetMin)) return "";
  const ahead = -offsetMin;
  const two = (value: number): string => String(value).padStart(2, "0");
  const zone = `${ahead < 0 ? "-" : "+"}${two(Math.floor(Math.abs(ahead) / 60))}:${two(Math.abs(ahead) % 60)}`;
  return `${local.slice(0, 16)}:00${zone}`;
}

/** The other way round, for an input that shows what was written before. */
export function localTime(fhir: string): string {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(fhir) ? fhir.slice(0, 16) : "";
}
