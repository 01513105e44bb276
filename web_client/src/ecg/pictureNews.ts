/**
 * What the screen with the picture tells the screen with the trace (W43).
 *
 * A wall receives only what it shows, so the ECG's screen cannot know how old the picture on the next one is. Screens
 * that are windows of one browser tell each other; to one that stands alone nobody says anything, and it claims nothing.
 * Numbers only, of a stream's number; never a name (G8).
 */
import { useCallback, useEffect, useRef } from "react";
import type { MediaSession } from "../media/session";
import { ageMs } from "../media/videoAge";
import type { Consult } from "../protocol";
import { pictureBeside } from "./beside";
import type { KnownAge } from "./skew";

const CHANNEL = "consilium.picture-ages";
const EVERY_MS = 500;
/** What was said longer ago than this says nothing of now. */
export const HEARD_FOR_MS = 3_000;

export interface PictureNews extends KnownAge {
  readonly consult: string;
  readonly version: number;
  readonly stream: number;
}

/** How old the picture beside a stream's device is here; `null` while nobody there sends one, or its age is not known. */
export function pictureAge(consult: Consult, media: MediaSession, streamId: number, nowMs: number): KnownAge | null {
  const picture = pictureBeside(consult, streamId, media.store.getState().remote);
  const dated = media.ecg.pictures.age(picture?.producer ?? null, nowMs);
  if (dated !== null) return dated;
  // Where no map tells when the picture was taken, the time since its last frame is what it is at least.
  return picture?.frames === undefined ? null : { ms: ageMs(picture.frames, nowMs), isLeast: true };
}

/** For the screen with the picture. */
export function useTellPictureAges(consult: Consult, media: MediaSession): void {
  const latest = useRef(consult);
  latest.current = consult;
  useEffect(() => {
    if (typeof BroadcastChannel === "undefined") return;
    const channel = new BroadcastChannel(CHANNEL);
    const timer = setInterval(() => {
      for (const news of newsOf(latest.current, media, performance.now())) channel.postMessage(news);
    }, EVERY_MS);
    return () => {
      clearInterval(timer);
      channel.close();
    };
  }, [media]);
}

function newsOf(consult: Consult, media: MediaSession, nowMs: number): readonly PictureNews[] {
  return Object.values(consult.data_producers).flatMap(({ waveform }) => {
    const age = waveform === null ? null : pictureAge(consult, media, waveform.stream_id, nowMs);
    if (waveform === null || age === null) return [];
    const { ms, isLeast } = age;
    return [{ consult: consult.id, version: consult.context_version, stream: waveform.stream_id, ms, isLeast }];
  });
}

/** For the screen with the trace: what the one with the picture said last, while that is fresh. */
export function useHeardPictureAge(
  consult: string,
  version: number,
  streamId: number,
): (nowMs: number) => KnownAge | null {
  const heard = useRef<{ readonly age: KnownAge; readonly atMs: number } | null>(null);
  useEffect(() => {
    heard.current = null;
    if (typeof BroadcastChannel === "undefined") return;
    const channel = new BroadcastChannel(CHANNEL);
    channel.onmessage = ({ data }: MessageEvent<PictureNews>) => {
      if (data.consult !== consult || data.version !== version || data.stream !== streamId) return;
      heard.current = { age: { ms: data.ms, isLeast: data.isLeast }, atMs: performance.now() };
    };
    return () => channel.close();
  }, [consult, version, streamId]);
  return useCallback((nowMs) => {
    const last = heard.current;
    return last !== null && nowMs - last.atMs < HEARD_FOR_MS ? last.age : null;
  }, []);
}
