/**
 * On which signal a viewer is and where he stands in it.
 *
 * It outlives the view: a desk that is not in sync takes the view out of the page (W19), and afterwards the frozen page
 * is there again. A page that stands belongs to its signal, so it stays when the device returns under another number or
 * another source takes its place; the trace goes there only once it runs again, and says so. All of it ends with the
 * context (W24). `follow` is pure.
 */
import { useCallback, useMemo, useState } from "react";
import { openingOf } from "../desk/contextGate";
import { type ShownEcg, useEcg } from "../desk/ecgSources";
import type { Consult, EcgFreeze, WaveformStream } from "../protocol";
import { hear, RUNNING, type Shown, type Standing, shownOf } from "./standing";

/** The signal on screen is another one than before, without anybody's wish. */
export interface SignalChange {
  /** `returned`: of the same device, which counts anew; `other`: of another source. */
  readonly kind: "returned" | "other";
  readonly atMs: number;
}

export interface Place {
  /** `openingOf` the consult. */
  readonly opening: string;
  readonly stream: WaveformStream;
  /** The signal that was asked for when this place was taken. */
  readonly wanted: number | null;
  readonly standing: Standing;
  readonly change: SignalChange | null;
}

export interface PlaceNow {
  readonly opening: string;
  readonly stream: WaveformStream | null;
  readonly streams: readonly WaveformStream[];
  readonly wanted: number | null;
  /** For all. */
  readonly freeze: EcgFreeze | null;
  readonly nowMs: number;
}

const freezeOf = (freeze: EcgFreeze | null, { stream_id }: WaveformStream): EcgFreeze | null =>
  freeze?.stream_id === stream_id ? freeze : null;

/** Fold what there is now; the same object where nothing changes. */
export function follow(before: Place | null, now: PlaceNow): Place | null {
  const { opening, stream, streams, wanted, freeze, nowMs } = now;
  if (stream === null) return null;
  const kept = before?.opening === opening ? before : null;
  if (kept !== null) {
    const isSame = kept.stream.stream_id === stream.stream_id;
    const keptFreeze = freezeOf(freeze, kept.stream);
    const standing = hear(kept.standing, keptFreeze);
    const isAsked = wanted !== kept.wanted && wanted === stream.stream_id;
    const isStanding = shownOf(standing, keptFreeze).kind !== "live";
    if (isSame || (isStanding && !isAsked)) {
      const on = isSame ? stream : kept.stream;
      const isOld = kept.stream === on && kept.standing === standing && kept.wanted === wanted;
      return isOld ? kept : { ...kept, stream: on, standing, wanted };
    }
  }
  const standing = hear(RUNNING, freezeOf(freeze, stream));
  const isGone = kept !== null && !streams.some(({ stream_id }) => stream_id === kept.stream.stream_id);
  const kind = kept?.stream.device === stream.device ? "returned" : "other";
  return { opening, stream, wanted, standing, change: isGone ? { kind, atMs: nowMs } : null };
}

export interface EcgPage extends ShownEcg {
  readonly shown: Shown;
  /** The freeze for all of this signal, also while this viewer has left it. */
  readonly freeze: EcgFreeze | null;
  /** What there is now, while a page of the signal before it is looked at. */
  readonly newer: WaveformStream | null;
  readonly change: SignalChange | null;
  readonly setStanding: (change: (standing: Standing) => Standing) => void;
  readonly choose: (streamId: number) => void;
  readonly forgetChange: () => void;
}

/** Belongs where nothing takes it away while the consult is open: above what is hidden when not in sync. */
export function useEcgPage(consult: Consult): EcgPage {
  const { ecg_freeze: forAll } = consult;
  const opening = openingOf(consult);
  const [wanted, choose] = useWanted(forAll);
  const sources = useEcg(consult, wanted);
  const [known, setPlace] = useState<Place | null>(null);
  // Folded while rendering: a frame of the former page must not be painted under the new words.
  const { stream: latest, streams } = sources;
  const place = follow(known, { opening, stream: latest, streams, wanted, freeze: forAll, nowMs: Date.now() });
  if (place !== known) setPlace(place);
  const stream = place?.stream ?? null;
  const freeze = stream === null ? null : freezeOf(forAll, stream);
  const standing = place?.standing ?? RUNNING;
  const shown = useMemo(() => shownOf(standing, freeze), [standing, freeze]);
  const setStanding = useCallback((change: (standing: Standing) => Standing): void => {
    setPlace((before) => (before === null ? null : { ...before, standing: change(before.standing) }));
  }, []);
  const forgetChange = useCallback(() => setPlace((before) => before && { ...before, change: null }), []);
  const newer = latest !== null && latest.stream_id !== stream?.stream_id ? latest : null;
  return {
    ...sources,
    ...{ stream, shown, freeze, newer, setStanding, choose, forgetChange },
    change: place?.change ?? null,
  };
}

/** The stream that this viewer chose, or that of a freeze for all made since: it takes everybody along. */
function useWanted(freeze: EcgFreeze | null): [number | null, (streamId: number) => void] {
  const [wanted, setWanted] = useState<number | null>(freeze?.stream_id ?? null);
  const [seenMs, setSeen] = useState(freeze?.at_ms ?? null);
  if (freeze !== null && freeze.at_ms !== seenMs) {
    setSeen(freeze.at_ms);
    setWanted(freeze.stream_id);
  }
  return [wanted, setWanted];
}
