/** A tile's small sign of how good its picture is; in words for whoever hovers, listens, or has room to read. */
import { useTranslation } from "react-i18next";
import styles from "./QualitySign.module.css";
import { BARS, type Quality } from "./quality";
import type { Line } from "./session";

export function QualitySign({ quality, line }: { quality: Quality; line: Line }) {
  const { t } = useTranslation();
  const { kind, step, of, bars } = quality;
  const what = t(`desk.quality.${kind}`, { step, of });
  const how = lineText(t, line);
  return (
    <span className={styles.quality} data-testid="quality" data-kind={kind} data-via={line.via ?? ""}>
      {(kind === "small_line" || kind === "few_line" || kind === "small_source") && (
        <span className={styles.words} aria-hidden="true">
          {t(`desk.quality.${kind}_short`)}
        </span>
      )}
      <span className={styles.bars} role="img" aria-label={what} title={how === "" ? what : `${what}\n${how}`}>
        {Array.from({ length: BARS }, (_, index) => (
          <span key={String(index)} className={styles.bar} data-on={index < bars} />
        ))}
      </span>
    </span>
  );
}

type Translate = ReturnType<typeof useTranslation>["t"];

/** `Your line: TCP · 1.2 Mbit/s · 45 ms · 3 % lost`, as far as it is known. */
export function lineText(t: Translate, { via, estimateBps, roundTripMs, lost }: Line): string {
  const parts = [
    via === null ? null : t(`desk.quality.via.${via}`),
    estimateBps === null ? null : `${(estimateBps / 1_000_000).toFixed(1)} Mbit/s`,
    roundTripMs === null ? null : `${Math.round(roundTripMs)} ms`,
    lost === null || lost < 0.005 ? null : t("desk.quality.lost", { percent: Math.round(lost * 100) }),
  ].filter((part) => part !== null);
  return parts.length === 0 ? "" : t("desk.quality.line", { text: parts.join(" · ") });
}
