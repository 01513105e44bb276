/** Says whose page this is, and leads away from it or back. */
import { Button } from "@mantine/core";
import { CornerUpLeft, Eye, EyeOff, Radio } from "lucide-react";
import { useTranslation } from "react-i18next";
import styles from "./RecordPane.module.css";

export interface FollowBarProps {
  leading: boolean;
  alone: boolean;
  leadName: string | null;
  onAlone: () => void;
  onReturn: () => void;
}

export function FollowBar({ leading, alone, leadName, onAlone, onReturn }: FollowBarProps) {
  const { t } = useTranslation();
  const mode = leading ? "leading" : alone ? "alone" : "following";
  const Icon = { leading: Radio, alone: EyeOff, following: Eye }[mode];
  const following = leadName === null ? t("record.followingNobody") : t("record.following", { name: leadName });
  const sentence = { leading: t("record.leading"), alone: t("record.browsingAlone"), following }[mode];
  return (
    <div className={styles.follow} data-mode={mode}>
      <Icon aria-hidden="true" className={styles.followIcon} />
      <span role="status" className={styles.followText}>
        {sentence}
      </span>
      {mode === "following" && (
        <Button size="compact-sm" variant="subtle" onClick={onAlone} data-testid="btn-browse-alone">
          {t("record.browseAlone")}
        </Button>
      )}
      {mode === "alone" && (
        <Button
          size="compact-sm"
          onClick={onReturn}
          data-testid="btn-return"
          leftSection={<CornerUpLeft size={16} aria-hidden="true" />}
        >
          {leadName === null ? t("record.returnToShared") : t("record.returnTo", { name: leadName })}
        </Button>
      )}
    </div>
  );
}
