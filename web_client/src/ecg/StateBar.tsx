/**
 * What stands still here and by whose wish; that it is not live is the first thing it says (W13).
 *
 * The state of the live trace stays beside it: a frozen page must not hide that the signal was lost meanwhile.
 */
import { Button } from "@mantine/core";
import { History, Snowflake } from "lucide-react";
import { useTranslation } from "react-i18next";
import { clockText } from "../media/videoAge";
import type { EcgFreeze } from "../protocol";
import type { EcgStatus } from "../waveform/settings";
import { clockOf } from "./review";
import styles from "./StateBar.module.css";
import type { Shown } from "./standing";

export interface StateBarProps {
  readonly shown: Shown;
  /** The freeze for all, also while this viewer has left it. */
  readonly freeze: EcgFreeze | null;
  readonly nameOf: (participant: string) => string;
  readonly status: EcgStatus | null;
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
  const { shown, nameOf, status, isConnected } = props;
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
      <LiveState status={status} />
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

/** How the trace is that goes on behind the page; never by colour alone (W12). */
function LiveState({ status }: { status: EcgStatus | null }) {
  const { t } = useTranslation();
  const state = status?.state ?? "LOST";
  const age = status?.ageMs ?? null;
  return (
    <span className={styles.live} data-state={state} data-testid="ecg-live-state">
      {t("ecg.state.liveIs")} <strong>{t(`ecg.state.states.${state}`)}</strong>
      {state !== "LIVE" && age !== null && <span> {clockText(age)}</span>}
    </span>
  );
}
