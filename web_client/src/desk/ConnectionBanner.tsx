/** What the person is told about the connection (WEB_AND_OPS 1.3), as strips under the patient banner. */
import { Hourglass, RefreshCw, TriangleAlert, WifiOff } from "lucide-react";
import { useTranslation } from "react-i18next";
import type { MediaState } from "../media/session";
import { useNow } from "../media/useNow";
import type { ConnectionStatus } from "../net/consultSocket";
import styles from "./Banners.module.css";
import { turnInS } from "./BusyNote";

export interface ConnectionBannerProps {
  status: ConnectionStatus;
  path: MediaState["path"];
  /** When a server that is about to restart ends at the latest; `null` while it is not. [SE14] */
  stopsAtMs: number | null;
}

/** The socket's first seconds of trouble are not worth a word: most blips end before. */
const SHOW_AFTER_MS = 2_000;

export function ConnectionBanner({ status, path, stopsAtMs }: ConnectionBannerProps) {
  const { t } = useTranslation();
  const nowMs = useNow();
  const troubleMs = status.troubleSinceMs === null ? 0 : nowMs - status.troubleSinceMs;
  if (status.phase === "connected") {
    if (stopsAtMs !== null) return <Stopping leftMs={stopsAtMs - nowMs} />;
    if (path !== "unstable") return null;
    return (
      <div
        className={styles.strip}
        data-tone="warn"
        data-testid="connection-banner"
        data-phase="unstable"
        role="status"
      >
        <TriangleAlert className={styles.icon} aria-hidden="true" />
        <span>{t("desk.connection.unstable")}</span>
      </div>
    );
  }
  const seconds = turnInS(status, nowMs);
  if (seconds !== null) {
    return (
      <div className={styles.strip} data-tone="warn" data-testid="connection-banner" data-phase="busy" role="status">
        <Hourglass className={styles.icon} aria-hidden="true" />
        <span>{t("desk.connection.busy", { seconds })}</span>
      </div>
    );
  }
  if (status.phase === "connecting") return null;
  if (status.goodbye === "server_stopping") {
    return (
      <div
        className={styles.strip}
        data-tone="info"
        data-testid="connection-banner"
        data-phase="draining"
        role="status"
      >
        <RefreshCw className={styles.icon} aria-hidden="true" />
        <span>{t("desk.connection.draining")}</span>
      </div>
    );
  }
  if (troubleMs < SHOW_AFTER_MS) return null;
  return (
    <div
      className={styles.strip}
      data-tone="warn"
      data-testid="connection-banner"
      data-phase={status.phase}
      role="status"
    >
      <WifiOff className={styles.icon} aria-hidden="true" />
      <strong>{t("desk.connection.reconnecting")}</strong>
      <span>{t("desk.connection.reconnectingHint")}</span>
    </div>
  );
}

/** A consult that runs may go on until then: nobody is sent away, and no new one begins. */
function Stopping({ leftMs }: { leftMs: number }) {
  const { t } = useTranslation();
  const seconds = Math.max(0, Math.ceil(leftMs / 1000));
  const left =
    seconds >= 120
      ? t("desk.connection.minutes", { count: Math.ceil(seconds / 60) })
      : t("desk.connection.seconds", { count: seconds });
  return (
    <div className={styles.strip} data-tone="info" data-testid="connection-banner" data-phase="stopping" role="status">
      <RefreshCw className={styles.icon} aria-hidden="true" />
      <span>{t("desk.connection.stopping", { left })}</span>
    </div>
  );
}
