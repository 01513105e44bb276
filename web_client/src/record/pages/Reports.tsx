/** Imaging, ECG and other reports: what was found and concluded, by whom, when. */
import { FileX2 } from "lucide-react";
import { useTranslation } from "react-i18next";
import { newestFirst } from "../fhir";
import { type Report, traceOf } from "../fhirDocuments";
import { type Place, readPlace } from "../place";
import styles from "../RecordPane.module.css";
import { usePane } from "../recordData";
import { AttachmentView, StoredTrace } from "./AttachmentView";
import {
  BackToList,
  Empty,
  full,
  key,
  Name,
  Notice,
  PageTitle,
  Ready,
  Row,
  Section,
  Sought,
  Tag,
  When,
  Withdrawn,
} from "./parts";

export function ReportsPage({ item }: { item: string }) {
  const { t } = useTranslation();
  const { data } = usePane();
  const place = readPlace(item);
  const { id } = place;
  return (
    <>
      {id === "" && <PageTitle page="reports" />}
      <Ready of={data.reports} page="reports" quiet={id !== ""}>
        {(reports) => {
          if (id !== "") return <OneReport report={reports.find((report) => report.id === id)} place={place} />;
          if (reports.length === 0) return <Empty text={t("record.reports.empty")} />;
          return (
            <ul className={styles.rows}>
              {newestFirst(reports, (report) => report.issued).map((report) => (
                <ReportRow key={report.id} report={report} />
              ))}
            </ul>
          );
        }}
      </Ready>
    </>
  );
}

export function ReportRow({ report }: { report: Report }) {
  return (
    <Row page="reports" item={report.id} testId={`report-${report.id}`}>
      <div className={styles.rowMain}>
        <Name term={report.title} struck={report.isWithdrawn} />
        {report.conclusion !== "" && !report.isWithdrawn && <p className={styles.clamp}>{report.conclusion}</p>}
      </div>
      <div className={styles.rowSide}>
        <span className={styles.tags}>
          <SectionTag report={report} />
          <StatusTag report={report} />
        </span>
        <When at={report.issued} />
      </div>
    </Row>
  );
}

/** The sections people meet daily have short names in both languages; others as the record names them. */
const SECTIONS = ["RAD", "CUS", "EC", "LAB", "PAT"] as const;

function SectionTag({ report }: { report: Report }) {
  const { t } = useTranslation();
  const known = SECTIONS.find((section) => section === report.section);
  if (known !== undefined) return <Tag>{t(`record.section.${known}`)}</Tag>;
  return report.category === null ? null : <Tag>{full(report.category)}</Tag>;
}

/** A final report needs no tag; anything else must be seen. */
function StatusTag({ report }: { report: Report }) {
  const { t } = useTranslation();
  if (report.status === "final") return null;
  return <Tag tone="warn">{t(`record.reportStatus.${key(report.status)}`)}</Tag>;
}

function OneReport({ report, place }: { report: Report | undefined; place: Place }) {
  const { t } = useTranslation();
  const { data } = usePane();
  if (report === undefined) {
    return (
      <>
        <BackToList page="reports" />
        <Sought of={data.reports}>
          <Notice icon={FileX2} title={t("record.notHere")} />
        </Sought>
      </>
    );
  }
  const documents = data.documents.state === "ready" ? data.documents.entries.items : [];
  const trace = traceOf(report.id, documents);
  const silent =
    report.conclusion === "" && report.findings === "" && report.attachments.length === 0 && trace === null;
  return (
    <>
      <BackToList page="reports" />
      <header className={styles.pageHead} data-edition={report.edition}>
        <h2 className={styles.pageTitle}>
          <Name term={report.title} struck={report.isWithdrawn} />
        </h2>
        <p className={styles.byline}>
          <StatusTag report={report} />
          <When at={report.issued} />
          {report.by !== "" && (
            <span>
              <span className={styles.soft}>{t("record.reports.by")}</span> {report.by}
            </span>
          )}
        </p>
      </header>
      {report.isWithdrawn && <Withdrawn />}
      {report.conclusion !== "" && (
        <Section title={t("record.reports.conclusion")}>
          <p className={styles.conclusion}>{report.conclusion}</p>
        </Section>
      )}
      {report.findings !== "" && (
        <Section title={t("record.reports.findings")}>
          <p className={styles.prose}>{report.findings}</p>
        </Section>
      )}
      {trace !== null && (
        <Section title={t("record.ecg.stored")}>
          <StoredTrace document={trace.id} title={full(trace.title)} />
        </Section>
      )}
      {report.attachments.map((attachment, index) => (
        <AttachmentView
          key={attachment.binaryId || index}
          attachment={attachment}
          title={full(report.title)}
          page="reports"
          place={place}
        />
      ))}
      {silent && <Empty text={t("record.reports.noText")} />}
    </>
  );
}
