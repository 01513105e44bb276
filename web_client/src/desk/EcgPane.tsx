/** The ECG of the open patient on the desk with its paper speed and gain, or the reason why there is none. */
import { SegmentedControl, useComputedColorScheme } from "@mantine/core";
import { Activity, ShieldAlert } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { MediaSession } from "../media/session";
import type { Consult, WaveformStream } from "../protocol";
import { EcgView } from "../waveform/EcgView";
import type { EcgGain, EcgSpeed } from "../waveform/geometry";
import styles from "./EcgPane.module.css";
import { useEcg } from "./ecgSources";

export interface EcgPaneProps {
  consult: Consult;
  media: MediaSession;
  /** Whether anything of the present context may be shown. */
  isShown: boolean;
}

export function EcgPane({ consult, media, isShown }: EcgPaneProps) {
  const { t } = useTranslation();
  const { stream, isOtherPatient } = useEcg(consult);
  if (!isShown) return <Empty title={t("desk.sync.ecg")} hint={t("desk.sync.ecgHint")} isWarning />;
  if (consult.context === null) return <Empty title={t("desk.ecg.noPatient")} />;
  if (stream === null) {
    return isOtherPatient ? (
      <Empty title={t("desk.ecg.none")} hint={t("desk.ecg.otherPatient")} isWarning />
    ) : (
      <Empty title={t("desk.ecg.none")} hint={t("desk.ecg.noneHint")} />
    );
  }
  return <Strip media={media} stream={stream} version={consult.context_version} />;
}

const SPEEDS: readonly EcgSpeed[] = [12.5, 25, 50];
const GAINS: readonly EcgGain[] = [5, 10, 20];

function Strip({ media, stream, version }: { media: MediaSession; stream: WaveformStream; version: number }) {
  const { t, i18n } = useTranslation();
  const scheme = useComputedColorScheme("light");
  const [speed, setSpeed] = useState<EcgSpeed>(25);
  const [gain, setGain] = useState<EcgGain>(10);
  return (
    <div className={styles.strip}>
      <header className={styles.head}>
        <h2 className={styles.heading}>{t("desk.views.ecg")}</h2>
        <Choice label={t("desk.ecg.speed")} unit="mm/s" values={SPEEDS} value={speed} onChange={setSpeed} />
        <Choice label={t("desk.ecg.gain")} unit="mm/mV" values={GAINS} value={gain} onChange={setGain} />
      </header>
      <div className={styles.trace}>
        {/* Another version is another view: no buffer of the former patient survives the change (W24). */}
        <EcgView
          key={`${version} ${stream.stream_id}`}
          stream={stream}
          channel={media.ecg.channel(stream.stream_id)}
          contextVersion={version}
          theme={scheme}
          lang={i18n.language === "zh-CN" ? "zh" : "en"}
          speed={speed}
          gain={gain}
        />
      </div>
    </div>
  );
}

interface ChoiceProps<T extends number> {
  label: string;
  unit: string;
  values: readonly T[];
  value: T;
  onChange: (value: T) => void;
}

function Choice<T extends number>({ label, unit, values, value, onChange }: ChoiceProps<T>) {
  return (
    <span className={styles.choice}>
      <SegmentedControl
        size="xs"
        aria-label={label}
        data={values.map((entry) => ({ value: String(entry), label: String(entry) }))}
        value={String(value)}
        onChange={(chosen) => onChange(values.find((entry) => String(entry) === chosen) ?? value)}
      />
      <span className={styles.unit}>{unit}</span>
    </span>
  );
}

/** Says so under the same test id as a trace, with nothing drawn. */
function Empty({ title, hint, isWarning = false }: { title: string; hint?: string; isWarning?: boolean }) {
  const Icon = isWarning ? ShieldAlert : Activity;
  return (
    <div className={styles.empty} data-warning={isWarning} data-testid="ecg" data-state="NONE" data-samples-drawn="0">
      <Icon className={styles.icon} aria-hidden="true" />
      <p className={styles.title}>{title}</p>
      {hint !== undefined && <p className={styles.hint}>{hint}</p>}
    </div>
  );
}
