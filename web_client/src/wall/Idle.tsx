/** The privacy curtain: a paired display without a consult shows where it hangs and the time, nothing clinical. */
import { useTranslation } from "react-i18next";
import type { WallScreen } from "./api";
import { Clock } from "./Clock";
import styles from "./Idle.module.css";

export function Idle({ screen }: { screen: WallScreen }) {
  const { t } = useTranslation();
  return (
    <main className={styles.page}>
      <header className={styles.head}>
        <span className={styles.room}>{screen.room}</span>
        <span className={styles.station}>{screen.stationName}</span>
      </header>
      <div className={styles.middle}>
        <Clock className={styles.clock} />
        <Clock className={styles.date} withDate />
        <p className={styles.state}>{t("wall.idle.noConsult")}</p>
      </div>
      <footer className={styles.foot}>
        <span className={styles.number}>{screen.number}</span>
        <span>{t(`wall.idle.${screen.role}`)}</span>
      </footer>
    </main>
  );
}
