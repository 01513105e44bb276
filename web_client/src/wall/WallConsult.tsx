/**
 * One wall display in a consult: the patient's identity on top, one view below, or NOT IN SYNC.
 *
 * A wall hangs in front of people who cannot tell an old picture from a new one. So everything clinical stands behind
 * the context gate and leaves the DOM as soon as the socket is lost or no beat came for 5 s; the patient's name goes
 * too. `confirm_context` is sent only after the old content was cleared and the new identity painted (W19, W24).
 */
import { Unplug } from "lucide-react";
import { lazy, Suspense, useCallback, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import { BindingFrame } from "../binding/BindingFrame";
import type { ScreenRole } from "../common/api";
import { useHttp } from "../common/http";
import { BusyNote } from "../desk/BusyNote";
import { confirmContext } from "../desk/confirmContext";
import { type ConsultClient, openClient } from "../desk/consultClient";
import { openingOf, useContextGate } from "../desk/contextGate";
import { SyncBanner } from "../desk/SyncBanner";
import type { Wishes } from "../media/plan";
import type { ConnectionStatus } from "../net/consultSocket";
import type { Consult } from "../protocol";
import { PatientBanner } from "../record/PatientBanner";
import { IdentityBar } from "../share";
import type { WallScreen } from "./api";
import { Clock } from "./Clock";
import styles from "./Wall.module.css";

const RecordView = lazy(() => import("./RecordView"));
const VideoView = lazy(() => import("./VideoView"));
const EcgView = lazy(() => import("./EcgWallView"));

/** A screen receives only what it shows. */
const WISHES: Record<ScreenRole, Wishes | null> = {
  record: null,
  video: { audio: true, video: true, ecg: false },
  ecg: { audio: false, video: false, ecg: true },
};

export function WallConsult({ consultId, screen }: { consultId: string; screen: WallScreen }) {
  const http = useHttp();
  const [client, setClient] = useState<ConsultClient | null>(null);
  useEffect(() => {
    const opened = openClient(http, consultId, WISHES[screen.role]);
    setClient(opened);
    return () => opened.close();
  }, [http, consultId, screen.role]);
  return client === null ? null : <OpenWall client={client} screen={screen} />;
}

type State = "connecting" | "not-in-sync" | "switching" | "live";

function OpenWall({ client, screen }: { client: ConsultClient; screen: WallScreen }) {
  const { t } = useTranslation();
  const { consult, status, you, sameSurname: namesake } = useStore(client.store);
  useEndlessRetry(client);
  const confirm = useCallback((version: number) => void confirmContext(client, version), [client]);
  const isCurrent = status.phase === "connected" && status.fresh;
  const hasPatient = consult !== null && consult.context !== null;
  const isShown = useContextGate(
    consult === null ? null : openingOf(consult),
    consult?.context_version ?? 0,
    isCurrent,
    hasPatient,
    confirm,
  );
  const state: State = stateOf(consult, isCurrent, isShown);

  if (state === "not-in-sync") return <NotInSync screen={screen} status={status} />;
  return (
    <div className={styles.wall} data-testid="wall-root" data-role={screen.role} data-state={state}>
      {state === "connecting" || consult === null ? (
        <p className={styles.notice} role="status">
          <BusyNote status={status} otherwise={t("wall.consult.connecting")} />
        </p>
      ) : (
        <>
          <header className={styles.head}>
            {state === "live" ? (
              <PatientBanner
                patient={consult.context?.patient ?? null}
                contextVersion={consult.context_version}
                size="wall"
                namesake={namesake}
              />
            ) : (
              <p className={styles.hidden}>{t("wall.consult.switching")}</p>
            )}
          </header>
          <SyncBanner consult={consult} size="wall" />
          {state === "live" && <IdentityBar consult={consult} me={you ?? ""} size="wall" />}
          <main className={styles.view}>
            {state === "live" && (
              <Suspense fallback={null}>
                <RoleView client={client} consult={consult} me={you ?? ""} role={screen.role} />
              </Suspense>
            )}
          </main>
          <Foot screen={screen} title={consult.title} />
        </>
      )}
    </div>
  );
}

function stateOf(consult: Consult | null, isCurrent: boolean, isShown: boolean): State {
  if (consult === null) return "connecting";
  if (!isCurrent) return "not-in-sync";
  return isShown ? "live" : "switching";
}

interface RoleViewProps {
  client: ConsultClient;
  consult: Consult;
  me: string;
  role: ScreenRole;
}

function RoleView({ client, consult, me, role }: RoleViewProps) {
  if (role === "record") return <RecordView client={client} consult={consult} me={me} />;
  if (client.media === null) return null;
  if (role === "video") return <VideoView client={client} media={client.media} consult={consult} me={me} />;
  return (
    <BindingFrame client={client} consult={consult} me={me} isShown size="wall">
      <EcgView client={client} media={client.media} consult={consult} />
    </BindingFrame>
  );
}

function NotInSync({ screen, status }: { screen: WallScreen; status: ConnectionStatus }) {
  const { t } = useTranslation();
  return (
    <div className={styles.wall} data-testid="wall-root" data-role={screen.role} data-state="not-in-sync">
      <main className={styles.broken} data-testid="not-in-sync" role="alert">
        <Unplug className={styles.brokenIcon} aria-hidden="true" />
        <h1 className={styles.brokenTitle}>{t("wall.consult.notInSync", { number: screen.number })}</h1>
        <p className={styles.brokenHint}>{t("wall.consult.notInSyncHint")}</p>
        <p className={styles.brokenHint}>
          <BusyNote status={status} otherwise="" />
        </p>
      </main>
      <Foot screen={screen} title="" />
    </div>
  );
}

function Foot({ screen, title }: { screen: WallScreen; title: string }) {
  return (
    <footer className={styles.foot}>
      <span className={styles.number}>{screen.number}</span>
      <span className={styles.room}>{screen.room}</span>
      <span className={styles.title}>{title}</span>
      <Clock className={styles.clock} />
    </footer>
  );
}

const RETRY_MS = 2_000;
const RETRY_JITTER_MS = 4_000;

/** Where a desk stops after a minute and offers a button, a wall goes on for ever, spread out over a few seconds. */
function useEndlessRetry(client: ConsultClient): void {
  const isStopped = useStore(client.store, ({ status }) => status.phase === "stopped");
  const goodbye = useStore(client.store, ({ status }) => status.goodbye);
  // Another window took this screen's place: fighting over it would blank both every few seconds.
  const isFinal = goodbye === "replaced" || goodbye === "ended" || goodbye === "removed";
  useEffect(() => {
    if (!isStopped || isFinal) return;
    const timer = setTimeout(() => client.socket.retry(), RETRY_MS + Math.random() * RETRY_JITTER_MS);
    return () => clearTimeout(timer);
  }, [client, isStopped, isFinal]);
}
