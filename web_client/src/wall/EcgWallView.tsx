/** Screen 3: the open patient's ECG over the whole display. */
import { useTranslation } from "react-i18next";
import { useEcg } from "../desk/ecgSources";
import type { MediaSession } from "../media/session";
import type { Consult } from "../protocol";
import { EcgView } from "../waveform/EcgView";
import styles from "./Wall.module.css";

export default function EcgWallView({ media, consult }: { media: MediaSession; consult: Consult }) {
  const { t, i18n } = useTranslation();
  const { stream, isOtherPatient } = useEcg(consult);
  const version = consult.context_version;
  if (consult.context === null) return <Nothing text={t("wall.consult.noPatient")} />;
  if (stream === null) {
    return <Nothing text={t(isOtherPatient ? "wall.consult.otherPatient" : "wall.consult.noEcg")} />;
  }
  return (
    <EcgView
      key={`${version} ${stream.stream_id}`}
      stream={stream}
      channel={media.ecg.channel(stream.stream_id)}
      contextVersion={version}
      theme="wall"
      lang={i18n.language === "zh-CN" ? "zh" : "en"}
      layout="3x4+1"
    />
  );
}

/** Says so under the same test id as a trace, with nothing drawn. */
function Nothing({ text }: { text: string }) {
  return (
    <p className={styles.notice} data-testid="ecg" data-state="NONE" data-samples-drawn="0">
      {text}
    </p>
  );
}
