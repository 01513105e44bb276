import { useEffect } from "react";

/** Keep the panel lit while it shows something; browsers drop the lock whenever the page is hidden. */
export function useWakeLock(): void {
  useEffect(() => {
    const hold = (): void => {
      if (document.visibilityState !== "visible") return;
      // Refused on battery or by policy: the display's own power settings then decide.
      navigator.wakeLock?.request("screen").catch(() => undefined);
    };
    hold();
    document.addEventListener("visibilitychange", hold);
    return () => document.removeEventListener("visibilitychange", hold);
  }, []);
}
