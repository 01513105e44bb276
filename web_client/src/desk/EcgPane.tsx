/** The ECG of the open patient on the desk, or the reason why there is none. */
import { Activity, ShieldAlert } from "lucide-react";
import { useTranslation } from "react-i18next";
import type { MediaSession } from "../media/session";
import type { Consult } from "../protocol";
import { EcgView } from "../waveform/EcgView";
import styles from "./EcgPane.module.css";
import { chooseEcg } from "./ecgSources";

export interface EcgPaneProps {
  consult: Consult;
  media: MediaSession;
  /** Whether anything of the present context may be shown. */
  isShown: boolean;
}

export function EcgPane({ consult, media, isShown }: EcgPaneProps) {
  const { t } = useTranslation();
  const { stream, isOtherPatient } = chooseEcg(consult);
  const version = consult.context_version;
  if (!isShown || consult.context === null) return <Empty title={t("desk.ecg.noPatient")} />;
  if (stream === null) {
    return isOtherPatient ? (
      <Empty title={t("desk.ecg.none")} hint={t("desk.ecg.otherPatient")} isWarning />
    ) : (
      <Empty title={t("desk.ecg.none")} hint={t("desk.ecg.noneHint")} />
    );
  }
  // Another version is another view: no buffer of the former patient survives the change (W24).
  return (
    <EcgView
      key={`${version} ${stream.stream_id}`}
      stream={stream}
      channel={media.ecg.channel(stream.stream_id)}
      contextVersion={version}
    />
  );
}

function Empty({ title, hint, isWarning = false }: { title: string; hint?: string; isWarning?: boolean }) {
  const Icon = isWarning ? ShieldAlert : Activity;
  return (
    <div className={styles.empty} data-warning={isWarning}>
      <Icon className={styles.icon} aria-hidden="true" />
      <p className={styles.title}>{title}</p>
      {hint !== undefined && <p className={styles.hint}>{hint}</p>}
    </div>
  );
}
