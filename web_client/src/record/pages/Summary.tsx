/** The first page: what a consulting doctor must know before anything else. */
import { useTranslation } from "react-i18next";
import { newestFirst } from "../fhir";
import { type Encounter, isStanding } from "../fhirClinical";
import { groupResults, isOutOfRange } from "../fhirLabs";
import styles from "../RecordPane.module.css";
import { type Loaded, usePane } from "../recordData";
import { AllergyRow, byRisk, contradictory } from "./Allergies";
import { FlagMark, Result, StatusOf } from "./Labs";
import { MedicationRow } from "./Medications";
import { ProblemRow } from "./Problems";
import { Empty, full, More, Name, PageTitle, Ready, Row, Section, When } from "./parts";
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
        const contradicts = contradictory(current);
        // Never cut: an allergy out of sight is an allergy that gets prescribed.
        return (
          <ul className={styles.rows}>
            {current.map((one) => (
              <AllergyRow key={one.id} allergy={one} contradicts={contradicts} />
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
          (one) => one.onset ?? one.recorded,
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
      {(ordered) => {
        const all = [...ordered, ...(data.statements.state === "ready" ? data.statements.entries.items : [])];
        const current = newestFirst(
          all.filter((one) => one.current),
          (one) => one.since,
        );
        const prohibited = all.filter((one) => one.isProhibited && isStanding(one.status));
        if (current.length === 0 && prohibited.length === 0) {
          return data.statements.state === "ready" && <Empty text={t("record.medications.noneCurrent")} />;
        }
        return (
          <>
            <ul className={styles.rows}>
              {[...prohibited, ...current.slice(0, MANY)].map((one) => (
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

/** Results that nobody rated are not said to be normal. */
function Unrated({ count }: { count: number }) {
  const { t } = useTranslation();
  return count === 0 ? null : <p className={styles.footnote}>{t("record.summary.unrated", { count })}</p>;
}

function OutOfRange() {
  const { t } = useTranslation();
  const { data } = usePane();
  return (
    <Ready of={data.labs}>
      {(values) => {
        if (values.length === 0) return <Empty text={t("record.labs.empty")} />;
        const series = groupResults(values);
        const out = series.filter(({ latest }) => latest !== null && isOutOfRange(latest.flag));
        const unrated = series.filter(({ latest }) => latest?.flag === "none").length;
        if (out.length === 0) {
          return (
            <>
              <Empty text={t("record.summary.labsNormal")} />
              <Unrated count={unrated} />
            </>
          );
        }
        return (
          <>
            <ul className={styles.rows}>
              {out.map((series) => (
                <Row key={series.code} page="labs" item={series.code}>
                  <div className={styles.rowMain}>
                    <Name term={series.name} />
                  </div>
                  <div className={styles.rowResult}>
                    {series.latest !== null && (
                      <>
                        <Result value={series.latest} /> <FlagMark of={series.latest} />{" "}
                        <StatusOf value={series.latest} />
                        <When at={series.latest.at} />
                      </>
                    )}
                  </div>
                </Row>
              ))}
            </ul>
            {out.some(({ latest }) => latest?.isRatedHere) && (
              <p className={styles.footnote}>{t("record.labs.ratedHere")}</p>
            )}
            <Unrated count={unrated} />
          </>
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
        const valid = all.filter((one) => !one.isWithdrawn);
        if (valid.length === 0) return <Empty text={t("record.reports.empty")} />;
        return (
          <>
            <ul className={styles.rows}>
              {newestFirst(valid, (one) => one.issued)
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
        const valid = all.filter((one) => !one.isVoid);
        if (valid.length === 0) return <Empty text={t("record.summary.noEncounters")} />;
        return (
          <>
            <ul className={styles.rows}>
              {newestFirst(valid, (one) => one.start)
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
