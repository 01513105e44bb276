/**
 * The numbers beside the trace: the computed heart rate, the monitor's vital signs, what it reported as alarms.
 *
 * Every number has its own time and goes blank when that has passed (W8, W12). No limits, no colours by limits (W38), no
 * sound, nothing to acknowledge (W35, W36).
 */
import { Popover } from "@mantine/core";
import { BellOff } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useNow } from "../media/useNow";
import { AlarmHelp } from "./AlarmHelp";
import { type HeartNews, heartText } from "./heart";
import { clockOf } from "./review";
import styles from "./VitalsPanel.module.css";
import { areAllSimulated, type ReportedAlarm, type VitalCell, type Vitals, vitalCells } from "./vitals";

export interface VitalsPanelProps {
  readonly heart: HeartNews | undefined;
  readonly vitals: Vitals;
  readonly serverUs: () => number;
  /** The trace is lost, and with it what was computed from it. */
  readonly isTraceLost: boolean;
  /** Nothing comes at all: vital signs are blank too. */
  readonly isPathLost: boolean;
  readonly isTraceSimulated: boolean;
  readonly size?: "column" | "row" | "wall";
}

export function VitalsPanel(props: VitalsPanelProps) {
  const { t } = useTranslation();
  const { heart, vitals, serverUs, isTraceLost, isPathLost, size = "column" } = props;
  const nowMs = useNow();
  const nowUs = serverUs();
  const rate = heartText(heart, nowUs, nowMs, isTraceLost);
  const cells = vitalCells(vitals, nowUs, nowMs, isPathLost);
  // (W9) One mark for all where everything is simulated, else one at each value that is.
  const isAll = props.isTraceSimulated && (areAllSimulated(cells) || cells.every(({ state }) => state === "absent"));
  return (
    <section className={styles.panel} data-size={size} data-testid="vitals" aria-label={t("ecg.vitals.label")}>
      {isAll && (
        <p className={styles.allSimulated}>
          <Simulated />
        </p>
      )}
      <dl className={styles.cells} tabIndex={0}>
        <div
          className={styles.cell}
          data-testid="heart-rate"
          data-state={rate.state}
          title={t("ecg.vitals.computedHint")}
        >
          <dt>
            {t("ecg.vitals.ecgHr")} <span className={styles.tag}>{t("ecg.vitals.computed")}</span>
          </dt>
          <dd>
            <span className={styles.value}>{rate.text}</span>
            <span className={styles.unit}>/min</span>
            {!isAll && props.isTraceSimulated && <Simulated />}
            {rate.state === "unsure" && <span className="visually-hidden">{t("ecg.vitals.unsure")}</span>}
          </dd>
        </div>
        {cells.map((cell) => (
          <Cell key={cell.code} cell={cell} isMarked={!isAll} />
        ))}
      </dl>
      <Alarms alarms={vitals.alarms} dropped={vitals.alarmsDropped} />
    </section>
  );
}

function Cell({ cell, isMarked }: { cell: VitalCell; isMarked: boolean }) {
  const { t, i18n } = useTranslation();
  const { code, state, text, unit, atUs, simulated } = cell;
  return (
    <div
      className={styles.cell}
      data-code={code}
      data-testid={`vital-${code}`}
      data-state={state}
      title={t(`ecg.vitals.names.${code}`)}
    >
      <dt>{t(`ecg.vitals.${code}`)}</dt>
      <dd>
        {state === "absent" ? (
          <span className={styles.absent}>{t("ecg.vitals.absent")}</span>
        ) : (
          <>
            <span className={styles.value}>{text}</span>
            {state === "doubtful" && (
              <span
                className={styles.doubt}
                role="img"
                title={t("ecg.vitals.doubtful")}
                aria-label={t("ecg.vitals.doubtful")}
              >
                ?
              </span>
            )}
            <span className={styles.unit}>{unit}</span>
            {state === "blank" && <span className="visually-hidden">{t("ecg.vitals.blank")}</span>}
            {atUs !== null && (state === "blank" || code === "NIBP" || code === "Temp") && (
              <span className={styles.at}>{t("ecg.vitals.at", { time: clockOf(atUs, i18n.language) })}</span>
            )}
            {isMarked && simulated && <Simulated />}
          </>
        )}
      </dd>
    </div>
  );
}

function Simulated() {
  const { t } = useTranslation();
  return <strong className={styles.simulated}>{t("ecg.vitals.simulated")}</strong>;
}

/** The newest in full, the others a press away; under them what this is not (W35). */
function Alarms({ alarms, dropped }: { alarms: readonly ReportedAlarm[]; dropped: number }) {
  const { t } = useTranslation();
  const [isOpen, setOpen] = useState(false);
  const [newest] = alarms;
  return (
    <div className={styles.alarms}>
      {newest !== undefined && (
        <Popover position="top-end" withinPortal width={360} opened={isOpen} onChange={setOpen}>
          <Popover.Target>
            <button
              type="button"
              className={styles.alarm}
              data-testid="reported-alarm"
              onClick={() => setOpen(!isOpen)}
            >
              <span className={styles.reported}>{t("ecg.alarms.reported")}</span>
              <AlarmLine alarm={newest} />
              {alarms.length > 1 && (
                <span className={styles.more}>{t("ecg.alarms.more", { count: alarms.length })}</span>
              )}
            </button>
          </Popover.Target>
          <Popover.Dropdown>
            <strong>{t("ecg.alarms.reported")}</strong>
            <ol className={styles.list}>
              {alarms.map((alarm) => (
                <li key={`${alarm.atUs} ${alarm.text}`}>
                  <AlarmLine alarm={alarm} />
                </li>
              ))}
            </ol>
            {dropped > 0 && <p className={styles.more}>{t("ecg.alarms.dropped", { count: dropped })}</p>}
          </Popover.Dropdown>
        </Popover>
      )}
      <AlarmHelp>
        <BellOff aria-hidden="true" /> {t("ecg.alarms.notAnAlarm")}
      </AlarmHelp>
    </div>
  );
}

function AlarmLine({ alarm }: { alarm: ReportedAlarm }) {
  const { t, i18n } = useTranslation();
  return <span>{t("ecg.alarms.at", { time: clockOf(alarm.atUs, i18n.language), text: alarm.text })}</span>;
}
