/** The browser held back the sound: one button brings it (autoplay policy). */
import { Button } from "@mantine/core";
import { VolumeX } from "lucide-react";
import { useTranslation } from "react-i18next";
import type { Sound } from "../media/SoundOutlet";
import styles from "./Banners.module.css";

export function SoundStrip({ sound }: { sound: Sound }) {
  const { t } = useTranslation();
  if (!sound.blocked) return null;
  return (
    <div className={styles.strip} data-tone="info" role="alert">
      <VolumeX className={styles.icon} aria-hidden="true" />
      <span>{t("desk.sound.off")}</span>
      <Button size="compact-md" onClick={sound.resume} data-testid="btn-sound">
        {t("desk.sound.on")}
      </Button>
    </div>
  );
}
