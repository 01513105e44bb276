/**
 * The bytes of one document, shown in the pane: plain text, a picture or the pages of a PDF.
 *
 * Anything else is named, not opened: nothing of a patient's record is handed
 * to a plug-in or another tab. The text is decoded strictly as UTF-8; a file
 * that is none is said to be unreadable rather than shown with wrong letters.
 */
import { useQuery } from "@tanstack/react-query";
import { FileWarning } from "lucide-react";
import { lazy, Suspense, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { useHttp } from "../../common/http";
import { type Attachment, bytesOf } from "../fhirDocuments";
import { type Place, writePlace } from "../place";
import styles from "../RecordPane.module.css";
import { fetchBinary, KEPT, overtakenOrWorthRetrying, recordKey, usePane } from "../recordData";
import type { Page } from "../types";
import own from "./pages.module.css";
import { Failed, Lines, Notice } from "./parts";
import { useObjectUrl } from "./useObjectUrl";
import { ZoomBox } from "./ZoomBox";

// PDF.js is larger than all our pages together: it comes with the first PDF.
const PdfView = lazy(() => import("./PdfView"));
const EcgTrace = lazy(() => import("./EcgTrace"));

const SHOWN = ["text/plain", "image/png", "image/jpeg", "application/pdf"] as const;
type Shown = (typeof SHOWN)[number];

export interface AttachmentViewProps {
  attachment: Attachment;
  title: string;
  page: Page;
  place: Place;
  /** The DocumentReference that names it; a report has none. */
  document?: string;
}

export function AttachmentView({ attachment, title, page, place, document }: AttachmentViewProps) {
  const { t } = useTranslation();
  const { contentType, binaryId, text } = attachment;
  if (text !== null) return <p className={styles.prose}>{text}</p>;
  if (attachment.dicom !== "" && document !== undefined) return <StoredTrace {...{ document, title }} />;
  const shown = SHOWN.find((type) => type === contentType);
  if (shown === undefined) {
    return <Notice icon={FileWarning} title={t("record.documents.cannotOpen", { type: contentType || "?" })} />;
  }
  if (attachment.data !== "") return <Inline contentType={shown} data={attachment.data} {...{ title, page, place }} />;
  if (binaryId !== "") return <Fetched contentType={shown} {...{ binaryId, title, page, place }} />;
  const why = attachment.isElsewhere ? "record.documents.elsewhere" : "record.documents.noContent";
  return <Notice icon={FileWarning} title={t(why)} />;
}

/** Bytes that the resource carries itself. */
function Inline({ data, contentType, ...shown }: Omit<FetchedProps, "binaryId"> & { data: string }) {
  const { t } = useTranslation();
  const blob = useMemo(() => {
    const bytes = contentType === "text/plain" ? null : bytesOf(data);
    return bytes === null ? null : new Blob([bytes], { type: contentType });
  }, [data, contentType]);
  if (blob === null) return <Notice icon={FileWarning} title={t("record.documents.failed")} />;
  return <Drawn blob={blob} contentType={contentType} {...shown} />;
}

/** A trace is a program of its own, and comes with the first one. */
export function StoredTrace(props: { document: string; title: string }) {
  return (
    <Suspense fallback={<Lines />}>
      <EcgTrace {...props} />
    </Suspense>
  );
}

type Content = { text: string } | { blob: Blob };

interface FetchedProps {
  binaryId: string;
  contentType: Shown;
  title: string;
  page: Page;
  place: Place;
}

function Fetched({ binaryId, contentType, ...shown }: FetchedProps) {
  const { t } = useTranslation();
  const http = useHttp();
  const { context } = usePane();
  const query = useQuery({
    queryKey: recordKey(context, "Binary", binaryId),
    queryFn: async ({ signal }): Promise<Content> => {
      const blob = await fetchBinary(http, context, binaryId, signal);
      // The type is the record's word, never what the answer happens to say.
      if (contentType !== "text/plain") return { blob: new Blob([blob], { type: contentType }) };
      return { text: new TextDecoder("utf-8", { fatal: true }).decode(await blob.arrayBuffer()) };
    },
    ...KEPT,
    retry: (failures, error) => !(error instanceof TypeError) && overtakenOrWorthRetrying(failures, error),
  });
  if (query.error instanceof TypeError) return <Notice icon={FileWarning} title={t("record.documents.failed")} />;
  if (query.error !== null) return <Failed error={query.error} retry={() => void query.refetch()} />;
  if (query.data === undefined) return <p className={styles.soft}>{t("common.loading")}</p>;
  if ("text" in query.data) {
    return (
      <p className={styles.prose} data-testid="document-text">
        {query.data.text}
      </p>
    );
  }
  return <Drawn blob={query.data.blob} contentType={contentType} {...shown} />;
}

function Drawn({ blob, contentType, ...shown }: Omit<FetchedProps, "binaryId"> & { blob: Blob }) {
  return (
    // Bytes of another length are another edition, whatever is written beside them.
    <div data-edition={blob.size}>
      {contentType === "application/pdf" ? (
        <Suspense fallback={<Lines />}>
          <PdfView blob={blob} {...shown} />
        </Suspense>
      ) : (
        <Picture blob={blob} {...shown} />
      )}
    </div>
  );
}

function Picture(props: { blob: Blob; title: string; page: Page; place: Place }) {
  const { t } = useTranslation();
  const { go } = usePane();
  const { blob, title, page, place } = props;
  const url = useObjectUrl(blob);
  const [aspect, setAspect] = useState<number | "broken">(4 / 3);
  if (aspect === "broken") return <Notice icon={FileWarning} title={t("record.documents.failed")} />;
  return (
    <ZoomBox
      kind="picture"
      label={title}
      aspect={aspect}
      zoom={place.zoom}
      onZoom={(zoom) => go(page, writePlace({ ...place, zoom }))}
    >
      {url !== "" && (
        <img
          className={own.sheet}
          data-testid="document-image"
          src={url}
          alt={t("record.documents.imageAlt", { title })}
          draggable={false}
          onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) =>
            setAspect(naturalWidth > 0 && naturalHeight > 0 ? naturalWidth / naturalHeight : "broken")
          }
          onError={() => setAspect("broken")}
        />
      )}
    </ZoomBox>
  );
}
