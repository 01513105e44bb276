import { useEffect, useState } from "react";

/** The page's monotonic clock in ms, ticking; what counts seconds on screen reads this. */
export function useNow(everyMs = 500): number {
  const [nowMs, setNow] = useState(() => performance.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return nowMs;
}
