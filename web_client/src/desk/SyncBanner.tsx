/** NOT IN SYNC: which wall screens must not be trusted just now (W19). */
import { Unplug } from "lucide-react";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useNow } from "../media/useNow";
import type { Consult } from "../protocol";
import styles from "./Banners.module.css";
import { type BehindSince, untrusted, watchScreens } from "./screenSync";

export function SyncBanner({ consult }: { consult: Consult }) {
  const { t } = useTranslation();
  const nowMs = useNow();
  const [since, setSince] = useState<BehindSince>(() => new Map());
  useEffect(() => {
    const version = consult.context?.version ?? null;
    setSince((before) => watchScreens(before, Object.values(consult.participants), version, performance.now()));
  }, [consult]);
  const numbers = untrusted(since, Object.values(consult.participants), nowMs);
  if (numbers.length === 0) return null;
  return (
    <div className={styles.strip} data-tone="danger" data-testid="not-in-sync" role="alert">
      <Unplug className={styles.icon} aria-hidden="true" />
      <strong>
        {numbers.length === 1
          ? t("desk.sync.screen", { number: numbers[0] })
          : t("desk.sync.screens", { numbers: numbers.join(", ") })}
      </strong>
      <span>{t("desk.sync.hint")}</span>
    </div>
  );
}
