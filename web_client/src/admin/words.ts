/** Figures of the lock as people read them. */
import { clockText, dayText } from "../home/consults";

const THOUSAND = 1_000;

/** Digits that say something: 0.4 ms, 12 ms, 3.2 s, 5 min, 2 h. */
export function durationText(us: number | null): string {
  if (us === null) return "–";
  const ms = us / THOUSAND;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < THOUSAND) return `${Math.round(ms)} ms`;
  const s = ms / THOUSAND;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  return s < 7_200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3_600)} h`;
}

/** With its sign: ahead of the hub is plus. What rounds to nothing has none: "−0.0 ms" would be neither. */
export function offsetText(us: number | null): string {
  if (us === null) return "–";
  if (Math.abs(us) < 50) return durationText(0);
  return `${us < 0 ? "−" : "+"}${durationText(Math.abs(us))}`;
}

/** More than this and times of the two machines can no longer be read side by side. */
export const OFFSET_BAD_US = 2_000_000;

export function sizeText(bytes: number): string {
  if (bytes < 1_024) return `${bytes} B`;
  const kib = bytes / 1_024;
  if (kib < 1_024) return `${kib < 10 ? kib.toFixed(1) : Math.round(kib)} KiB`;
  return `${(kib / 1_024).toFixed(1)} MiB`;
}

export const timeText = (ms: number | null): string => (ms === null ? "–" : `${dayText(ms)} ${clockText(ms)}`);

/** To the second, as a log is read. */
export function stampText(ms: number | null): string {
  if (ms === null) return "–";
  return `${timeText(ms)}:${String(new Date(ms).getSeconds()).padStart(2, "0")}`;
}

/** A number of the log; where several numbers could not be sent any more, from and to. */
export const numberText = ({ sequence, last }: { sequence: number; last: number }): string =>
  last > sequence ? `${sequence}–${last}` : String(sequence);

/** What to type inside the hospital. The code itself is asked for: a command line is seen by others and remembered. */
export function enrolCommand(origin: string, hasAuthority: boolean): string {
  const authority = hasAuthority ? " --ca consilium-ca.crt" : "";
  return `consilium gateway enrol --hub ${origin}${authority} &&\nconsilium gateway run`;
}

/** A `datetime-local` value as milliseconds; null where there is none. */
export function localMs(text: string): number | null {
  const ms = text === "" ? Number.NaN : new Date(text).getTime();
  return Number.isNaN(ms) ? null : ms;
}
