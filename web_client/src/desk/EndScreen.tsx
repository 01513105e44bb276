/**
 * The page after the consult, with the reason in words: ended, left, opened elsewhere, removed, refused, lost.
 *
 * "Connection lost" keeps the report at hand, for the one who will be asked what happened.
 */
import { Button } from "@mantine/core";
import { CircleCheck, CopyCheck, DoorOpen, type LucideIcon, ShieldX, TriangleAlert, WifiOff } from "lucide-react";
import { useTranslation } from "react-i18next";
import { localized } from "../i18n";
import type { ConnectionStatus } from "../net/consultSocket";
import styles from "./EndScreen.module.css";

export type Ending = "left" | "ended" | "replaced" | "removed" | "protocol" | "refused" | "lost";

/** Why the page has stopped, or `null` while it goes on. */
export function endingOf(status: ConnectionStatus, hasLeft: boolean): Ending | null {
  if (hasLeft) return "left";
  if (status.phase !== "stopped") return null;
  switch (status.goodbye) {
    case "ended":
    case "replaced":
    case "removed":
      return status.goodbye;
    case "malformed":
      return "protocol";
    default:
      if (status.refusal?.code === "consult_ended") return "ended";
      return status.refusal !== null && status.refusal.code !== "token_invalid" ? "refused" : "lost";
  }
}

const ICONS: Record<Ending, LucideIcon> = {
  left: DoorOpen,
  ended: CircleCheck,
  replaced: CopyCheck,
  removed: ShieldX,
  protocol: TriangleAlert,
  refused: ShieldX,
  lost: WifiOff,
};

export interface EndScreenProps {
  ending: Ending;
  status: ConnectionStatus;
  onRejoin: () => void;
  onCopyReport: () => void;
  reportCopied: boolean;
}

export function EndScreen({ ending, status, onRejoin, onCopyReport, reportCopied }: EndScreenProps) {
  const { t } = useTranslation();
  const Icon = ICONS[ending];
  const [title, hint] = words(ending, status, t);
  const canRejoin = ending === "left" || ending === "replaced" || ending === "lost" || ending === "protocol";
  return (
    <main className={styles.page} data-testid="end-screen" data-ending={ending}>
      <div
        className={styles.card}
        data-testid={ending === "lost" ? "connection-banner" : undefined}
        data-phase="stopped"
      >
        <Icon className={styles.icon} data-ending={ending} aria-hidden="true" />
        <h1 className={styles.title}>{title}</h1>
        <p className={styles.hint}>{hint}</p>
        <div className={styles.actions}>
          {canRejoin && (
            <Button size="md" onClick={onRejoin} data-testid="btn-rejoin" autoFocus>
              {ending === "replaced" ? t("desk.end.here") : t("desk.end.rejoin")}
            </Button>
          )}
          {(ending === "lost" || ending === "protocol") && (
            <Button size="md" variant="default" onClick={onCopyReport}>
              {reportCopied ? t("desk.connection.copied") : t("desk.connection.copyReport")}
            </Button>
          )}
          <Button size="md" variant="subtle" component="a" href="/">
            {t("desk.end.home")}
          </Button>
        </div>
      </div>
    </main>
  );
}

type Translate = ReturnType<typeof useTranslation>["t"];

function words(ending: Ending, status: ConnectionStatus, t: Translate): [string, string] {
  switch (ending) {
    case "lost":
      return [t("desk.connection.lost"), t("desk.connection.lostHint")];
    case "refused":
      return [t("desk.end.refused"), status.refusal === null ? "" : localized(status.refusal)];
    default:
      return [t(`desk.end.${ending}`), t(`desk.end.${ending}Hint`)];
  }
}
