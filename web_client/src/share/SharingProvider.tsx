/** Holds together what is marked on the shown page: mode, strokes under the pen, the note that is opened. */
import { type ReactNode, useCallback, useEffect, useMemo, useState } from "react";
import type { View } from "../protocol";
import type { RecordContext } from "../record/recordData";
import { type Note, useNotes } from "./notes";
import { freezeOf, type Mode, type Sharing, SharingValue, type Stroke, useShareLink } from "./sharing";
import { useViewReport } from "./useViewReport";

interface SharingProviderProps {
  context: RecordContext;
  version: number;
  view: View;
  shared: boolean;
  children: ReactNode;
}

/** What belongs to one page of one context; on any other it is not there, from the very first commit on. [SH2] (W24) */
interface Marking {
  readonly place: string;
  readonly mode: Mode;
  readonly width: number | null;
  readonly strokes: readonly Stroke[];
  readonly opened: Note | null;
}

const nothingAt = (place: string): Marking => ({ place, mode: "none", width: null, strokes: [], opened: null });

export function SharingProvider({ context, version, view, shared, children }: SharingProviderProps) {
  const link = useShareLink();
  const place = `${version} ${view.page} ${view.item} ${shared}`;
  const { mode, width, strokes, opened, change } = useMarking(place);
  const [isFitting, setFitting] = useState(false);
  const notes = useNotes(context, link?.notesSeen ?? 0, link !== null);
  useViewReport(link, version, view);

  const setMode = useCallback((mode: Mode) => change(() => ({ mode })), [change]);
  const setWidth = useCallback((width: number | null) => change(() => ({ width })), [change]);
  const setOpened = useCallback((opened: Note | null) => change(() => ({ opened })), [change]);
  const setStrokes = useCallback(
    (next: (strokes: readonly Stroke[]) => readonly Stroke[]) =>
      change((before) => ({ strokes: next(before.strokes) })),
    [change],
  );

  const freeze = link !== null && shared ? freezeOf(link.consult, version, view) : null;
  const hasFreeze = freeze !== null;
  useEffect(() => {
    change(({ mode }) =>
      hasFreeze ? { width: null } : { width: null, strokes: [], mode: mode === "draw" ? "none" : mode },
    );
  }, [hasFreeze, change]);

  const made = opened?.shape ?? freeze?.shape ?? null;
  const value = useMemo((): Sharing | null => {
    if (link === null) return null;
    return {
      link,
      version,
      view,
      shared,
      mode,
      setMode,
      setWidth,
      strokes,
      setStrokes,
      opened,
      setOpened,
      notes: notes.filter((note) => note.page === view.page && note.item === view.item),
      isFitting,
      setFitting,
      sheet: made !== null ? { width: made.width, made } : width !== null ? { width, made: null } : null,
    };
  }, [
    width,
    link,
    version,
    view,
    shared,
    mode,
    strokes,
    opened,
    notes,
    isFitting,
    made,
    setMode,
    setWidth,
    setStrokes,
    setOpened,
  ]);
  return <SharingValue.Provider value={value}>{children}</SharingValue.Provider>;
}

/** The marking of this place; a change that was begun elsewhere changes nothing here. */
function useMarking(place: string) {
  const [kept, setKept] = useState(() => nothingAt(place));
  const change = useCallback(
    (part: (before: Marking) => Partial<Marking>): void =>
      setKept((before) => {
        const here = before.place === place ? before : nothingAt(place);
        return { ...here, ...part(here) };
      }),
    [place],
  );
  return { ...(kept.place === place ? kept : nothingAt(place)), change };
}
