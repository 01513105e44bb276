import { clockText, dayText } from "../home/consults";

/** Local time of day as on every other page; with the date when it is another day. */
export function clockTime(ms: number): string {
  const isToday = dayText(ms) === dayText(Date.now());
  return isToday ? clockText(ms) : `${dayText(ms)} ${clockText(ms)}`;
}
