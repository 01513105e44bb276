/**
 * How old the picture of one video source is.
 *
 * A frozen picture looks exactly like a calm one, so each source's age is measured by the growth of `framesDecoded`
 * and shown by the table of ARCHITECTURE section 8: no frame for 2 s a dot, 3 s greyed with the seconds counting.
 * A source keeps its age over a new Consumer (after a reset of the media worker the old last frame is still on
 * screen), so marks belong to (participant, source), not to a Consumer.
 */

export interface FrameMark {
  readonly consumer: string;
  readonly frames: number;
  /** When a new frame was last seen; `null` before the first, and before the first after a pause. */
  readonly grewAtMs: number | null;
  /** Since when frames were due. */
  readonly dueSinceMs: number;
}

export type Freshness = "waiting" | "live" | "quiet" | "stopped";

export const QUIET_AFTER_MS = 2_000;
export const STOPPED_AFTER_MS = 3_000;

/** Fold one reading of a Consumer's `framesDecoded`. */
export function observeFrames(
  mark: FrameMark | undefined,
  reading: { consumer: string; frames: number },
  nowMs: number,
): FrameMark {
  const { consumer, frames } = reading;
  if (mark === undefined) return { consumer, frames, grewAtMs: frames > 0 ? nowMs : null, dueSinceMs: nowMs };
  const known = mark.consumer === consumer ? mark.frames : 0;
  return { ...mark, consumer, frames, grewAtMs: frames > known ? nowMs : mark.grewAtMs };
}

/** The source was resumed: its silence while paused is nobody's fault, and its last picture is no longer live. */
export function restartClock(mark: FrameMark, nowMs: number): FrameMark {
  return { ...mark, grewAtMs: null, dueSinceMs: nowMs };
}

/** Whether what is on screen was taken before the source was last switched off. */
export function isPictureOld(mark: FrameMark | undefined): boolean {
  return mark !== undefined && mark.grewAtMs === null && mark.frames > 0;
}

/** Milliseconds since the last new frame, or since one was due when none ever came. */
export function ageMs(mark: FrameMark | undefined, nowMs: number): number {
  return mark === undefined ? 0 : Math.max(0, nowMs - (mark.grewAtMs ?? mark.dueSinceMs));
}

/** What to show at this age; before the first frame there is nothing that could look live. */
export function freshness(mark: FrameMark | undefined, nowMs: number): Freshness {
  if (mark === undefined || (mark.grewAtMs === null && mark.frames === 0)) return "waiting";
  const age = ageMs(mark, nowMs);
  if (age >= STOPPED_AFTER_MS) return "stopped";
  if (mark.grewAtMs === null) return "waiting";
  return age >= QUIET_AFTER_MS ? "quiet" : "live";
}

/** `00:07`, `12:40`, `1:02:03`: whole seconds, never rounded up. */
export function clockText(ms: number): string {
  const total = Math.max(0, Math.floor(ms / 1_000));
  const [hours, minutes, seconds] = [Math.floor(total / 3_600), Math.floor(total / 60) % 60, total % 60];
  const tail = `${String(minutes).padStart(2, "0")}:${String(seconds).padStart(2, "0")}`;
  return hours > 0 ? `${hours}:${tail}` : tail;
}
