/** What must not be given. An empty list is said to be no statement at all. */
import { useTranslation } from "react-i18next";
import type { Allergy } from "../fhirClinical";
import styles from "../RecordPane.module.css";
import { usePane } from "../recordData";
import { Empty, full, key, Name, PageTitle, Ready, Row, Tag, type Tone } from "./parts";

const RANK = { severe: 0, moderate: 1, mild: 2 } as const;

/** Those that can kill first, those that no longer count last. */
export function byRisk(a: Allergy, b: Allergy): number {
  const rank = (one: Allergy): number =>
    (one.current ? 0 : 100) +
    (one.isNone ? 50 : 0) +
    (one.criticality === "high" ? 0 : 10) +
    (one.severity === null ? 3 : RANK[one.severity]);
  return rank(a) - rank(b);
}

/** Somebody wrote that there is none, somebody else one that there is: both stand, and are asked about. */
export const contradictory = (current: readonly Allergy[]): boolean =>
  current.some((one) => one.isNone) && current.some((one) => !one.isNone);

export function AllergiesPage({ item }: { item: string }) {
  const { t } = useTranslation();
  const { data } = usePane();
  return (
    <>
      <PageTitle page="allergies" />
      <Ready of={data.allergies}>
        {(all) =>
          all.length === 0 ? (
            <Empty text={t("record.allergies.empty")} body={t("record.allergies.emptyBody")} />
          ) : (
            <ul className={styles.rows}>
              {all.toSorted(byRisk).map((allergy) => (
                <AllergyRow
                  key={allergy.id}
                  allergy={allergy}
                  open={allergy.id === item}
                  contradicts={contradictory(all.filter((one) => one.current))}
                />
              ))}
            </ul>
          )
        }
      </Ready>
    </>
  );
}

export interface AllergyRowProps {
  allergy: Allergy;
  open?: boolean;
  /** The list holds both allergies and a statement that there are none. */
  contradicts?: boolean;
}

export function AllergyRow({ allergy, open = false, contradicts = false }: AllergyRowProps) {
  const { t } = useTranslation();
  const isWrong = allergy.verification === "refuted" || allergy.verification === "entered-in-error";
  const grave = allergy.current && !allergy.isNone && (allergy.criticality === "high" || allergy.severity === "severe");
  const severity = allergy.severity ?? "unknownSeverity";
  const tone: Tone = allergy.severity === "severe" ? "danger" : allergy.severity === "moderate" ? "warn" : "plain";
  return (
    <Row page="allergies" tone={grave ? "danger" : open ? "ok" : "plain"}>
      <div className={styles.rowMain}>
        <Name term={allergy.substance} struck={isWrong} />
        {allergy.reactions.length > 0 && (
          <p className={styles.dose}>
            {allergy.reactions.map((reaction) => full(reaction)).join(t("common.listSeparator"))}
          </p>
        )}
        {allergy.note !== "" && <p className={styles.note}>{allergy.note}</p>}
      </div>
      <div className={styles.rowSide}>
        <span className={styles.tags}>
          {allergy.isNone && <Tag tone={contradicts ? "warn" : "ok"}>{t("record.allergies.noneStated")}</Tag>}
          {allergy.isNone && contradicts && <Tag tone="warn">{t("record.allergies.contradicted")}</Tag>}
          {allergy.isIntolerance && <Tag>{t("record.allergies.intolerance")}</Tag>}
          {(allergy.status === "inactive" || allergy.status === "resolved") && (
            <Tag>{t(`record.clinicalStatus.${allergy.status}`)}</Tag>
          )}
          {allergy.criticality !== null && !allergy.isNone && (
            <Tag tone={allergy.criticality === "high" ? "danger" : "plain"}>
              {t(
                `record.allergies.${allergy.criticality === "unable-to-assess" ? "unableToAssess" : allergy.criticality}`,
              )}
            </Tag>
          )}
          {!allergy.isNone && <Tag tone={tone}>{t(`record.allergies.${severity}`)}</Tag>}
          {allergy.verification !== null && allergy.verification !== "confirmed" && (
            <Tag tone="warn">{t(`record.verification.${key(allergy.verification)}`)}</Tag>
          )}
        </span>
        {allergy.recorded !== null && (
          <span className={styles.when}>{t("record.recorded", { date: allergy.recorded.text })}</span>
        )}
      </div>
    </Row>
  );
}
