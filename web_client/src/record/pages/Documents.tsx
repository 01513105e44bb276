/** Documents: the list, and one of them shown in the pane. */
import { FileX2 } from "lucide-react";
import { useTranslation } from "react-i18next";
import { newestFirst } from "../fhir";
import type { Attachment, Document } from "../fhirDocuments";
import { type Place, readPlace } from "../place";
import styles from "../RecordPane.module.css";
import { usePane } from "../recordData";
import { AttachmentView } from "./AttachmentView";
import { BackToList, Empty, full, Name, Notice, PageTitle, Ready, Row, Sought, Tag, When, Withdrawn } from "./parts";

export function DocumentsPage({ item }: { item: string }) {
  const { t } = useTranslation();
  const { data } = usePane();
  const place = readPlace(item);
  const { id } = place;
  return (
    <>
      {id === "" && <PageTitle page="documents" />}
      <Ready of={data.documents} page="documents" quiet={id !== ""}>
        {(documents) => {
          if (id !== "")
            return <OneDocument document={documents.find((document) => document.id === id)} place={place} />;
          if (documents.length === 0) return <Empty text={t("record.documents.empty")} />;
          return (
            <ul className={styles.rows}>
              {newestFirst(documents, (document) => document.date).map((document) => (
                <DocumentRow key={document.id} document={document} />
              ))}
            </ul>
          );
        }}
      </Ready>
    </>
  );
}

function DocumentRow({ document }: { document: Document }) {
  return (
    <Row page="documents" item={document.id} testId={`document-${document.id}`}>
      <div className={styles.rowMain}>
        <Name term={document.title} struck={document.isWithdrawn} />
        {document.author !== "" && <p className={styles.soft}>{document.author}</p>}
      </div>
      <div className={styles.rowSide}>
        <span className={styles.tags}>
          <DocumentStatus document={document} />
          {document.kind !== null && document.kind.en !== document.title.en && <Tag>{full(document.kind)}</Tag>}
          {document.attachments.map((attachment, index) => (
            <Tag key={attachment.binaryId || index}>
              <Format attachment={attachment} />
            </Tag>
          ))}
        </span>
        <When at={document.date} />
      </div>
    </Row>
  );
}

/** A document that is current needs no word; anything else must be seen. */
function DocumentStatus({ document: { superseded, isWithdrawn, isPreliminary } }: { document: Document }) {
  const { t } = useTranslation();
  if (isWithdrawn) return <Tag tone="danger">{t("record.reportStatus.entered_in_error")}</Tag>;
  if (superseded) return <Tag tone="warn">{t("record.documents.superseded")}</Tag>;
  return isPreliminary ? <Tag tone="warn">{t("record.reportStatus.preliminary")}</Tag> : null;
}

function Format({ attachment }: { attachment: Attachment }) {
  const { t } = useTranslation();
  if (attachment.contentType === "text/plain") return t("record.documents.text");
  if (attachment.contentType === "image/png" || attachment.contentType === "image/jpeg")
    return t("record.documents.image");
  if (attachment.contentType === "application/pdf") return "PDF";
  if (attachment.contentType === "application/dicom") return "DICOM";
  return t("record.documents.other", { type: attachment.contentType || "?" });
}

function OneDocument({ document, place }: { document: Document | undefined; place: Place }) {
  const { t } = useTranslation();
  const { data } = usePane();
  if (document === undefined) {
    return (
      <>
        <BackToList page="documents" />
        <Sought of={data.documents}>
          <Notice icon={FileX2} title={t("record.notHere")} />
        </Sought>
      </>
    );
  }
  return (
    <>
      <BackToList page="documents" />
      <header className={styles.pageHead} data-edition={document.edition}>
        <h2 className={styles.pageTitle}>
          <Name term={document.title} struck={document.isWithdrawn} />
        </h2>
        <p className={styles.byline}>
          <DocumentStatus document={document} />
          <When at={document.date} />
          {document.author !== "" && (
            <span>
              <span className={styles.soft}>{t("record.documents.author")}</span> {document.author}
            </span>
          )}
        </p>
      </header>
      {document.isWithdrawn && <Withdrawn />}
      {document.attachments.length === 0 && <Empty text={t("record.documents.noContent")} />}
      {document.attachments.map((attachment, index) => (
        <AttachmentView
          key={attachment.binaryId || index}
          attachment={attachment}
          title={full(document.title)}
          page="documents"
          place={place}
          document={document.id}
        />
      ))}
    </>
  );
}
