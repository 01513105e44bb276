/** A last question before something that cannot be taken back; Cancel has the focus. */
import { Button, Modal } from "@mantine/core";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import styles from "./Admin.module.css";
import { Problem } from "./EnrolDialog";

export interface ConfirmDialogProps {
  title: string;
  /** What the button does, in its own words. */
  action: string;
  testId: string;
  isBusy: boolean;
  /** Why it did not work; null while it has not failed. */
  error: unknown;
  onConfirm: () => void;
  onClose: () => void;
  /** What will be so afterwards. */
  children: ReactNode;
}

export function ConfirmDialog(props: ConfirmDialogProps) {
  const { t } = useTranslation();
  return (
    <Modal
      opened
      onClose={props.onClose}
      centered
      title={props.title}
      closeButtonProps={{ "aria-label": t("common.close") }}
    >
      <div className={styles.form}>
        {props.error !== null && <Problem error={props.error} />}
        {props.children}
        <div className={styles.actions}>
          <Button variant="default" onClick={props.onClose} data-autofocus>
            {t("common.cancel")}
          </Button>
          <Button color="red" loading={props.isBusy} onClick={props.onConfirm} data-testid={props.testId}>
            {props.action}
          </Button>
        </div>
      </div>
    </Modal>
  );
}
