/** The first page: what a consulting doctor must know before anything else. */
import { useTranslation } from "react-i18next";
import { newestFirst } from "../fhir";
import type { Encounter } from "../fhirClinical";
import { groupResults, isOutOfRange } from "../fhirLabs";
import styles from "../RecordPane.module.css";
import { type Loaded, usePane } from "../recordData";
import type { Page } from "../types";
import { AllergyRow, byRisk } from "./Allergies";
import { FlagMark, Result } from "./Labs";
import { MedicationRow } from "./Medications";
import { ProblemRow } from "./Problems";
import { Empty, full, Name, PageTitle, Ready, Row, Section, When } from "./parts";
import { ReportRow } from "./Reports";
import { LatestVitals } from "./Vitals";

/** How many of each kind: the rest is one tab away. */
const MANY = 8;
const FEW = 4;

export function SummaryPage() {
  const { t } = useTranslation();
  return (
    <>
      <PageTitle page="summary" />
      <div className={styles.columns}>
        <div className={styles.column}>
          <Section title={t("record.summary.allergies")}>
            <AllergyList />
          </Section>
          <Section title={t("record.summary.problems")}>
            <ProblemList />
          </Section>
          <Section title={t("record.summary.labs")}>
            <OutOfRange />
          </Section>
        </div>
        <div className={styles.column}>
          <Section title={t("record.summary.medications")}>
            <MedicationList />
          </Section>
          <Section title={t("record.summary.vitals")}>
            <LatestVitals />
          </Section>
          <Section title={t("record.summary.reports")}>
            <ReportList />
          </Section>
          <Section title={t("record.summary.encounters")}>
            <EncounterList />
          </Section>
        </div>
      </div>
    </>
  );
}

function More({ page, total, shown }: { page: Page; total: number; shown: number }) {
  const { t } = useTranslation();
  const { go, wall } = usePane();
  if (total <= shown) return null;
  const text = t("record.summary.more", { count: total });
  if (wall) return <p className={styles.more}>{text}</p>;
  return (
    <button type="button" className={styles.more} onClick={() => go(page)}>
      {text}
    </button>
  );
}

function AllergyList() {
  const { t } = useTranslation();
  const { data } = usePane();
  return (
    <Ready of={data.allergies}>
      {(all) => {
        const current = all.filter((one) => one.current).toSorted(byRisk);
        if (current.length === 0) {
          return <Empty text={t("record.allergies.empty")} body={t("record.allergies.emptyBody")} />;
        }
        // Never cut: an allergy out of sight is an allergy that gets prescribed.
        return (
          <ul className={styles.rows}>
            {current.map((one) => (
              <AllergyRow key={one.id} allergy={one} />
            ))}
          </ul>
        );
      }}
    </Ready>
  );
}

function ProblemList() {
  const { t } = useTranslation();
  const { data } = usePane();
  return (
    <Ready of={data.problems}>
      {(all) => {
        const current = newestFirst(
          all.filter((one) => one.current),
          (one) => one.onset,
        );
        if (current.length === 0) return <Empty text={t("record.problems.empty")} />;
        return (
          <>
            <ul className={styles.rows}>
              {current.slice(0, MANY).map((one) => (
                <ProblemRow key={one.id} problem={one} />
              ))}
            </ul>
            <More page="problems" total={current.length} shown={MANY} />
          </>
        );
      }}
    </Ready>
  );
}

function MedicationList() {
  const { t } = useTranslation();
  const { data } = usePane();
  return (
    <Ready of={data.medications}>
      {(all) => {
        const current = newestFirst(
          all.filter((one) => one.current),
          (one) => one.since,
        );
        if (current.length === 0) return <Empty text={t("record.medications.empty")} />;
        return (
          <>
            <ul className={styles.rows}>
              {current.slice(0, MANY).map((one) => (
                <MedicationRow key={one.id} medication={one} brief />
              ))}
            </ul>
            <More page="medications" total={current.length} shown={MANY} />
          </>
        );
      }}
    </Ready>
  );
}

function OutOfRange() {
  const { t } = useTranslation();
  const { data } = usePane();
  return (
    <Ready of={data.labs}>
      {(values) => {
        if (values.length === 0) return <Empty text={t("record.labs.empty")} />;
        const out = groupResults(values).filter(({ latest }) => latest !== null && isOutOfRange(latest.flag));
        if (out.length === 0) return <Empty text={t("record.summary.labsNormal")} />;
        return (
          <ul className={styles.rows}>
            {out.map((series) => (
              <Row key={series.code} page="labs" item={series.code}>
                <div className={styles.rowMain}>
                  <Name term={series.name} />
                </div>
                <div className={styles.rowResult}>
                  {series.latest !== null && (
                    <>
                      <Result value={series.latest} /> <FlagMark flag={series.latest.flag} />
                      <When at={series.latest.at} />
                    </>
                  )}
                </div>
              </Row>
            ))}
          </ul>
        );
      }}
    </Ready>
  );
}

function ReportList() {
  const { t } = useTranslation();
  const { data } = usePane();
  return (
    <Ready of={data.reports} newestOnly>
      {(all) => {
        if (all.length === 0) return <Empty text={t("record.reports.empty")} />;
        return (
          <>
            <ul className={styles.rows}>
              {newestFirst(all, (one) => one.issued)
                .slice(0, FEW)
                .map((one) => (
                  <ReportRow key={one.id} report={one} />
                ))}
            </ul>
            <More page="reports" total={totalOf(data.reports)} shown={FEW} />
          </>
        );
      }}
    </Ready>
  );
}

function EncounterList() {
  const { t } = useTranslation();
  const { data } = usePane();
  return (
    <Ready of={data.encounters} newestOnly>
      {(all) => {
        if (all.length === 0) return <Empty text={t("record.summary.noEncounters")} />;
        return (
          <>
            <ul className={styles.rows}>
              {newestFirst(all, (one) => one.start)
                .slice(0, FEW)
                .map((one) => (
                  <EncounterRow key={one.id} encounter={one} />
                ))}
            </ul>
            <More page="history" total={totalOf(data.encounters)} shown={FEW} />
          </>
        );
      }}
    </Ready>
  );
}

const totalOf = (of: Loaded<unknown>): number => (of.state === "ready" ? of.total : 0);

function EncounterRow({ encounter }: { encounter: Encounter }) {
  return (
    <Row page="summary">
      <div className={styles.rowMain}>
        <Name term={encounter.kind} />
        {encounter.place !== "" && <p className={styles.soft}>{encounter.place}</p>}
      </div>
      <div className={styles.rowSide}>
        {encounter.reason !== null && <span className={styles.soft}>{full(encounter.reason)}</span>}
        <When at={encounter.start} />
      </div>
    </Row>
  );
}
