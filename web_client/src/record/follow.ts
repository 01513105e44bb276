/**
 * Following the lead: fractions out, fractions in, and not too many of them.
 *
 * Screens differ in size, so positions travel as fractions: the scroll of the
 * scrollable range (both ends are reachable everywhere), the pointer of the
 * content's box. Anything that names another version or view is ignored.
 */
import type { RemotePointer, RemoteScroll, View } from "./types";

export const SCROLL_EVERY_MS = 100;
export const POINT_EVERY_MS = 50;
/** A pointer that says nothing for this long is gone: its goodbye may have been dropped. */
export const POINTER_SILENT_MS = 4_000;

export const sameView = (a: View, b: View): boolean => a.page === b.page && a.item === b.item;

/** Whether a signal is about exactly what this pane shows. */
export const isAbout = (signal: RemoteScroll | RemotePointer, version: number, view: View): boolean =>
  signal.context_version === version && sameView(signal.view, view);

export const clampFraction = (value: number): number => (Number.isFinite(value) ? Math.min(1, Math.max(0, value)) : 0);

interface Scrollable {
  scrollTop: number;
  readonly scrollHeight: number;
  readonly clientHeight: number;
}

export const scrollFraction = (box: Scrollable): number =>
  box.scrollHeight <= box.clientHeight ? 0 : clampFraction(box.scrollTop / (box.scrollHeight - box.clientHeight));

export const scrollTopFor = (box: Scrollable, fraction: number): number =>
  Math.round(clampFraction(fraction) * Math.max(0, box.scrollHeight - box.clientHeight));

export interface Throttled<A extends readonly unknown[]> {
  (...args: A): void;
  /** Drop what waits. */
  cancel(): void;
}

/** Call at once, then at most every `everyMs` with the newest arguments; the last call is never lost. */
export function throttle<A extends readonly unknown[]>(call: (...args: A) => void, everyMs: number): Throttled<A> {
  let waiting: A | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;
  const tick = (): void => {
    timer = null;
    if (waiting === null) return;
    const args = waiting;
    waiting = null;
    timer = setTimeout(tick, everyMs);
    call(...args);
  };
  const throttled = (...args: A): void => {
    if (timer !== null) {
      waiting = args;
      return;
    }
    timer = setTimeout(tick, everyMs);
    call(...args);
  };
  return Object.assign(throttled, {
    cancel: (): void => {
      if (timer !== null) clearTimeout(timer);
      timer = null;
      waiting = null;
    },
  });
}
