/**
 * Who this is about: the same facts in the same order on every screen (W18).
 *
 * Name, sex, birth date and age, two identifiers, the test mark, and small the
 * context version every other view must agree with (W19). The banner never
 * scrolls away; its owner puts it outside anything that scrolls.
 */
import { UserRoundX } from "lucide-react";
import { useTranslation } from "react-i18next";
import { ageOn } from "./banner";
import styles from "./PatientBanner.module.css";
import type { PatientBanner as Patient } from "./types";

export interface PatientBannerProps {
  patient: Patient | null;
  contextVersion: number;
  /** "wall" is legible from four metres; "compact" is for lists. */
  size?: "desk" | "wall" | "compact";
  /** A patient with the same family name is open in another consult (W25). */
  namesake?: boolean;
}

export function PatientBanner({ patient, contextVersion, size = "desk", namesake = false }: PatientBannerProps) {
  const { t } = useTranslation();
  return (
    <section
      className={styles.banner}
      data-size={size}
      data-namesake={namesake && patient !== null}
      data-testid="patient-banner"
      data-patient={patient?.id ?? ""}
      data-context={contextVersion}
      aria-label={t("record.banner.label")}
    >
      {patient === null ? (
        <p className={styles.none}>
          <UserRoundX aria-hidden="true" className={styles.noneIcon} />
          {t("record.banner.none")}
        </p>
      ) : (
        <Identity patient={patient} />
      )}
      {namesake && patient !== null && (
        <strong className={styles.namesake} data-testid="namesake">
          {t("share.namesake")}
        </strong>
      )}
      {size !== "compact" && (
        <span className={styles.context} title={t("record.banner.contextHint")}>
          {t("record.banner.context", { version: contextVersion })}
        </span>
      )}
    </section>
  );
}

/** The facts alone, for places that are not about the open context (a consult's list of patients). */
export function Identity({ patient }: { patient: Patient }) {
  const { t } = useTranslation();
  const age = ageOn(patient.birth_date, new Date());
  return (
    <div className={styles.facts}>
      <span className={styles.names}>
        <strong className={styles.name}>{patient.name}</strong>
        {patient.name_latin !== "" && patient.name_latin !== patient.name && (
          <span className={styles.latin}>{patient.name_latin}</span>
        )}
      </span>
      <span className={styles.fact}>{t(`record.banner.${patient.sex}`)}</span>
      <span className={styles.fact}>
        <span className={styles.key}>{t("record.banner.born")}</span> {patient.birth_date}
        {age !== null && <span className={styles.age}> · {t(`record.banner.${age.unit}`, { count: age.count })}</span>}
      </span>
      {patient.identifiers.map((identifier) => (
        <span className={styles.fact} key={`${identifier.label} ${identifier.value}`}>
          <span className={styles.key}>{identifier.label}</span>{" "}
          <span className={styles.id} data-testid="banner-identifier">
            {identifier.value}
          </span>
        </span>
      ))}
      {patient.test && <strong className={styles.test}>{t("record.banner.test")}</strong>}
    </div>
  );
}
