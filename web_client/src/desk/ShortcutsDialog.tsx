/** The list of shortcuts and the switch that turns them off (WCAG 2.1.4). */
import { Modal, Switch } from "@mantine/core";
import { Fragment } from "react";
import { useTranslation } from "react-i18next";
import styles from "./Dialogs.module.css";
import { KEYS, type Shortcut } from "./shortcuts";

export interface ShortcutsDialogProps {
  opened: boolean;
  isOn: boolean;
  onSwitch: (on: boolean) => void;
  onClose: () => void;
}

export function ShortcutsDialog({ opened, isOn, onSwitch, onClose }: ShortcutsDialogProps) {
  const { t } = useTranslation();
  return (
    <Modal
      closeButtonProps={{ "aria-label": t("desk.device.dismiss") }}
      opened={opened}
      onClose={onClose}
      title={t("desk.keys.title")}
      centered
    >
      <div className={styles.form}>
        <Switch
          label={t("desk.keys.enabled")}
          description={t("desk.keys.enabledHint")}
          checked={isOn}
          onChange={(event) => onSwitch(event.currentTarget.checked)}
        />
        <dl className={styles.keys}>
          {(Object.keys(KEYS) as Shortcut[]).map((name) => (
            <Fragment key={name}>
              <dt>
                <kbd className={styles.key}>{KEYS[name].toUpperCase()}</kbd>
              </dt>
              <dd>{t(`desk.keys.${name}`)}</dd>
            </Fragment>
          ))}
        </dl>
      </div>
    </Modal>
  );
}
