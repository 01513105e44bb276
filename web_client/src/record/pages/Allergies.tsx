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
    (one.current ? 0 : 100) + (one.criticality === "high" ? 0 : 10) + (one.severity === null ? 3 : RANK[one.severity]);
  return rank(a) - rank(b);
}

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
                <AllergyRow key={allergy.id} allergy={allergy} open={allergy.id === item} />
              ))}
            </ul>
          )
        }
      </Ready>
    </>
  );
}

export function AllergyRow({ allergy, open = false }: { allergy: Allergy; open?: boolean }) {
  const { t } = useTranslation();
  const grave = allergy.current && (allergy.criticality === "high" || allergy.severity === "severe");
  const severity = allergy.severity ?? "unknownSeverity";
  const tone: Tone = allergy.severity === "severe" ? "danger" : allergy.severity === "moderate" ? "warn" : "plain";
  return (
    <Row page="allergies" tone={grave ? "danger" : open ? "ok" : "plain"}>
      <div className={styles.rowMain}>
        <Name term={allergy.substance} struck={!allergy.current} />
        {allergy.reactions.length > 0 && (
          <p className={styles.dose}>{allergy.reactions.map((reaction) => full(reaction)).join(", ")}</p>
        )}
        {allergy.note !== "" && <p className={styles.note}>{allergy.note}</p>}
      </div>
      <div className={styles.rowSide}>
        <span className={styles.tags}>
          {allergy.criticality !== null && (
            <Tag tone={allergy.criticality === "high" ? "danger" : "plain"}>
              {t(
                `record.allergies.${allergy.criticality === "unable-to-assess" ? "unableToAssess" : allergy.criticality}`,
              )}
            </Tag>
          )}
          <Tag tone={tone}>{t(`record.allergies.${severity}`)}</Tag>
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
