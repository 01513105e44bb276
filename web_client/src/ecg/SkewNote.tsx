/** (W43) Told while picture and trace are more than a second apart, in a row of its own over the trace. */
import { TriangleAlert } from "lucide-react";
import { useRef } from "react";
import { useTranslation } from "react-i18next";
import { useNow } from "../media/useNow";
import type { EcgStatus } from "../waveform/settings";
import { type KnownAge, type Skew, skewOf } from "./skew";

export interface SkewNoteProps {
  readonly className: string;
  readonly status: EcgStatus | null;
  /** Of the picture from where the trace comes, at a time of `performance.now()`. */
  readonly age: (nowMs: number) => KnownAge | null;
}

/** A difference about the limit must not move the trace up and down: its row stays for a while. */
const SKEW_HOLD_MS = 3_000;

export function SkewNote({ className, status, age }: SkewNoteProps) {
  const { t } = useTranslation();
  const nowMs = useNow();
  const last = useRef<{ readonly skew: Skew; readonly atMs: number } | null>(null);
  if (status === null || status.state === "LOST") return null;
  const present = skewOf(age(nowMs), status.ageMs);
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
