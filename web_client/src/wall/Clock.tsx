/** The time of day, large: a wall that shows a running clock is visibly alive. */
import { useEffect, useState } from "react";
import { currentLanguage } from "../i18n";

export function Clock({ className, withDate = false }: { className?: string | undefined; withDate?: boolean }) {
  const [now, setNow] = useState(() => new Date());
  useEffect(() => {
    const timer = setInterval(() => setNow(new Date()), 1_000);
    return () => clearInterval(timer);
  }, []);
  const time = new Intl.DateTimeFormat(currentLanguage(), { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const date = new Intl.DateTimeFormat(currentLanguage(), { weekday: "long", day: "numeric", month: "long" });
  return (
    <time className={className} dateTime={now.toISOString()}>
      {withDate ? date.format(now) : time.format(now)}
    </time>
  );
}
