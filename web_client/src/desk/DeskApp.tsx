/** `/consult/{id}`: who is this, then the device check, then the desk. */
import { lazy, Suspense, useCallback, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useHttp } from "../common/http";
import { useConsult, useSession } from "../common/queries";
import { markJoinClick } from "../media/marks";
import { loadLibrary } from "../media/session";
import { type JoinInputs, PreJoin } from "../prejoin/PreJoin";
import { type ConsultClient, openClient } from "./consultClient";
import styles from "./Desk.module.css";

/** Fetched while the person checks their devices, so that pressing Join shows the desk at once. */
const loadDesk = () => import("./Desk");
const Desk = lazy(() => loadDesk().then((module) => ({ default: module.Desk })));

const WISHES = { audio: true, video: true, ecg: true };

/** The consult's id in the address. */
export function consultIdOf(pathname: string): string {
  return decodeURIComponent(/^\/consult\/([^/]+)/.exec(pathname)?.[1] ?? "");
}

export function DeskApp() {
  const session = useSession();
  const [consultId] = useState(() => consultIdOf(window.location.pathname));
  const isSignedOut = session.data === null;
  useEffect(() => {
    if (isSignedOut) window.location.replace(`/login?next=${encodeURIComponent(window.location.pathname)}`);
  }, [isSignedOut]);
  if (session.data === undefined || session.data === null) return <Opening />;
  return <JoinedDesk consultId={consultId} />;
}

function Opening() {
  const { t } = useTranslation();
  return (
    <main className={styles.opening} role="status">
      {t("desk.loading")}
    </main>
  );
}

function JoinedDesk({ consultId }: { consultId: string }) {
  const http = useHttp();
  const consult = useConsult(consultId);
  const [client, setClient] = useState<ConsultClient | null>(null);
  const current = useRef<ConsultClient | null>(null);
  const title = consult.data?.title;

  useEffect(() => {
    // What fails to load now is tried again, and told, when it is needed.
    loadLibrary().catch(() => undefined);
    loadDesk().catch(() => undefined);
  }, []);

  useEffect(() => {
    if (title !== undefined && title !== "") document.title = `${title} · Consilium`;
  }, [title]);

  // A closed tab must free camera and microphone at once; the participant stays and may come back.
  useEffect(() => {
    const close = (): void => current.current?.close();
    window.addEventListener("pagehide", close);
    return () => {
      window.removeEventListener("pagehide", close);
      close();
    };
  }, []);

  const join = useCallback(
    (inputs: JoinInputs): void => {
      markJoinClick();
      const opened = openClient(http, consultId, WISHES);
      for (const kind of ["camera", "microphone"] as const) {
        const { track, isOpening } = inputs[kind];
        if (track !== null) void opened.media?.local.adopt(kind, track);
        else if (isOpening) void opened.media?.local.set(kind, true);
      }
      current.current = opened;
      setClient(opened);
    },
    [http, consultId],
  );
  const rejoin = useCallback((): void => {
    current.current?.close();
    current.current = null;
    setClient(null);
  }, []);

  if (client === null || client.media === null) return <PreJoin consult={consult.data} onJoin={join} />;
  return (
    <Suspense fallback={<Opening />}>
      <Desk client={client} media={client.media} onRejoin={rejoin} />
    </Suspense>
  );
}
