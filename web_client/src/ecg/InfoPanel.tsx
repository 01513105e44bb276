/** What is known about the signal on screen, and what it may be used as (W16, W29, W30). */
import { Switch } from "@mantine/core";
import type { TFunction } from "i18next";
import { Fragment } from "react";
import { useTranslation } from "react-i18next";
import type { EcgProfile, EcgWay } from "../media/ecgLinkPath";
import type { PictureAge } from "../media/pictureTimes";
import type { WaveformStream } from "../protocol";
import type { EcgStatus } from "../waveform/settings";
import styles from "./InfoPanel.module.css";
import { gradeOf } from "./labels";

export interface InfoPanelProps {
  readonly stream: WaveformStream;
  readonly status: EcgStatus | null;
  /** Of the picture that stands beside the trace. */
  readonly picture: PictureAge | null;
  readonly way: EcgWay | null;
  readonly profile: EcgProfile;
  readonly onProfile: (profile: EcgProfile) => void;
}

export function InfoPanel({ stream, status, picture, way, profile, onProfile }: InfoPanelProps) {
  const { t } = useTranslation();
  const clock = status?.clockErrorMs ?? null;
  const age = status?.ageMs ?? null;
  const rows: readonly (readonly [string, string])[] = [
    [t("ecg.info.device"), stream.device],
    [t("ecg.info.grade"), t(`ecg.info.grades.${gradeOf(stream)}`)],
    [t("ecg.info.rate"), t("ecg.info.rateValue", { hz: stream.sample_rate_mhz / 1000 })],
    [t("ecg.info.step"), `${stream.lsb_nv / 1000} µV`],
    [t("ecg.info.filter"), stream.filter === "" ? t("ecg.info.filterUnknown") : stream.filter],
    [t("ecg.info.leads"), stream.leads.join(" ")],
    [
      t("ecg.info.derived"),
      status === null || status.derived.length === 0 ? t("ecg.info.none") : status.derived.join(" "),
    ],
    [
      t("ecg.info.clock"),
      clock === null ? t("ecg.info.clockUnknown") : t("ecg.info.clockValue", { ms: Math.max(1, Math.round(clock)) }),
    ],
    [t("ecg.info.age"), age === null ? t("ecg.info.none") : `${Math.round(age)} ms`],
    [t("ecg.info.picture"), pictureText(t, picture)],
    [t("ecg.info.gaps"), String(status?.gaps ?? 0)],
    [t("ecg.info.limbError"), String(status?.limbError ?? 0)],
    [t("ecg.info.way"), t(`ecg.info.ways.${way ?? "none"}`)],
    [t("ecg.info.streamId"), String(stream.stream_id)],
  ];
  return (
    <div className={styles.panel} data-testid="ecg-info">
      {stream.simulated && <p className={styles.simulated}>{t("ecg.info.simulated")}</p>}
      <dl className={styles.rows}>
        {rows.map(([name, value]) => (
          <Fragment key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </Fragment>
        ))}
      </dl>
      <Switch
        label={t("ecg.info.socketOnly")}
        description={t("ecg.info.socketOnlyHint")}
        checked={profile === "socket"}
        onChange={(event) => onProfile(event.currentTarget.checked ? "socket" : "auto")}
      />
    </div>
  );
}

function pictureText(t: TFunction, picture: PictureAge | null): string {
  if (picture === null) return t("ecg.info.none");
  const ms = Math.round(picture.ms);
  if (picture.isLeast) return t("ecg.info.pictureLeast", { ms });
  if (picture.errorMs === null) return `${ms} ms`;
  return t("ecg.info.pictureWithin", { ms, error: Math.max(1, Math.round(picture.errorMs)) });
}
