/** The ECG of the open patient on the desk with everything done on it, or the reason why there is none. */
import { Activity, ShieldAlert } from "lucide-react";
import type { RefObject } from "react";
import { useTranslation } from "react-i18next";
import { EcgWorkspace } from "../ecg/EcgWorkspace";
import { useEcgPage } from "../ecg/useEcgPage";
import type { MediaSession } from "../media/session";
import type { AnyCommand, Consult } from "../protocol";
import type { ConsultClient } from "./consultClient";
import { openingOf } from "./contextGate";
import styles from "./EcgPane.module.css";
import type { EcgShortcut } from "./shortcuts";

export interface EcgPaneProps {
  client: ConsultClient;
  consult: Consult;
  me: string;
  media: MediaSession;
  /** Whether anything of the present context may be shown. */
  isShown: boolean;
  /** Filled with what the ECG does on a key. */
  keys: RefObject<((name: EcgShortcut) => void) | null>;
  onCommand: (command: AnyCommand) => Promise<void>;
}

export function EcgPane({ client, consult, me, media, isShown, keys, onCommand }: EcgPaneProps) {
  const { t } = useTranslation();
  const page = useEcgPage(consult);
  if (!isShown) return <Empty why="not in sync" title={t("desk.sync.ecg")} hint={t("desk.sync.ecgHint")} isWarning />;
  if (consult.context === null) return <Empty why="no patient" title={t("desk.ecg.noPatient")} />;
  if (page.stream === null) {
    return page.isOtherPatient ? (
      <Empty why="other patient" title={t("desk.ecg.none")} hint={t("desk.ecg.otherPatient")} isWarning />
    ) : (
      <Empty why="no source" title={t("desk.ecg.none")} hint={t("desk.ecg.noneHint")} />
    );
  }
  return (
    // Another opening is another view: no buffer, page or mark of the former patient survives the change (W24). What is
    // opened beside the same patient ends nothing ([AN2]).
    <EcgWorkspace
      key={openingOf(consult)}
      client={client}
      consult={consult}
      me={me}
      media={media}
      page={page}
      stream={page.stream}
      keys={keys}
      onCommand={onCommand}
    />
  );
}

interface EmptyProps {
  /** For whoever watches the page from outside: not every absence is the line's fault. */
  why: "not in sync" | "no patient" | "other patient" | "no source";
  title: string;
  hint?: string;
  isWarning?: boolean;
}

/** Says so under the same test id as a trace, with nothing drawn. */
function Empty({ why, title, hint, isWarning = false }: EmptyProps) {
  const Icon = isWarning ? ShieldAlert : Activity;
  return (
    <div
      className={styles.empty}
      data-warning={isWarning}
      data-testid="ecg"
      data-state="NONE"
      data-why={why}
      data-samples-drawn="0"
    >
      <Icon className={styles.icon} aria-hidden="true" />
      <p className={styles.title}>{title}</p>
      {hint !== undefined && <p className={styles.hint}>{hint}</p>}
    </div>
  );
}
