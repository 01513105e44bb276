/** Something did not work, in the words of whoever declined it. */
import { CloseButton } from "@mantine/core";
import { TriangleAlert } from "lucide-react";
import { useTranslation } from "react-i18next";
import { localized } from "../i18n";
import type { RefusalBody } from "../protocol";
import styles from "./Banners.module.css";

export type ErrorStripProps =
  | { refusal: RefusalBody; onDismiss: () => void }
  | { title: string; text: string; testId: string };

export function ErrorStrip(props: ErrorStripProps) {
  const { t } = useTranslation();
  if ("refusal" in props) {
    return (
      <div className={styles.strip} data-tone="warn" data-testid="refusal" role="alert">
        <TriangleAlert className={styles.icon} aria-hidden="true" />
        <strong>{t("desk.connection.refused")}</strong>
        <span>{localized(props.refusal)}</span>
        <CloseButton onClick={props.onDismiss} aria-label={t("desk.patient.cancel")} />
      </div>
    );
  }
  const isSafety = props.title !== "";
  return (
    <div
      className={styles.strip}
      data-tone={isSafety ? "danger" : "warn"}
      data-testid={props.testId}
      role={isSafety ? "alert" : "status"}
    >
      <TriangleAlert className={styles.icon} aria-hidden="true" />
      {isSafety && <strong>{props.title}</strong>}
      <span>{props.text}</span>
    </div>
  );
}
