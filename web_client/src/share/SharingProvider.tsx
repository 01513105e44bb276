/** Holds together what is marked on the shown page: mode, strokes under the pen, the note that is opened. */
import { type ReactNode, useEffect, useMemo, useState } from "react";
import type { View } from "../protocol";
import type { RecordContext } from "../record/recordData";
import { type Note, useNotes } from "./notes";
import { freezeOf, type Mode, type Sharing, SharingValue, type Stroke, useShareLink } from "./sharing";
import { useViewReport } from "./useViewReport";

interface SharingProviderProps {
  context: RecordContext;
  view: View;
  shared: boolean;
  children: ReactNode;
}

export function SharingProvider({ context, view, shared, children }: SharingProviderProps) {
  const link = useShareLink();
  const { version } = context;
  const [mode, setMode] = useState<Mode>("none");
  const [strokes, setStrokes] = useState<readonly Stroke[]>([]);
  const [opened, setOpened] = useState<Note | null>(null);
  const [isFitting, setFitting] = useState(false);
  const [width, setWidth] = useState<number | null>(null);
  const notes = useNotes(context, link?.notesSeen ?? 0, link !== null);
  useViewReport(link, version, view);

  const place = `${version} ${view.page} ${view.item} ${shared}`;
  useEffect(() => {
    // Another page: nothing of this one may be carried over to it. [SH2]
    void place;
    setMode("none");
    setWidth(null);
    setStrokes([]);
    setOpened(null);
  }, [place]);

  const freeze = link !== null && shared ? freezeOf(link.consult, version, view) : null;
  const hasFreeze = freeze !== null;
  useEffect(() => {
    setWidth(null);
    if (hasFreeze) return;
    setStrokes([]);
    setMode((mode) => (mode === "draw" ? "none" : mode));
  }, [hasFreeze]);

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
  }, [width, link, version, view, shared, mode, strokes, opened, notes, isFitting, made]);
  return <SharingValue.Provider value={value}>{children}</SharingValue.Provider>;
}
