/** What this display is not for, in full (W15, W35, W36, W37, W38). */
import { Modal } from "@mantine/core";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import styles from "./VitalsPanel.module.css";

export function AlarmHelp({ children }: { children: ReactNode }) {
  const { t } = useTranslation();
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <button type="button" className={styles.help} data-testid="not-an-alarm" onClick={() => setOpen(true)}>
        {children}
      </button>
      <Modal
        opened={isOpen}
        onClose={() => setOpen(false)}
        title={t("ecg.alarms.title")}
        centered
        closeButtonProps={{ "aria-label": t("ecg.tools.close") }}
      >
        <AlarmWords />
      </Modal>
    </>
  );
}

export function AlarmWords() {
  const { t } = useTranslation();
  return (
    <div className={styles.words} data-testid="alarm-words">
      <p>
        <strong>{t("ecg.alarms.use")}</strong>
      </p>
      <p>{t("ecg.alarms.system")}</p>
      <p>{t("ecg.alarms.text")}</p>
      <p>{t("ecg.alarms.bedside")}</p>
      <p>{t("ecg.alarms.colours")}</p>
    </div>
  );
}
