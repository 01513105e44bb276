/** Every mark on this ECG in words: for finding again, for keys and screen readers, for taking one's own away. */
import { ActionIcon } from "@mantine/core";
import { Trash2 } from "lucide-react";
import { useTranslation } from "react-i18next";
import type { EcgMark } from "../protocol";
import styles from "./MarksList.module.css";
import { textOf } from "./marks";
import { clockOf } from "./review";

export interface MarksListProps {
  readonly marks: readonly (EcgMark & { readonly name: string })[];
  readonly me: string;
  readonly onGo: (mark: EcgMark) => void;
  readonly onRemove: (id: string) => void;
}

export function MarksList({ marks, me, onGo, onRemove }: MarksListProps) {
  const { t, i18n } = useTranslation();
  if (marks.length === 0) return <p className={styles.none}>{t("ecg.mark.empty")}</p>;
  return (
    <ul className={styles.list} data-testid="ecg-marks">
      {marks.map((mark) => {
        const text = textOf(mark) || t(`ecg.mark.kinds.${mark.kind}`);
        return (
          <li key={mark.id}>
            <button type="button" className={styles.go} title={t("ecg.mark.go", { text })} onClick={() => onGo(mark)}>
              <strong>
                {mark.lead} {clockOf(mark.from_us, i18n.language)}
              </strong>
              <span>{text}</span>
              <span className={styles.by}>
                {t("ecg.mark.by", { name: mark.name, time: clockOf(mark.at_ms * 1000, i18n.language) })}
              </span>
            </button>
            {mark.by === me && (
              <ActionIcon variant="subtle" aria-label={t("ecg.mark.remove")} onClick={() => onRemove(mark.id)}>
                <Trash2 size={16} />
              </ActionIcon>
            )}
          </li>
        );
      })}
    </ul>
  );
}
