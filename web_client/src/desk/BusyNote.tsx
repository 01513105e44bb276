/** The server lets in one after the other: when it is our turn, in words, and that nothing has to be done. [SE16] */
import { useTranslation } from "react-i18next";
import { useNow } from "../media/useNow";
import type { ConnectionStatus } from "../net/consultSocket";

/** Seconds until it is our turn; null when nobody told us to wait, or the time is over. */
export function turnInS(status: ConnectionStatus, nowMs: number): number | null {
  if (status.waitUntilMs === null || status.phase === "connected" || status.phase === "stopped") return null;
  const leftMs = status.waitUntilMs - nowMs;
  return leftMs > 0 ? Math.ceil(leftMs / 1_000) : null;
}

/** The sentence, or `otherwise`. */
export function BusyNote({ status, otherwise }: { status: ConnectionStatus; otherwise: string }) {
  const { t } = useTranslation();
  const seconds = turnInS(status, useNow());
  return (
    <span data-busy={seconds !== null}>{seconds === null ? otherwise : t("desk.connection.busy", { seconds })}</span>
  );
}
