/**
 * What stands still here and by whose wish; that it is not live is the first thing it says (W13).
 *
 * The view itself goes on saying below it how the live trace is: a frozen page must not hide a lost signal.
 */
import { Button } from "@mantine/core";
import { History, Snowflake } from "lucide-react";
import { useTranslation } from "react-i18next";
import type { EcgFreeze } from "../protocol";
import { clockOf } from "./review";
import styles from "./StateBar.module.css";
import type { Shown } from "./standing";

export interface StateBarProps {
  readonly shown: Shown;
  /** The freeze for all, also while this viewer has left it. */
  readonly freeze: EcgFreeze | null;
  readonly nameOf: (participant: string) => string;
  readonly isConnected: boolean;
  readonly onLive: () => void;
  readonly onJoin: () => void;
  readonly onForAll: () => void;
  readonly onRelease: () => void;
}

export function StateBar(props: StateBarProps) {
  const { shown, freeze } = props;
  if (shown.kind === "live") return freeze === null ? null : <LeftBar {...props} freeze={freeze} />;
  return <StandingBar {...props} shown={shown} />;
}

function StandingBar(props: StateBarProps & { shown: Exclude<Shown, { kind: "live" }> }) {
  const { t, i18n } = useTranslation();
  const { shown, nameOf, isConnected } = props;
  const time = clockOf(shown.atUs, i18n.language);
  const Icon = shown.kind === "review" ? History : Snowflake;
  return (
    <div className={styles.bar} data-kind={shown.kind} data-testid="ecg-standing" role="status">
      <Icon className={styles.icon} aria-hidden="true" />
      <strong className={styles.what}>{t(`ecg.state.${shown.kind}`, { time })}</strong>
      <span className={styles.who}>
        {shown.kind === "mine" && t("ecg.state.mineHint")}
        {shown.kind === "shared" &&
          t("ecg.state.sharedBy", {
            name: nameOf(shown.freeze.by),
            at: clockOf(shown.freeze.at_ms * 1000, i18n.language),
          })}
      </span>
      <span className={styles.actions}>
        {shown.kind !== "shared" && (
          <Button
            size="compact-sm"
            variant="white"
            disabled={!isConnected}
            onClick={props.onForAll}
            data-testid="ecg-for-all"
          >
            {t("ecg.state.forAll")}
          </Button>
        )}
        {shown.kind === "shared" && (
          <Button
            size="compact-sm"
            variant="white"
            disabled={!isConnected}
            onClick={props.onRelease}
            data-testid="ecg-release-all"
          >
            {t("ecg.state.releaseAll")}
          </Button>
        )}
        <Button size="compact-sm" variant="white" onClick={props.onLive} data-testid="ecg-live">
          {t(shown.kind === "shared" ? "ecg.state.liveOnlyMe" : "ecg.state.live")}
        </Button>
      </span>
    </div>
  );
}

function LeftBar({ freeze, nameOf, onJoin }: StateBarProps & { freeze: EcgFreeze }) {
  const { t, i18n } = useTranslation();
  return (
    <div className={styles.bar} data-kind="left" data-testid="ecg-left-freeze" role="status">
      <Snowflake className={styles.icon} aria-hidden="true" />
      <span className={styles.who}>
        {t("ecg.state.left", { name: nameOf(freeze.by), time: clockOf(freeze.at_us, i18n.language) })}
      </span>
      <span className={styles.actions}>
        <Button size="compact-sm" variant="default" onClick={onJoin}>
          {t("ecg.state.join")}
        </Button>
      </span>
    </div>
  );
}
