/** NOT IN SYNC: which wall screens and outside programs must not be trusted just now (W19). */
import { Button } from "@mantine/core";
import { Unplug } from "lucide-react";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useNow } from "../media/useNow";
import type { Consult, ProgramTrouble } from "../protocol";
import styles from "./Banners.module.css";
import { type BehindSince, untrusted, watchScreens } from "./screenSync";

interface SyncBannerProps {
  consult: Consult;
  /** Somebody looked at a program that is named here; absent where nobody may say so. */
  onDismiss?: ((program: string) => void) | undefined;
  size?: "desk" | "wall";
}

export function SyncBanner({ consult, onDismiss, size = "desk" }: SyncBannerProps) {
  return (
    <>
      <ScreensBehind consult={consult} size={size} />
      {Object.values(consult.programs)
        .sort((a, b) => a.at_ms - b.at_ms)
        .map((program) => (
          <ProgramBehind key={program.id} program={program} onDismiss={onDismiss} size={size} />
        ))}
    </>
  );
}

/** An outside program refused the open context, did not answer, or was cut off (H17-H19). */
function ProgramBehind({
  program,
  onDismiss,
  size,
}: Pick<SyncBannerProps, "onDismiss" | "size"> & { program: ProgramTrouble }) {
  const { t } = useTranslation();
  return (
    <div className={styles.strip} data-tone="danger" data-size={size} data-testid="program-not-in-sync" role="alert">
      <Unplug className={styles.icon} aria-hidden="true" />
      <strong>{t("desk.sync.program", { name: program.name })}</strong>
      <span>{t(`desk.sync.reason.${program.reason}`)}</span>
      {onDismiss !== undefined && (
        <Button size="compact-sm" variant="white" color="red" onClick={() => onDismiss(program.id)}>
          {t("desk.sync.looked")}
        </Button>
      )}
    </div>
  );
}

function ScreensBehind({ consult, size }: Pick<SyncBannerProps, "consult" | "size">) {
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
    <div className={styles.strip} data-tone="danger" data-size={size} data-testid="not-in-sync" role="alert">
      <Unplug className={styles.icon} aria-hidden="true" />
      <strong>
        {numbers.length === 1
          ? t("desk.sync.screen", { number: numbers[0] })
          : t("desk.sync.screens", { numbers: numbers.join(t("common.listSeparator")) })}
      </strong>
      <span>{t("desk.sync.hint")}</span>
    </div>
  );
}
