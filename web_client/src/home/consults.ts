/** Order and words of the list of consults. */
import type { ConsultCard } from "../common/api";

const ORDER = { open: 0, scheduled: 1, ended: 2 } as const;

/**
 * Today's consults and the others.
 *
 * An open consult belongs to today whenever it began: it is what people look
 * for. Open ones come first, then by time.
 */
export function groupConsults(consults: readonly ConsultCard[], now: Date) {
  const isToday = (one: ConsultCard): boolean =>
    one.status === "open" || one.startsAtMs === null || new Date(one.startsAtMs).toDateString() === now.toDateString();
  const sorted = consults.toSorted(
    (a, b) => ORDER[a.status] - ORDER[b.status] || (a.startsAtMs ?? 0) - (b.startsAtMs ?? 0),
  );
  return { today: sorted.filter(isToday), others: sorted.filter((one) => !isToday(one)) };
}

const two = (value: number): string => String(value).padStart(2, "0");

/** Local time of day, 24 hours in both languages. */
export function clockText(ms: number | null): string {
  if (ms === null) return "--:--";
  const date = new Date(ms);
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
}

export function dayText(ms: number | null): string {
  if (ms === null) return "";
  const date = new Date(ms);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}
