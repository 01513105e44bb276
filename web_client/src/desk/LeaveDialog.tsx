/** Leaving is asked for once: a slip must not drop a doctor out of a consult. Ending for all is asked twice. */
import { Button, Modal } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import styles from "./Dialogs.module.css";

export interface LeaveDialogProps {
  opened: boolean;
  /** Only those who may end the consult are offered it. */
  canEnd: boolean;
  onClose: () => void;
  onLeave: () => void;
  onEnd: () => void;
}

export function LeaveDialog({ opened, canEnd, onClose, onLeave, onEnd }: LeaveDialogProps) {
  const { t } = useTranslation();
  const [isEnding, setEnding] = useState(false);
  const close = (): void => {
    setEnding(false);
    onClose();
  };
  return (
    <Modal
      closeButtonProps={{ "aria-label": t("desk.device.dismiss") }}
      opened={opened}
      onClose={close}
      title={t(isEnding ? "desk.leave.endTitle" : "desk.leave.title")}
      centered
    >
      <div className={styles.form}>
        <p className={styles.intro}>{t(isEnding ? "desk.leave.endText" : "desk.leave.text")}</p>
        <div className={styles.actions}>
          {canEnd && !isEnding && (
            <Button variant="subtle" color="red" onClick={() => setEnding(true)} data-testid="leave-end">
              {t("desk.leave.endAll")}
            </Button>
          )}
          <Button variant="default" onClick={close} data-autofocus>
            {t("desk.leave.stay")}
          </Button>
          <Button color="red" onClick={isEnding ? onEnd : onLeave} data-testid="leave-confirm">
            {t(isEnding ? "desk.leave.endAll" : "desk.leave.leave")}
          </Button>
        </div>
      </div>
    </Modal>
  );
}
