/** The hooks that several parts of the ECG's tools share: server time, signals, what is recorded. */
import { useQuery } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useStore } from "zustand";
import { useHttp } from "../common/http";
import { worthRetrying } from "../common/queries";
import type { ConsultStore } from "../store/consultStore";
import { fetchBeats, fetchStreams, framesOf, type RecordedStream } from "./api";
import { foldHeart, type HeartNews } from "./heart";
import { FrameHistory } from "./history";

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

const STREAMS_POLL_MS = 5_000;

export interface Recordings {
  readonly streams: readonly RecordedStream[];
  readonly error: unknown;
  readonly isLoading: boolean;
  readonly retry: () => void;
}

/** Streams the archive has of the open patient; the context's version is part of the key (W24). */
export function useRecordings(consultId: string, version: number, patient: string, isWanted: boolean): Recordings {
  const http = useHttp();
  const query = useQuery({
    queryKey: ["ecg", consultId, version, "streams"],
    queryFn: ({ signal }) => fetchStreams(http, consultId, signal),
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
export function useFrameHistory(
  consultId: string,
  version: number,
  streamId: number,
  nowUs: () => number,
): FrameHistory {
  const http = useHttp();
  const kept = useRef<{ readonly key: string; readonly history: FrameHistory } | null>(null);
  const key = `${consultId} ${version} ${streamId}`;
  if (kept.current?.key !== key) {
    kept.current = { key, history: new FrameHistory(framesOf(http, consultId, streamId), nowUs) };
  }
  return kept.current.history;
}

/** Asked for again this often while the consult goes on. */
const BEATS_POLL_MS = 20_000;

/** Computed beats of the whole recording, for the overview. */
export function useBeats(consultId: string, version: number, recorded: RecordedStream | undefined): readonly number[] {
  const http = useHttp();
  const query = useQuery({
    queryKey: ["ecg", consultId, version, "beats", recorded?.stream.stream_id],
    queryFn: ({ signal }) =>
      recorded === undefined
        ? Promise.resolve([])
        : fetchBeats(http, consultId, recorded.stream.stream_id, recorded.firstUs, recorded.lastUs, signal),
    enabled: recorded !== undefined,
    refetchInterval: BEATS_POLL_MS,
    retry: worthRetrying,
    gcTime: 0,
  });
  return query.data ?? [];
}
