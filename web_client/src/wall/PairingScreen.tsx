/** A display nobody has claimed: its code, the same as a QR, where to enter it, and the time (WEB_AND_OPS 1.2). */
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useHttp } from "../common/http";
import { clockText } from "../media/videoAge";
import { askForCode, isClaimed, type Pairing } from "./api";
import { Clock } from "./Clock";
import styles from "./Pairing.module.css";
import { QrCode } from "./QrCode";

const POLL_MS = 2_000;

export function PairingScreen({ enabled, onPaired }: { enabled: boolean; onPaired: () => void }) {
  const { t } = useTranslation();
  const [pairing, isReachable, leftMs] = usePairing(enabled, onPaired);
  const stationUrl = `${window.location.origin}/station`;
  return (
    <main className={styles.page}>
      <header className={styles.head}>
        <span className={styles.brand}>Consilium</span>
        <Clock className={styles.clock} />
      </header>
      {pairing === null ? (
        <p className={styles.wait} role="status">
          {t(isReachable ? "wall.pairing.loading" : "wall.pairing.unreachable")}
        </p>
      ) : (
        <div className={styles.body}>
          <div>
            <h1 className={styles.title}>{t("wall.pairing.title")}</h1>
            <p className={styles.steps}>{t("wall.pairing.steps")}</p>
            <p className={styles.url}>{stationUrl}</p>
            <output className={styles.code} data-testid="pairing-code" aria-label={t("wall.pairing.code")}>
              {pairing.code}
            </output>
            <p className={styles.note}>{t("wall.pairing.expires", { time: clockText(leftMs) })}</p>
          </div>
          <QrCode
            className={styles.qr}
            text={`${stationUrl}?code=${encodeURIComponent(pairing.code)}`}
            label={t("wall.pairing.qr")}
          />
        </div>
      )}
      <footer className={styles.foot}>
        {pairing !== null && pairing.address !== "" && t("wall.pairing.address", { address: pairing.address })}
      </footer>
    </main>
  );
}

/** A code that is renewed when it runs out, and the question whether somebody has claimed it. */
function usePairing(enabled: boolean, onPaired: () => void): [Pairing | null, boolean, number] {
  const http = useHttp();
  const [pairing, setPairing] = useState<Pairing | null>(null);
  const [isReachable, setReachable] = useState(true);
  const [leftMs, setLeft] = useState(0);
  useEffect(() => {
    if (!enabled) return;
    let isWanted = true;
    let current: Pairing | null = null;
    let timer: ReturnType<typeof setTimeout>;
    const show = (next: Pairing | null): void => {
      current = next;
      setPairing(next);
    };
    const look = async (): Promise<void> => {
      try {
        if (current === null || current.expiresAtMs <= Date.now()) show(await askForCode(http));
        else if (await isClaimed(http, current.secret)) {
          onPaired();
          return;
        }
        setReachable(true);
      } catch {
        // Out of reach, or the code is gone: the next look asks for a new one.
        show(null);
        setReachable(false);
      }
      if (isWanted) timer = setTimeout(() => void look(), POLL_MS);
    };
    const count = setInterval(() => setLeft(current === null ? 0 : current.expiresAtMs - Date.now()), 500);
    void look();
    return () => {
      isWanted = false;
      clearTimeout(timer);
      clearInterval(count);
    };
  }, [http, enabled, onPaired]);
  return [pairing, isReachable, leftMs];
}
