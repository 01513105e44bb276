/** Something did not work, in words; loud when a patient could be harmed by not noticing. */
import { CloseButton } from "@mantine/core";
import { TriangleAlert } from "lucide-react";
import { useTranslation } from "react-i18next";
import styles from "./Banners.module.css";

export interface ErrorStripProps {
  text: string;
  testId: string;
  title?: string;
  /** Seen, not read out again and again: seconds. */
  counting?: string;
  tone?: "warn" | "danger";
  onDismiss?: () => void;
}

export function ErrorStrip({ text, testId, title, counting, tone = "warn", onDismiss }: ErrorStripProps) {
  const { t } = useTranslation();
  return (
    <div className={styles.strip} data-tone={tone} data-testid={testId} role={tone === "danger" ? "alert" : "status"}>
      <TriangleAlert className={styles.icon} aria-hidden="true" />
      {title !== undefined && <strong>{title}</strong>}
      <span>{text}</span>
      {counting !== undefined && <span aria-hidden="true">{counting}</span>}
      {onDismiss !== undefined && (
        <CloseButton variant="transparent" onClick={onDismiss} aria-label={t("desk.device.dismiss")} />
      )}
    </div>
  );
}
