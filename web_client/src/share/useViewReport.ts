/**
 * Say what this page shows of the record, and when it shows nothing any more. [VW1] (G5, C21)
 *
 * Only what a person can see counts: a hidden tab shows nothing. Turning pages quickly is told a few times a second at
 * most; what the server was too busy for, or did not hear, is told again as it then is.
 */
import { useEffect, useRef, useSyncExternalStore } from "react";
import type { View } from "../protocol";
import type { ShareLink } from "./sharing";

const SETTLED_MS = 300;
const AGAIN_MS = 2_000;

function useIsVisible(): boolean {
  return useSyncExternalStore(
    (onChange) => {
      document.addEventListener("visibilitychange", onChange);
      return () => document.removeEventListener("visibilitychange", onChange);
    },
    () => document.visibilityState === "visible",
  );
}

export function useViewReport(link: ShareLink | null, version: number, view: View): void {
  const isVisible = useIsVisible();
  const tell = useRef(link?.tell);
  tell.current = link?.tell;
  const isConnected = link?.isConnected ?? false;
  const { page, item } = view;
  useEffect(() => {
    if (!isConnected) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const say = async (): Promise<void> => {
      try {
        await tell.current?.({
          type: "show_view",
          context_version: version,
          view: isVisible ? { page, item } : null,
        });
      } catch {
        // Declined or unanswered: if this effect still stands it is still true, and is said again.
        if (timer !== undefined) timer = setTimeout(() => void say(), AGAIN_MS);
      }
    };
    timer = setTimeout(() => void say(), SETTLED_MS);
    return () => {
      clearTimeout(timer);
      timer = undefined;
    };
  }, [isConnected, isVisible, version, page, item]);
  useEffect(
    () => () => {
      // The pane goes: out of sync, another patient, or the page closes.
      tell.current?.({ type: "show_view", context_version: version, view: null }).catch(() => undefined);
    },
    [version],
  );
}
