/**
 * One wall display, from the pairing code to the consult.
 *
 * The display decides nothing: the server says which screen it is, what role it has and which consult its room is in,
 * and the display asks again every two seconds for as long as it hangs there. Whatever cannot be reached is tried
 * again for ever; nobody stands at a wall to press a button.
 */
import { useQuery } from "@tanstack/react-query";
import { useCallback, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { ApiError, useHttp } from "../common/http";
import { fetchWall } from "./api";
import { Idle } from "./Idle";
import { PairingScreen } from "./PairingScreen";
import { useWakeLock } from "./useWakeLock";
import styles from "./Wall.module.css";
import { WallConsult } from "./WallConsult";

const POLL_MS = 2_000;

export function WallApp() {
  const { t } = useTranslation();
  const http = useHttp();
  useWakeLock();
  const wall = useQuery({
    queryKey: ["wall"],
    queryFn: ({ signal }) => fetchWall(http, signal),
    refetchInterval: POLL_MS,
    refetchIntervalInBackground: true,
    retry: false,
  });
  const state = wall.data;
  const { refetch } = wall;
  const onPaired = useCallback(() => void refetch(), [refetch]);
  const isDemo = useDemoPairing(state === undefined ? undefined : state !== null, onPaired);
  useEffect(() => {
    document.title = state ? `${state.screen.room} ${state.screen.number} · Consilium` : t("wall.title");
  }, [state, t]);
  if (state === undefined || state === null) {
    return (
      <div className={styles.wall} data-testid="wall-root" data-state="pairing">
        <PairingScreen enabled={state === null && !isDemo} onPaired={onPaired} />
      </div>
    );
  }
  const { screen, consult, identify } = state;
  return (
    <>
      {consult === null ? (
        <div className={styles.wall} data-testid="wall-root" data-state="idle" data-role={screen.role}>
          <Idle screen={screen} />
        </div>
      ) : (
        <WallConsult key={`${consult} ${screen.role}`} consultId={consult} screen={screen} />
      )}
      {identify && (
        <div
          className={styles.identify}
          data-testid="wall-identify"
          role="alert"
          aria-label={t("wall.identify", { number: screen.number })}
        >
          {screen.number}
        </div>
      )}
    </>
  );
}

/**
 * `demo=1`: take a demo screen without a code.
 *
 * Once only: a display that was taken off its screen shows a code like any other, and two displays that were opened as
 * the same screen do not take it from each other for ever.
 *
 * @param isPaired `undefined` while the server has not said
 * @returns whether the display is on its way to being paired, so that no code need be shown
 */
function useDemoPairing(isPaired: boolean | undefined, onPaired: () => void): boolean {
  const http = useHttp();
  const [isDemo, setDemo] = useState(() => new URLSearchParams(window.location.search).get("demo") === "1");
  useEffect(() => {
    if (isPaired) setDemo(false);
    if (!isDemo || isPaired !== false) return;
    let isWanted = true;
    let timer: ReturnType<typeof setTimeout>;
    const pair = (): void => {
      http
        .post("/api/wall/demo", {}, () => null)
        .then(
          () => {
            if (isWanted) onPaired();
          },
          (error: unknown) => {
            if (!isWanted) return;
            // Not a demo server: show a code like any other display. Anything else heals.
            if (error instanceof ApiError && error.status === 404) setDemo(false);
            else timer = setTimeout(pair, POLL_MS);
          },
        );
    };
    pair();
    return () => {
      isWanted = false;
      clearTimeout(timer);
    };
  }, [http, isDemo, isPaired, onPaired]);
  return isDemo;
}
