import { currentLanguage } from "../i18n";

/** A time of day as this person reads it; with the date when it is another day. */
export function clockTime(ms: number): string {
  const isToday = new Date(ms).toDateString() === new Date().toDateString();
  const day = isToday ? {} : ({ month: "numeric", day: "numeric" } as const);
  return new Intl.DateTimeFormat(currentLanguage(), { ...day, hour: "2-digit", minute: "2-digit" }).format(ms);
}
