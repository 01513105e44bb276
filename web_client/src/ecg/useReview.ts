/** What is recorded of the patient on screen: the earlier ECG beside the trace, and the consult that is leafed through. */
import { useCallback, useMemo, useState } from "react";
import { ApiError } from "../common/http";
import { localized } from "../i18n";
import type { Consult, WaveformStream } from "../protocol";
import type { StillMap } from "../waveform/settings";
import type { ArchiveContext, RecordedStream } from "./api";
import { type Break, breaksOf, mergeBreaks } from "./history";
import { marksOf, textOf } from "./marks";
import { jumpTo, type OverviewEvent, type Recorded } from "./review";
import type { Shown } from "./standing";
import { pageSpan } from "./still";
import { useBeats, useBreaks, useFrameHistory, useRecordings } from "./useEcgWork";
import { useStateOf } from "./useStateOf";

export const USUAL_PAGE_US = 10_000_000;
/** What was sent this lately may not be stored yet. */
const SETTLING_US = 2_000_000;

export interface Prior {
  readonly streams: readonly RecordedStream[];
  readonly isLoading: boolean;
  readonly error: unknown;
  readonly retry: () => void;
  readonly shown: RecordedStream | null;
  readonly history: ReturnType<typeof useFrameHistory>;
  readonly isChoosing: boolean;
  readonly isImporting: boolean;
  readonly open: () => void;
  readonly startImport: () => void;
  readonly close: () => void;
  readonly show: (stream: RecordedStream | null) => void;
}

export function usePrior(context: ArchiveContext, patient: string, isReview: boolean, serverUs: () => number): Prior {
  const [dialog, setDialog] = useState<"choose" | "import" | null>(null);
  const [shown, setShown] = useState<RecordedStream | null>(null);
  const recordings = useRecordings(context, patient, isReview || dialog !== null);
  const history = useFrameHistory(context, shown?.id ?? "", serverUs);
  const show = useCallback((stream: RecordedStream | null) => {
    setShown(stream);
    setDialog(null);
  }, []);
  return {
    ...recordings,
    shown,
    history,
    isChoosing: dialog === "choose",
    isImporting: dialog === "import",
    open: () => setDialog("choose"),
    startImport: () => setDialog("import"),
    close: () => setDialog(null),
    show,
  };
}

export interface Review {
  readonly recorded: Recorded | null;
  readonly pageUs: number;
  readonly events: readonly OverviewEvent[];
  readonly beatsUs: readonly number[];
  readonly error: string | null;
  readonly frames: (fromUs: number, toUs: number) => Promise<readonly Uint8Array[]>;
  readonly edgeFor: (momentUs: number) => number;
}

/** What is recorded of the stream on screen, and what happened in it as far as it is known here. */
export function useReview(
  consult: Consult,
  stream: WaveformStream,
  context: ArchiveContext,
  streams: readonly RecordedStream[],
  shown: Shown,
  map: StillMap | null,
  serverUs: () => number,
): Review {
  const history = useFrameHistory(context, String(stream.stream_id), serverUs);
  const [error, setError] = useStateOf<string | null>(stream.stream_id, null);
  const [breaks, setBreaks] = useStateOf<readonly Break[]>(stream.stream_id, NO_BREAKS);
  const entry = streams.findLast((one) => one.stream.stream_id === stream.stream_id);
  const beatsUs = useBeats(context, shown.kind === "review" ? entry : undefined);
  const allBreaks = useBreaks(context, shown.kind === "review" ? entry : undefined);
  const frames = useCallback(
    async (fromUs: number, toUs: number): Promise<readonly Uint8Array[]> => {
      try {
        const found = await history.range(fromUs, toUs);
        setError(null);
        setBreaks((known) => mergeBreaks(known, breaksOf(found)).slice(-MAX_BREAKS));
        return found;
      } catch (problem) {
        // Nothing is drawn where nothing came; that it could not be fetched is said beside it.
        setError(problem instanceof ApiError ? localized(problem) : String(problem));
        return [];
      }
    },
    [history, setError, setBreaks],
  );
  const lastUs =
    entry === undefined ? 0 : entry.isLive ? Math.max(entry.lastUs, serverUs() - SETTLING_US) : entry.lastUs;
  const recorded = entry === undefined ? null : { firstUs: entry.firstUs, lastUs };
  const span = map === null ? null : pageSpan(map);
  const pageUs = span === null ? USUAL_PAGE_US : span.toUs - span.fromUs;
  // What was seen on the pages of this viewer is newer than the last look at the whole.
  const events = useMemo(
    () => eventsOf(consult, stream.stream_id, mergeBreaks(allBreaks, breaks)),
    [consult, stream.stream_id, allBreaks, breaks],
  );
  const edgeFor = (momentUs: number): number =>
    recorded === null ? Math.round(momentUs + pageUs / 2) : jumpTo(momentUs, recorded, pageUs);
  return { recorded, pageUs, events, beatsUs, error, frames, edgeFor };
}

const NO_BREAKS: readonly Break[] = [];
/** Many short gaps of a bad line are as good as their number; a page of a thousand helps nobody. */
const MAX_BREAKS = 500;

function eventsOf(consult: Consult, streamId: number, breaks: readonly Break[]): readonly OverviewEvent[] {
  const marks = marksOf(consult, streamId).map((mark) => ({
    kind: "mark" as const,
    fromUs: mark.from_us,
    toUs: mark.from_us,
    label: textOf(mark),
  }));
  const strips = Object.values(consult.ecg_snapshots)
    .filter(({ stream_id }) => stream_id === streamId)
    .map(({ from_us, to_us }) => ({ kind: "snapshot" as const, fromUs: from_us, toUs: to_us, label: "" }));
  return [...breaks.map((one) => ({ ...one, label: "" })), ...strips, ...marks];
}
