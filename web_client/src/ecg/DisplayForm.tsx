/** How this display shows the ECG: layout, order, movement, scale, filter, rhythm lead, timing, calibration. */
import { Button, SegmentedControl } from "@mantine/core";
import { Ruler } from "lucide-react";
import { type ReactNode, useId } from "react";
import { useTranslation } from "react-i18next";
import styles from "./DisplayForm.module.css";
import { type EcgDisplay, FILTERS, GAINS, LAYOUTS, MODES, NOTCHES, ORDERS, SPEEDS, TIMINGS } from "./display";

export interface DisplayFormProps {
  readonly display: EcgDisplay;
  readonly leads: readonly string[];
  readonly onChange: (change: Partial<EcgDisplay>) => void;
  readonly onCalibrate: () => void;
}

export function DisplayForm({ display, leads, onChange, onCalibrate }: DisplayFormProps) {
  const { t } = useTranslation();
  return (
    <div className={styles.form} data-testid="ecg-display">
      <List
        label={t("ecg.display.layout")}
        values={LAYOUTS}
        value={display.layout}
        name={(layout) => t(`ecg.display.layouts.${layout}`)}
        onChange={(layout) => onChange({ layout })}
      />
      <List
        label={t("ecg.display.rhythm")}
        values={["", ...leads]}
        value={leads.includes(display.rhythm) ? display.rhythm : ""}
        name={(lead) => (lead === "" ? t("ecg.display.usualRhythm") : lead)}
        onChange={(rhythm) => onChange({ rhythm })}
      />
      <Choice
        label={t("ecg.display.order")}
        values={ORDERS}
        value={display.order}
        name={(order) => t(`ecg.display.orders.${order}`)}
        onChange={(order) => onChange({ order })}
      />
      <Choice
        label={t("ecg.display.mode")}
        values={MODES}
        value={display.mode}
        name={(mode) => t(`ecg.display.modes.${mode}`)}
        onChange={(mode) => onChange({ mode })}
      />
      <Choice
        label={`${t("ecg.display.speed")}, mm/s`}
        values={SPEEDS}
        value={display.speed}
        name={String}
        onChange={(speed) => onChange({ speed })}
      />
      <Choice
        label={`${t("ecg.display.gain")}, mm/mV`}
        values={GAINS}
        value={display.gain}
        name={String}
        onChange={(gain) => onChange({ gain })}
      />
      <List
        label={t("ecg.display.filter")}
        values={FILTERS}
        value={display.filter}
        name={(filter) => t(`ecg.display.filters.${filter}`)}
        onChange={(filter) => onChange({ filter })}
        hint={t("ecg.display.filterHint")}
      />
      <Choice
        label={t("ecg.display.notch")}
        values={NOTCHES}
        value={display.notch}
        name={(notch) => (notch === 0 ? t("ecg.display.noNotch") : `${notch} Hz`)}
        onChange={(notch) => onChange({ notch })}
      />
      <Choice
        label={t("ecg.display.timing")}
        values={TIMINGS}
        value={display.timing}
        name={(timing) => t(`ecg.display.timings.${timing}`)}
        onChange={(timing) => onChange({ timing })}
      />
      <div className={styles.foot}>
        <Button size="sm" variant="default" leftSection={<Ruler size={16} aria-hidden="true" />} onClick={onCalibrate}>
          {t("ecg.display.calibrate")}
        </Button>
        <span className={styles.hint}>{t("ecg.display.remembered")}</span>
      </div>
    </div>
  );
}

interface ChoiceProps<T extends string | number> {
  readonly label: string;
  readonly values: readonly T[];
  readonly value: T;
  readonly name: (value: T) => string;
  readonly onChange: (value: T) => void;
  readonly hint?: string;
}

export function Choice<T extends string | number>({ label, values, value, name, onChange }: ChoiceProps<T>) {
  const id = useId();
  return (
    <div className={styles.field}>
      <span className={styles.label} id={id}>
        {label}
      </span>
      <SegmentedControl
        size="xs"
        aria-labelledby={id}
        data={values.map((entry) => ({ value: String(entry), label: name(entry) }))}
        value={String(value)}
        onChange={(chosen) => onChange(values.find((entry) => String(entry) === chosen) ?? value)}
      />
    </div>
  );
}

/** The browser's own list: long names fit, and a phone shows its own wheel. */
export function List<T extends string>({ label, values, value, name, onChange, hint }: ChoiceProps<T>): ReactNode {
  const id = useId();
  return (
    <div className={styles.field}>
      <label className={styles.label} htmlFor={id}>
        {label}
      </label>
      <select
        id={id}
        className={styles.select}
        value={value}
        onChange={(event) => onChange(values.find((entry) => entry === event.currentTarget.value) ?? value)}
      >
        {values.map((entry) => (
          <option key={entry} value={entry}>
            {name(entry)}
          </option>
        ))}
      </select>
      {hint !== undefined && <span className={styles.hint}>{hint}</span>}
    </div>
  );
}
