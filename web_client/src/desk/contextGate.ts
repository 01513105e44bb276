/**
 * Old patient out, new patient in, and only then the confirmation.
 *
 * When the context changes the gate closes in the very render that learns of it: whatever the owner shows behind an
 * open gate leaves the DOM. Once that emptiness has been painted the gate opens for the new version, and once the
 * new identity has been painted `confirm` is called (W19, W24). A view that is not fresh keeps its gate closed and
 * confirms nothing.
 */
import { useEffect, useState } from "react";

/** A hidden tab gets no animation frames; it has nothing painted either, so a short wait is as good. */
const HIDDEN_TAB_MS = 100;

/** Call back when what is rendered now has been painted. Returns a cancel function. */
export function afterPaint(callback: () => void): () => void {
  let isDone = false;
  const finish = (): void => {
    if (isDone) return;
    isDone = true;
    clearTimeout(timer);
    callback();
  };
  let frame = requestAnimationFrame(() => {
    frame = requestAnimationFrame(finish);
  });
  const timer = setTimeout(finish, HIDDEN_TAB_MS);
  return () => {
    isDone = true;
    cancelAnimationFrame(frame);
    clearTimeout(timer);
  };
}

/**
 * @param version the consult's context version, `null` before the first snapshot
 * @param isFresh whether the state of the consult is known to be present
 * @param canConfirm whether a patient is open and the server listens; each time it becomes true is confirmed
 * @returns whether content of `version` may be shown
 */
export function useContextGate(
  version: number | null,
  isFresh: boolean,
  canConfirm: boolean,
  confirm: (version: number) => void,
): boolean {
  const [cleared, setCleared] = useState<number | null>(null);
  const wanted = isFresh ? version : null;
  const isShown = wanted !== null && cleared === wanted;

  useEffect(() => {
    if (wanted === null) {
      setCleared(null);
      return;
    }
    return afterPaint(() => setCleared(wanted));
  }, [wanted]);

  useEffect(() => {
    if (!isShown || !canConfirm || wanted === null) return;
    return afterPaint(() => confirm(wanted));
  }, [isShown, canConfirm, wanted, confirm]);

  return isShown;
}
