/** What the patient takes, and what was stopped. */
import { useTranslation } from "react-i18next";
import { newestFirst } from "../fhir";
import { isStanding, type Medication } from "../fhirClinical";
import styles from "../RecordPane.module.css";
import { usePane } from "../recordData";
import { Empty, full, key, Name, PageTitle, Ready, Row, Section, Tag, When } from "./parts";

export function MedicationsPage({ item }: { item: string }) {
  const { t } = useTranslation();
  const { data } = usePane();
  const isEmpty = [data.medications, data.statements].every(
    (of) => of.state === "ready" && of.entries.items.length === 0,
  );
  return (
    <>
      <PageTitle page="medications" />
      {isEmpty && <Empty text={t("record.medications.empty")} />}
      <Ready of={data.medications}>
        {(all) =>
          groupsOf(all).map(({ name, medications }) => (
            <Group key={name} title={t(`record.medications.${name}`)} medications={medications} item={item} />
          ))
        }
      </Ready>
      <Ready of={data.statements}>
        {(all) => <Group title={t("record.medications.told")} medications={all} item={item} />}
      </Ready>
    </>
  );
}

/** What must not be given comes first; what nobody has ordered yet is neither current nor over. */
export function groupsOf(all: readonly Medication[]) {
  const standing = (one: Medication): boolean => one.isProhibited && isStanding(one.status);
  const planned = (one: Medication): boolean => !standing(one) && one.isPlanned && !OVER.includes(one.status);
  const over = (one: Medication): boolean => !one.current && !standing(one) && !planned(one);
  return [
    { name: "prohibited", medications: all.filter(standing) },
    { name: "current", medications: all.filter((one) => one.current) },
    { name: "planned", medications: all.filter(planned) },
    { name: "stopped", medications: all.filter(over) },
  ] as const;
}

const OVER: readonly Medication["status"][] = ["cancelled", "completed", "entered-in-error", "stopped", "not-taken"];

function Group(props: { title: string; medications: readonly Medication[]; item: string }) {
  if (props.medications.length === 0) return null;
  return (
    <Section title={props.title} count={props.medications.length}>
      <ul className={styles.rows}>
        {newestFirst(props.medications, (one) => one.since).map((one) => (
          <MedicationRow key={one.id} medication={one} open={one.id === props.item} />
        ))}
      </ul>
    </Section>
  );
}

export interface MedicationRowProps {
  medication: Medication;
  open?: boolean;
  /** On the summary: what is taken and how, not why and since when. */
  brief?: boolean;
}

export function MedicationRow({ medication, open = false, brief = false }: MedicationRowProps) {
  const { t } = useTranslation();
  const doses = medication.doses.map((dose) => dose.text).filter((text) => text !== "");
  const asNeeded = medication.doses.some((dose) => dose.asNeeded);
  return (
    <Row page="medications" tone={medication.isProhibited ? "danger" : open ? "ok" : "plain"}>
      <div className={styles.rowMain}>
        <Name term={medication.name} struck={medication.status === "entered-in-error"} />
        {(!medication.isProhibited || doses.length > 0) && (
          <p className={styles.dose}>{doses.length === 0 ? t("record.medications.notTold") : doses.join("; ")}</p>
        )}
        {medication.note !== "" && <p className={styles.note}>{medication.note}</p>}
      </div>
      <div className={styles.rowSide}>
        <span className={styles.tags}>
          {medication.isProhibited && <Tag tone="danger">{t("record.medications.doNotGive")}</Tag>}
          {brief && medication.source === "statement" && <Tag>{t("record.medications.byAccount")}</Tag>}
          {medication.isPlanned && medication.status === "active" && (
            <Tag tone="warn">{t("record.medications.notOrdered")}</Tag>
          )}
          {asNeeded && <Tag>{t("record.medications.asNeeded")}</Tag>}
          {medication.status !== "active" && (
            <Tag tone={medication.status === "on-hold" || medication.status === "unknown" ? "warn" : "plain"}>
              {t(`record.medicationStatus.${key(medication.status)}`)}
            </Tag>
          )}
        </span>
        {!brief && medication.reason !== null && (
          <span className={styles.soft}>
            {t("record.medications.reason")} {full(medication.reason)}
          </span>
        )}
        {!brief && <Period medication={medication} />}
      </div>
    </Row>
  );
}

/** From when until when, as far as the record says; an open end is said, not left to be guessed. */
function Period({
  medication: { since, until, current, isProhibited, isPlanned, source },
}: {
  medication: Medication;
}) {
  const { t } = useTranslation();
  const label = t(source === "order" ? "record.medications.since" : "record.since");
  return (
    <span className={styles.whenPair}>
      <When at={since} label={label} dayOnly />
      {until !== null && <When at={until} label={t("record.medications.until")} dayOnly />}
      {until === null && !current && !isProhibited && !isPlanned && (
        <span className={styles.soft}>{t("record.medications.endUnknown")}</span>
      )}
    </span>
  );
}
