/**
 * Strokes on their way to the others' screens while they are drawn. [SH7]
 *
 * One stroke at a time, whole, and never a second before the first was answered: a slow line gets fewer pictures of the
 * pen, not older ones. When nothing is new, earlier strokes are said again one after the other, for whoever missed one or
 * came later. What is kept is the note alone.
 */
import { useEffect, useRef, useSyncExternalStore } from "react";
import type { InkSource, ShareLink, Stroke } from "./sharing";

const EVERY_MS = 125;
/** Of the ticks in which nothing is new, every so many says an old stroke again. */
const AGAIN_TICKS = 6;

/** Strokes as the others have been told them, by length: a stroke only grows, or is taken back. */
interface Told {
  readonly lengths: readonly number[];
  readonly next: number;
  readonly idle: number;
}

export const NOTHING_TOLD: Told = { lengths: [], next: 0, idle: 0 };

/** Which stroke to say now, if any, and what will then have been told. */
export function nextInk(told: Told, strokes: readonly Stroke[]): { stroke: number | null; told: Told } {
  const lengths = strokes.map((stroke) => stroke.length);
  const changed = lengths.findIndex((length, index) => told.lengths[index] !== length);
  if (changed >= 0) {
    const known = told.lengths.slice(0, lengths.length);
    known[changed] = lengths[changed] ?? 0;
    return { stroke: changed, told: { ...told, lengths: known, idle: 0 } };
  }
  if (told.lengths.length > lengths.length) {
    return { stroke: Math.max(0, lengths.length - 1), told: { ...told, lengths, idle: 0 } };
  }
  if (lengths.length === 0 || told.idle + 1 < AGAIN_TICKS) {
    return { stroke: null, told: { ...told, idle: told.idle + 1 } };
  }
  const stroke = told.next % lengths.length;
  return { stroke, told: { lengths, next: stroke + 1, idle: 0 } };
}

/** Say what is drawn, for as long as the pen is on the page. */
export function useInkOut(link: ShareLink, version: number, freeze: string, strokes: readonly Stroke[]): void {
  const now = useRef({ tell: link.tell, strokes });
  now.current = { tell: link.tell, strokes };
  useEffect(() => {
    let told = NOTHING_TOLD;
    let isWaiting = false;
    const timer = setInterval(() => {
      if (isWaiting) return;
      const { tell, strokes } = now.current;
      const next = nextInk(told, strokes);
      if (next.stroke === null) {
        told = next.told;
        return;
      }
      isWaiting = true;
      const points = [...(strokes[next.stroke] ?? [])];
      tell({ type: "ink", freeze, context_version: version, stroke: next.stroke, of: strokes.length, points })
        .then(
          () => {
            told = next.told;
          },
          // Too busy, or not connected: the next tick says what is true then.
          () => undefined,
        )
        .finally(() => {
          isWaiting = false;
        });
    }, EVERY_MS);
    return () => clearInterval(timer);
  }, [version, freeze]);
}

const NOBODY: InkSource = { subscribe: () => () => undefined, get: () => null };

/** What another draws on the page of this freeze. */
export function useInk(source: InkSource | null, freeze: string): readonly Stroke[] {
  const { subscribe, get } = source ?? NOBODY;
  const ink = useSyncExternalStore(subscribe, get);
  return ink?.freeze === freeze ? Object.values(ink.strokes) : [];
}
