/**
 * Old patient out, new patient in, and only then the confirmation.
 *
 * When another patient is opened the gate closes in the very render that learns of it: whatever the owner shows behind
 * an open gate leaves the DOM. Once that emptiness has been painted the gate opens for the new patient, and once the
 * new identity has been painted `confirm` is called (W19, W24). A view that is not fresh keeps its gate closed and
 * confirms nothing. The same patient under another version, because a report was opened beside, stays in sight: nothing
 * of anybody else could be, and the new version is confirmed once it has been painted ([AN2]).
 */
import { useEffect, useState } from "react";
import type { Consult } from "../protocol";

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
 * Names one opening of one patient: the same from opening to closing, never the same again, whatever else is opened
 * beside the patient meanwhile. With nobody open each version is its own.
 */
export function openingOf({ context, context_version }: Pick<Consult, "context" | "context_version">): string {
  return context === null ? `nobody ${context_version}` : `${context.patient.id} ${context.opened_at_ms}`;
}

/**
 * @param opening what may stay in sight together, `openingOf` the consult; `null` before the first snapshot
 * @param version the consult's context version, which is confirmed
 * @param isFresh whether the state of the consult is known to be present
 * @param canConfirm whether a patient is open and the server listens; each time it becomes true is confirmed
 * @returns whether content of `opening` may be shown
 */
export function useContextGate(
  opening: string | null,
  version: number,
  isFresh: boolean,
  canConfirm: boolean,
  confirm: (version: number) => void,
): boolean {
  const [cleared, setCleared] = useState<string | null>(null);
  const wanted = isFresh ? opening : null;
  const isShown = wanted !== null && cleared === wanted;

  useEffect(() => {
    if (wanted === null) {
      setCleared(null);
      return;
    }
    return afterPaint(() => setCleared(wanted));
  }, [wanted]);

  useEffect(() => {
    if (!isShown || !canConfirm) return;
    return afterPaint(() => confirm(version));
  }, [isShown, canConfirm, version, confirm]);

  return isShown;
}
