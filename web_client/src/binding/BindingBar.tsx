/**
 * Above the ECG, on every screen: whose signals these are, who said so and until when (W20), or that they are blocked (W22).
 *
 * It says only what is true of the open context, and is not there while the context gate is shut.
 */
import { Button } from "@mantine/core";
import { BadgeCheck, CircleSlash, Clock, OctagonX, Settings2 } from "lucide-react";
import { useTranslation } from "react-i18next";
import type { Consult, DeviceUnbound, Mismatch, PatientBanner } from "../protocol";
import styles from "./BindingBar.module.css";
import { type DeviceRow, deviceRows } from "./binding";
import { clockTime } from "./clockTime";

export interface BindingBarProps {
  consult: Consult;
  me: string;
  endings: Readonly<Record<string, DeviceUnbound>>;
  /** Server time. */
  nowMs: number;
  size?: "desk" | "wall";
  /** Open the dialog, for one device or for none in particular; absent where nobody can act. */
  onManage?: (device: string | null) => void;
}

export function BindingBar({ consult, me, endings, nowMs, size = "desk", onManage }: BindingBarProps) {
  const { t } = useTranslation();
  const patient = consult.context?.patient;
  const rows = deviceRows(consult, me, endings, nowMs);
  if (patient === undefined || rows.length === 0) return null;
  const canManage = onManage !== undefined && rows.some(({ canBind, canUnbind }) => canBind || canUnbind);
  return (
    <section className={styles.bar} data-size={size} data-testid="binding-bar" aria-label={t("binding.label")}>
      <ul className={styles.rows}>
        {rows.map((row) => (
          <li key={row.device.id} className={styles.row} data-state={row.state} data-device={row.device.id}>
            <Said row={row} consult={consult} patient={patient} />
            {onManage !== undefined && row.canBind && row.state !== "bound" && (
              <Button
                size="compact-sm"
                variant={row.state === "mismatch" ? "white" : "filled"}
                onClick={() => onManage(row.device.id)}
                data-testid="binding-open"
              >
                {t(row.state === "ending" ? "binding.renew" : "binding.bindNow")}
              </Button>
            )}
          </li>
        ))}
      </ul>
      {canManage && (
        <Button
          size="compact-sm"
          variant="subtle"
          onClick={() => onManage(null)}
          aria-label={t("binding.label")}
          data-testid="binding-manage"
        >
          <Settings2 size={16} aria-hidden="true" />
          <span className={styles.word}>{t("binding.manage")}</span>
        </Button>
      )}
    </section>
  );
}

interface SaidProps {
  row: DeviceRow;
  consult: Consult;
  patient: PatientBanner;
}

function Said({ row, consult, patient }: SaidProps) {
  if (row.mismatch !== null && row.binding === null) return <Blocked row={row} mismatch={row.mismatch} />;
  if (row.binding === null) return <Unbound row={row} consult={consult} />;
  return <Bound row={row} binding={row.binding} consult={consult} patient={patient} />;
}

function Bound({ row, binding, consult, patient }: SaidProps & { binding: NonNullable<DeviceRow["binding"]> }) {
  const { t } = useTranslation();
  const [first] = binding.identifiers;
  const by = binding.bound_by === row.device.id ? null : (consult.participants[binding.bound_by]?.name ?? "");
  const minutes = Math.floor(row.leftMs / 60_000);
  return (
    <>
      <BadgeCheck className={styles.icon} aria-hidden="true" />
      <p className={styles.text} data-testid="binding-bound">
        <span>
          {t("binding.bound")} <strong>{patient.name}</strong>
        </span>
        <span>
          <span className={styles.word}>{first.label} </span>
          <strong className={styles.id}>{first.value}</strong>
        </span>
        <span>{t("binding.until", { time: clockTime(binding.until_ms) })}</span>
        {by !== "" && <span>{by === null ? t("binding.byDevice") : t("binding.by", { name: by })}</span>}
        <span className={styles.device}>
          {row.device.name}
          {row.isAway && ` (${t("binding.away")})`}
        </span>
      </p>
      {row.state === "ending" && (
        <p className={styles.warning} role="status" data-testid="binding-ending">
          <Clock className={styles.icon} aria-hidden="true" />
          {minutes > 0 ? t("binding.ending", { count: minutes }) : t("binding.endingSoon")}
        </p>
      )}
    </>
  );
}

function Unbound({ row, consult }: { row: DeviceRow; consult: Consult }) {
  const { t } = useTranslation();
  const why = useEnding(row.ended, consult);
  return (
    <>
      <CircleSlash className={styles.icon} aria-hidden="true" />
      <p className={styles.text} role="status" data-testid="binding-none">
        <strong>{row.device.name}</strong>
        <span>
          {t("binding.notBound")}
          {!row.canBind && ` ${t("binding.notBoundHint")}`}
        </span>
        {why !== "" && <span data-testid="binding-ended">{why}</span>}
      </p>
    </>
  );
}

/** Why the last binding ended, in words. */
function useEnding(ended: DeviceUnbound | null, consult: Consult): string {
  const { t } = useTranslation();
  if (ended === null) return "";
  const { reason, by, device } = ended;
  if (reason === "context_changed" || reason === "consult_ended") return "";
  if (reason !== "by_person") return t(`binding.ended.${reason}`);
  if (by === device) return t("binding.ended.by_device");
  return t("binding.ended.by_person", { name: by === null ? "" : (consult.participants[by]?.name ?? "") });
}

/** Both identities, in red and in words: nobody may overlook that this may be somebody else's heart. (W22) */
function Blocked({ row, mismatch }: { row: DeviceRow; mismatch: Mismatch }) {
  const { t } = useTranslation();
  return (
    <>
      <OctagonX className={styles.icon} aria-hidden="true" />
      <p className={styles.text} role="alert" data-testid="binding-mismatch">
        <strong className={styles.alarm}>{t("binding.mismatch.title")}</strong>
        <span>
          {t("binding.mismatch.device", { name: row.device.name })}{" "}
          <strong className={styles.id}>{mismatch.reported}</strong>
        </span>
        <span>
          {t("binding.mismatch.bound")}{" "}
          {mismatch.identifiers.map(({ label, value }) => (
            <span key={label} className={styles.pair}>
              {label} <strong className={styles.id}>{value}</strong>
            </span>
          ))}
        </span>
        <span>{t("binding.mismatch.hint")}</span>
      </p>
    </>
  );
}
