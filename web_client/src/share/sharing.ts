/** What the parts of the record pane that mark a page together know of each other and of the consult. */
import { createContext, useContext } from "react";
import type { AnyCommand, Consult, PageShape, View } from "../protocol";
import { sameView } from "../record/follow";
import type { ConsultStore, Inking } from "../store/consultStore";
import type { Note } from "./notes";

export interface InkSource {
  readonly subscribe: (onChange: () => void) => () => void;
  readonly get: () => Inking | null;
}

/** Given by whoever shows a record pane of a running consult; absent elsewhere, and then nothing is marked. */
export interface ShareLink {
  readonly consult: Consult;
  readonly me: string;
  /** False on a wall. */
  readonly canMark: boolean;
  /** The socket stands. */
  readonly isConnected: boolean;
  /** Counts notes that were put or marked, so that the list is asked for again. */
  readonly notesSeen: number;
  /** What another draws now; told apart from the rest, since it changes many times a second. [SH7] */
  readonly ink: InkSource | null;
  /** Resolves whether the server did it; what it declined is shown to the person. */
  readonly ask: (command: AnyCommand) => Promise<boolean>;
  /** Rejects when it was declined or not answered; nobody is told. */
  readonly tell: (command: AnyCommand) => Promise<unknown>;
}

export const ShareLinkValue = createContext<ShareLink | null>(null);
export const useShareLink = (): ShareLink | null => useContext(ShareLinkValue);

export const inkOf = (store: ConsultStore): InkSource => ({
  subscribe: store.subscribe,
  get: () => store.getState().ink,
});

export type Stroke = readonly number[];
export type Mode = "none" | "highlight" | "draw";

export interface Sharing {
  readonly link: ShareLink;
  readonly version: number;
  readonly view: View;
  /** This pane shows the page that all look at. */
  readonly shared: boolean;
  readonly mode: Mode;
  readonly setMode: (mode: Mode) => void;
  /** Lay the page out as a sheet of this width, to freeze it like that; null: freely. */
  readonly setWidth: (width: number | null) => void;
  readonly strokes: readonly Stroke[];
  readonly setStrokes: (change: (strokes: readonly Stroke[]) => readonly Stroke[]) => void;
  readonly opened: Note | null;
  readonly setOpened: (note: Note | null) => void;
  readonly notes: readonly Note[];
  /** Whether the mark that set the sheet may be painted over the page. */
  readonly isFitting: boolean;
  readonly setFitting: (isFitting: boolean) => void;
  /** Laid out like this instead of freely; null: freely. */
  readonly sheet: { readonly width: number; readonly made: PageShape | null } | null;
}

export const SharingValue = createContext<Sharing | null>(null);
export const useSharing = (): Sharing | null => useContext(SharingValue);

/** The freeze of this very page in this very context, if there is one. */
export function freezeOf(consult: Consult, version: number, view: View) {
  const freeze = consult.page_freeze;
  return freeze !== null && freeze.context_version === version && sameView(freeze.view, view) ? freeze : null;
}

export const nameOf = (consult: Consult, participant: string): string =>
  consult.participants[participant]?.name ?? participant;
