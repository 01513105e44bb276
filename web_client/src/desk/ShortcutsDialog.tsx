/** The list of shortcuts and the switch that turns them off (WCAG 2.1.4). */
import { Modal, Switch } from "@mantine/core";
import { Fragment } from "react";
import { useTranslation } from "react-i18next";
import styles from "./Dialogs.module.css";
import { KEYS, type Shortcut } from "./shortcuts";

/** What the keys of a still ECG do while a tool is in hand. No shortcuts: they act where the focus is, always. */
const HAND_KEYS = [
  ["← →", "step"],
  ["⇧ ← →", "steps"],
  ["Enter", "set"],
  ["Tab", "other"],
  ["Esc", "back"],
] as const;

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
          {HAND_KEYS.map(([keys, does]) => (
            <Fragment key={does}>
              <dt>
                <kbd className={styles.key}>{keys}</kbd>
              </dt>
              <dd>{t(`ecg.caliper.byKeys.${does}`)}</dd>
            </Fragment>
          ))}
        </dl>
      </div>
    </Modal>
  );
}
