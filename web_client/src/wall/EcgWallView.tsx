/** Screen 3: the open patient's ECG over the whole display. */
import { useTranslation } from "react-i18next";
import { chooseEcg } from "../desk/ecgSources";
import type { MediaSession } from "../media/session";
import type { Consult } from "../protocol";
import { EcgView } from "../waveform/EcgView";
import styles from "./Wall.module.css";

export default function EcgWallView({ media, consult }: { media: MediaSession; consult: Consult }) {
  const { t } = useTranslation();
  const { stream, isOtherPatient } = chooseEcg(consult);
  const version = consult.context_version;
  if (consult.context === null) return <p className={styles.notice}>{t("wall.consult.noPatient")}</p>;
  if (stream === null) {
    return <p className={styles.notice}>{t(isOtherPatient ? "wall.consult.otherPatient" : "wall.consult.noEcg")}</p>;
  }
  return (
    <EcgView
      key={`${version} ${stream.stream_id}`}
      stream={stream}
      channel={media.ecg.channel(stream.stream_id)}
      contextVersion={version}
    />
  );
}
