/** (W43) Told while picture and trace are more than a second apart, in a row of its own over the trace. */
import { TriangleAlert } from "lucide-react";
import { useRef } from "react";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import type { MediaSession } from "../media/session";
import { useNow } from "../media/useNow";
import { ageMs } from "../media/videoAge";
import type { Consult } from "../protocol";
import type { EcgStatus } from "../waveform/settings";
import { pictureBeside } from "./beside";
import { type Skew, skewOf } from "./skew";

export interface SkewNoteProps {
  readonly className: string;
  readonly consult: Consult;
  readonly media: MediaSession;
  readonly streamId: number;
  readonly status: EcgStatus | null;
}

/** A difference about the limit must not move the trace up and down: its row stays for a while. */
const SKEW_HOLD_MS = 3_000;

export function SkewNote({ className, consult, media, streamId, status }: SkewNoteProps) {
  const { t } = useTranslation();
  const remote = useStore(media.store, (state) => state.remote);
  const nowMs = useNow();
  const last = useRef<{ readonly skew: Skew; readonly atMs: number } | null>(null);
  if (status === null || status.state === "LOST") return null;
  const picture = pictureBeside(consult, streamId, remote);
  // Where no map tells when the picture was taken, the time since its last frame is what it is at least.
  const silent = picture?.frames === undefined ? null : { ms: ageMs(picture.frames, nowMs), isLeast: true };
  const present = skewOf(media.ecg.pictures.age(picture?.producer ?? null, nowMs) ?? silent, status.ageMs);
  if (present !== null) last.current = { skew: present, atMs: nowMs };
  const held = last.current !== null && nowMs - last.current.atMs < SKEW_HOLD_MS ? last.current.skew : null;
  const skew = present ?? held;
  if (skew === null) return null;
  const told = skew.isLeast ? "skewVideoLeast" : skew.ms > 0 ? "skewVideo" : "skewEcg";
  const seconds = (Math.abs(skew.ms) / 1000).toFixed(1);
  return (
    <p className={className} data-testid="ecg-skew">
      <TriangleAlert aria-hidden="true" />
      <span aria-hidden="true">{t(`ecg.state.${told}`, { seconds })}</span>
      {/* Said once, not again with each tenth of a second. */}
      <span className="visually-hidden" role="status">
        {t(`ecg.state.${told}Spoken`)}
      </span>
    </p>
  );
}
