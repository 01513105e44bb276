/** The patient's story by time: encounters, procedures and immunizations, newest first, year by year. */
import { useTranslation } from "react-i18next";
import { type Moment, newestFirst } from "../fhir";
import type { Encounter } from "../fhirClinical";
import type { Immunization, Procedure } from "../fhirHistory";
import { entryOf } from "../place";
import styles from "../RecordPane.module.css";
import { type Loaded, usePane } from "../recordData";
import { Empty, full, key, Name, PageTitle, Ready, Section, Tag, When } from "./parts";

type Event = { id: string; at: Moment | null } & (
  | { kind: "encounter"; of: Encounter }
  | { kind: "procedure"; of: Procedure }
  | { kind: "immunization"; of: Immunization }
);

export function HistoryPage({ item }: { item: string }) {
  const { t } = useTranslation();
  const { data } = usePane();
  const events = newestFirst(eventsOf(data.encounters, data.procedures, data.immunizations), (event) => event.at);
  const lists: readonly Loaded<unknown>[] = [data.encounters, data.procedures, data.immunizations];
  const isComplete = lists.every((of) => of.state === "ready");
  const years = new Map<string, Event[]>();
  for (const event of events) {
    const year = event.at?.text.slice(0, 4) ?? "";
    years.set(year, [...(years.get(year) ?? []), event]);
  }
  return (
    <>
      <PageTitle page="history" />
      {isComplete && events.length === 0 && <Empty text={t("record.history.empty")} />}
      {[...years].map(([year, some]) => (
        <Section key={year} title={year === "" ? t("record.unknownDate") : year} count={some.length}>
          <ul className={styles.rows}>
            {some.map((event) => (
              <EventRow key={`${event.kind} ${event.id}`} event={event} isOpen={event.id === entryOf(item)} />
            ))}
          </ul>
        </Section>
      ))}
      {lists.map((of, index) => (
        <Ready key={String(index)} of={of} page="history">
          {() => null}
        </Ready>
      ))}
    </>
  );
}

function eventsOf(
  encounters: Loaded<Encounter>,
  procedures: Loaded<Procedure>,
  immunizations: Loaded<Immunization>,
): readonly Event[] {
  return [
    ...itemsOf(encounters).map((of): Event => ({ kind: "encounter", id: of.id, at: of.start, of })),
    ...itemsOf(procedures).map((of): Event => ({ kind: "procedure", id: of.id, at: of.at, of })),
    ...itemsOf(immunizations).map((of): Event => ({ kind: "immunization", id: of.id, at: of.at, of })),
  ];
}

const itemsOf = <T,>(of: Loaded<T>): readonly T[] => (of.state === "ready" ? of.entries.items : []);

function EventRow({ event, isOpen }: { event: Event; isOpen: boolean }) {
  const { t } = useTranslation();
  return (
    <li className={styles.rowBox}>
      <div className={styles.row} data-tone={isOpen ? "ok" : "plain"}>
        <div className={styles.rowMain}>
          <EventBody event={event} />
        </div>
        <div className={styles.rowSide}>
          <span className={styles.tags}>
            <EventStatus event={event} />
            <Tag>{t(`record.history.${event.kind}`)}</Tag>
          </span>
          <span className={styles.whenPair}>
            <When at={event.at} />
            <EventEnd event={event} />
          </span>
        </div>
      </div>
    </li>
  );
}

function EventBody({ event }: { event: Event }) {
  const { t } = useTranslation();
  if (event.kind === "encounter") {
    const { kind, place, reason } = event.of;
    return (
      <>
        <Name term={kind} struck={event.of.isVoid} />
        {place !== "" && <p className={styles.soft}>{place}</p>}
        {reason !== null && <p className={styles.soft}>{full(reason)}</p>}
      </>
    );
  }
  if (event.kind === "procedure") {
    const { name, status, by, place, site, outcome, note } = event.of;
    const where = [by, place, site === null ? "" : full(site)].filter((part) => part !== "").join(" · ");
    return (
      <>
        <Name term={name} struck={status === "entered-in-error"} />
        {where !== "" && <p className={styles.soft}>{where}</p>}
        {outcome !== null && <p>{full(outcome)}</p>}
        {note !== "" && <p className={styles.note}>{note}</p>}
      </>
    );
  }
  const { name, status, dose, lot, note } = event.of;
  const told = [
    dose === "" ? "" : t("record.history.dose", { dose }),
    lot === "" ? "" : t("record.history.lot", { lot }),
  ];
  return (
    <>
      <Name term={name} struck={status === "entered-in-error"} />
      {told.some((part) => part !== "") && (
        <p className={styles.soft}>{told.filter((part) => part !== "").join(" · ")}</p>
      )}
      {note !== "" && <p className={styles.note}>{note}</p>}
    </>
  );
}

const ENCOUNTER_STATUS = ["planned", "cancelled", "entered-in-error", "unknown"] as const;

/** What is over and done needs no word; anything else must be seen. */
function EventStatus({ event }: { event: Event }) {
  const { t } = useTranslation();
  if (event.kind === "encounter") {
    if (event.of.open) return <Tag tone="ok">{t("record.history.open")}</Tag>;
    const unusual = ENCOUNTER_STATUS.find((status) => status === event.of.status);
    return unusual === undefined ? null : <Tag tone="warn">{t(`record.encounterStatus.${key(unusual)}`)}</Tag>;
  }
  const { status } = event.of;
  return status === "completed" ? null : <Tag tone="warn">{t(`record.eventStatus.${key(status)}`)}</Tag>;
}

function EventEnd({ event }: { event: Event }) {
  const { t } = useTranslation();
  if (event.kind === "immunization") return null;
  const { end } = event.of;
  const isSameDay = end?.text.slice(0, 10) === event.at?.text.slice(0, 10);
  return end === null || isSameDay ? null : <When at={end} label={t("record.history.until")} dayOnly />;
}
