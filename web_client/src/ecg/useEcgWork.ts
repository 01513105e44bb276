/** The hooks that several parts of the ECG's tools share: server time, signals, what is recorded. */
import { useQuery } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useStore } from "zustand";
import { useHttp } from "../common/http";
import { worthRetrying } from "../common/queries";
import type { ConsultClient } from "../desk/consultClient";
import type { ConsultStore } from "../store/consultStore";
import type { EcgStatus } from "../waveform/settings";
import {
  type ArchiveContext,
  fetchBeats,
  fetchBreaks,
  fetchStreams,
  framesBetween,
  framesOf,
  type RecordedStream,
} from "./api";
import { foldHeart, type HeartNews } from "./heart";
import { type Break, FrameHistory } from "./history";
import type { ShownPointer } from "./StillLayer";

/** Server time in microseconds, as far as this page knows it. */
export function useServerUs(store: ConsultStore): () => number {
  return useCallback(() => Math.round((Date.now() + store.getState().serverOffsetMs) * 1000), [store]);
}

/** The computed heart rate of one stream with its beats; of this context only, since the store forgets the rest. */
export function useHeart(store: ConsultStore, streamId: number | null): HeartNews | undefined {
  const rate = useStore(store, ({ heartRates }) => (streamId === null ? undefined : heartRates[streamId]));
  const [news, setNews] = useState<{ readonly streamId: number; readonly heart: HeartNews } | null>(null);
  useEffect(() => {
    if (rate === undefined) {
      setNews(null);
      return;
    }
    setNews((before) => {
      const known = before?.streamId === rate.stream_id ? before.heart : undefined;
      return { streamId: rate.stream_id, heart: foldHeart(known, rate, performance.now()) };
    });
  }, [rate]);
  return news !== null && rate !== undefined && news.streamId === streamId ? news.heart : undefined;
}

/** Each look is put on record as somebody's access, so it is asked for seldom; a live end is known without asking. */
const STREAMS_POLL_MS = 60_000;

export interface Recordings {
  readonly streams: readonly RecordedStream[];
  readonly error: unknown;
  readonly isLoading: boolean;
  readonly retry: () => void;
}

/** Streams the archive has of the open patient; the context's version is part of the key (W24). */
export function useRecordings(context: ArchiveContext, patient: string, isWanted: boolean): Recordings {
  const http = useHttp();
  const { consultId, version } = context;
  const query = useQuery({
    queryKey: ["ecg", consultId, version, "streams"],
    queryFn: ({ signal }) => fetchStreams(http, { consultId, version }, signal),
    enabled: isWanted,
    refetchInterval: STREAMS_POLL_MS,
    retry: worthRetrying,
    gcTime: 0,
  });
  const streams = useMemo(
    () => (query.data ?? []).filter(({ stream }) => stream.patient === patient),
    [query.data, patient],
  );
  const { refetch } = query;
  const retry = useCallback(() => void refetch(), [refetch]);
  return { streams, error: query.error, isLoading: query.isPending && isWanted, retry };
}

/** The recorded frames of one stream; another stream, version or page begins with an empty cache. */
export function useFrameHistory({ consultId, version }: ArchiveContext, id: string, nowUs: () => number): FrameHistory {
  const http = useHttp();
  const kept = useRef<{ readonly key: string; readonly history: FrameHistory } | null>(null);
  const key = `${consultId} ${version} ${id}`;
  if (kept.current?.key !== key) {
    kept.current = { key, history: new FrameHistory(framesOf(http, { consultId, version }, id), nowUs) };
  }
  return kept.current.history;
}

/** Asks the store for what the live trace lacks (W4); the trace paces itself. */
export function useRepair(
  { consultId, version }: ArchiveContext,
  streamId: number,
): (first: number, last: number) => Promise<readonly Uint8Array[]> {
  const http = useHttp();
  return useCallback(
    (first, last) => framesBetween(http, { consultId, version }, String(streamId), { first, last }),
    [http, consultId, version, streamId],
  );
}

/** Computed beats of the whole recording, for the overview; computed anew each time it is opened. */
export function useBeats(
  { consultId, version }: ArchiveContext,
  recorded: RecordedStream | undefined,
): readonly number[] {
  const http = useHttp();
  const query = useQuery({
    queryKey: ["ecg", consultId, version, "beats", recorded?.id],
    queryFn: ({ signal }) => {
      if (recorded === undefined) return [];
      const span = { fromUs: recorded.firstUs, toUs: recorded.lastUs };
      return fetchBeats(http, { consultId, version }, recorded.id, span, signal);
    },
    enabled: recorded !== undefined,
    staleTime: STREAMS_POLL_MS,
    retry: worthRetrying,
    gcTime: 0,
  });
  return query.data ?? [];
}

/** Where the recording is broken, for the overview of all of it. */
export function useBreaks(
  { consultId, version }: ArchiveContext,
  recorded: RecordedStream | undefined,
): readonly Break[] {
  const http = useHttp();
  const id = recorded?.id ?? "";
  const query = useQuery({
    queryKey: ["ecg", consultId, version, "breaks", id],
    queryFn: ({ signal }) => fetchBreaks(http, { consultId, version }, id, signal),
    enabled: recorded !== undefined,
    refetchInterval: STREAMS_POLL_MS,
    retry: worthRetrying,
    gcTime: 0,
  });
  return query.data ?? NO_BREAKS;
}

const NO_BREAKS: readonly Break[] = [];

/** Who else points at this trace; everyone where `me` is nobody. */
export function usePointers(
  store: ConsultStore,
  streamId: number,
  me: string,
  nameOf: (id: string) => string,
): readonly ShownPointer[] {
  const pointers = useStore(store, ({ ecgPointers }) => ecgPointers);
  return useMemo(
    () =>
      Object.values(pointers)
        .filter(({ by, stream_id }) => by !== me && stream_id === streamId)
        .map(({ by, lead, at_us, uv }) => ({ by, name: nameOf(by), point: { lead, atUs: at_us, uv } })),
    [pointers, streamId, me, nameOf],
  );
}

/** A state that lasts this long is worth the consult's protocol; flicker is not. */
const REPORT_AFTER_MS = 1_000;

/** (W17) How this viewer's trace is goes into the consult's protocol whenever it changes. */
export function useReportState(
  client: ConsultClient,
  { streamId, version }: { streamId: number; version: number },
  status: EcgStatus | null,
): void {
  const state = status?.state ?? null;
  const age = useRef<number | null>(null);
  age.current = status?.ageMs ?? null;
  useEffect(() => {
    if (state === null) return;
    const timer = setTimeout(() => {
      const ageNow = age.current === null ? null : Math.max(0, Math.round(age.current));
      client.socket
        .command({ type: "report_ecg_state", stream_id: streamId, context_version: version, state, age_ms: ageNow })
        // The next change says it again; the trace itself shows its state whatever happens here.
        .catch(() => undefined);
    }, REPORT_AFTER_MS);
    return () => clearTimeout(timer);
  }, [client, streamId, version, state]);
}
