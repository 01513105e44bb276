/**
 * The bytes of one document, shown in the pane: plain text or a PNG image.
 *
 * Anything else is named, not opened: nothing of a patient's record is handed
 * to a plug-in or another tab. The text is decoded strictly as UTF-8; a file
 * that is none is said to be unreadable rather than shown with wrong letters.
 */
import { useQuery } from "@tanstack/react-query";
import { FileWarning } from "lucide-react";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useHttp } from "../../common/http";
import { worthRetrying } from "../../common/queries";
import type { Attachment } from "../fhirDocuments";
import styles from "../RecordPane.module.css";
import { fetchBinary, usePane } from "../recordData";
import { Failed, Notice } from "./parts";

export function AttachmentView({ attachment, title }: { attachment: Attachment; title: string }) {
  const { t } = useTranslation();
  const { contentType, binaryId, text } = attachment;
  if (text !== null) return <p className={styles.prose}>{text}</p>;
  if (contentType !== "text/plain" && contentType !== "image/png") {
    return <Notice icon={FileWarning} title={t("record.documents.cannotOpen", { type: contentType || "?" })} />;
  }
  if (binaryId === "") return <Notice icon={FileWarning} title={t("record.documents.noContent")} />;
  return <Fetched binaryId={binaryId} contentType={contentType} title={title} />;
}

type Content = { text: string } | { image: Blob };

function Fetched(props: { binaryId: string; contentType: "text/plain" | "image/png"; title: string }) {
  const { t } = useTranslation();
  const http = useHttp();
  const { context } = usePane();
  const { binaryId, contentType } = props;
  const query = useQuery({
    queryKey: ["record", context.consultId, context.version, context.patientId, "Binary", binaryId],
    queryFn: async ({ signal }): Promise<Content> => {
      const blob = await fetchBinary(http, context, binaryId, signal);
      if (contentType === "image/png") return { image: new Blob([blob], { type: "image/png" }) };
      return { text: new TextDecoder("utf-8", { fatal: true }).decode(await blob.arrayBuffer()) };
    },
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
    refetchOnWindowFocus: false,
    retry: (failures, error) => !(error instanceof TypeError) && worthRetrying(failures, error),
  });
  if (query.error instanceof TypeError) return <Notice icon={FileWarning} title={t("record.documents.failed")} />;
  if (query.error !== null) return <Failed error={query.error} retry={() => void query.refetch()} />;
  if (query.data === undefined) return <p className={styles.soft}>{t("common.loading")}</p>;
  if ("image" in query.data) return <Picture blob={query.data.image} title={props.title} />;
  return (
    <p className={styles.prose} data-testid="document-text">
      {query.data.text}
    </p>
  );
}

function Picture({ blob, title }: { blob: Blob; title: string }) {
  const { t } = useTranslation();
  const [url, setUrl] = useState("");
  const [broken, setBroken] = useState(false);
  useEffect(() => {
    const made = URL.createObjectURL(blob);
    setUrl(made);
    setBroken(false);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  if (broken) return <Notice icon={FileWarning} title={t("record.documents.failed")} />;
  if (url === "") return null;
  return (
    <img
      className={styles.image}
      data-testid="document-image"
      src={url}
      alt={t("record.documents.imageAlt", { title })}
      onError={() => setBroken(true)}
    />
  );
}
