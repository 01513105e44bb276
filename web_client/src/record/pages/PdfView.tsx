/**
 * One page of a PDF in the pane; which one is part of the shared view, so followers turn with the lead.
 *
 * The document lives as long as this view: unmounting (another patient, another entry) ends its worker, wipes the canvas
 * and drops every byte (W24). Whatever a page still draws then is cancelled.
 */
import { ActionIcon } from "@mantine/core";
import { ChevronLeft, ChevronRight, FileLock2, FileWarning } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { type Place, WHOLE, writePlace } from "../place";
import { usePane } from "../recordData";
import type { Page } from "../types";
import own from "./pages.module.css";
import { Lines, Notice } from "./parts";
import { drawPage, openPdf, type PageSize, type PDFDocumentProxy, pageSize, pageText, wipe } from "./pdf";
import { ZoomBox } from "./ZoomBox";

export interface PdfViewProps {
  blob: Blob;
  title: string;
  page: Page;
  place: Place;
}

type Opened = "loading" | "failed" | "locked" | PDFDocumentProxy;

export default function PdfView({ blob, title, page, place }: PdfViewProps) {
  const { t } = useTranslation();
  const opened = useDocument(blob);
  if (opened === "loading") return <Lines />;
  if (opened === "locked") return <Notice icon={FileLock2} title={t("record.pdf.locked")} />;
  if (opened === "failed") return <Notice icon={FileWarning} title={t("record.documents.failed")} />;
  return <Sheets document={opened} {...{ title, page, place }} />;
}

function useDocument(blob: Blob): Opened {
  const [opened, setOpened] = useState<Opened>("loading");
  useEffect(() => {
    const gone = new AbortController();
    setOpened("loading");
    blob
      .arrayBuffer()
      .then((data) => openPdf(data, gone.signal))
      .then(
        (document) => !gone.signal.aborted && setOpened(document),
        (error: unknown) =>
          !gone.signal.aborted &&
          setOpened(error instanceof Error && error.name === "PasswordException" ? "locked" : "failed"),
      );
    return () => gone.abort();
  }, [blob]);
  return opened;
}

function Sheets(props: { document: PDFDocumentProxy; title: string; page: Page; place: Place }) {
  const { t } = useTranslation();
  const { go } = usePane();
  const { document, title, page, place } = props;
  const count = document.numPages;
  const number = Math.min(count, place.part);
  const size = useSize(document, number);
  const turn = (part: number): void => go(page, writePlace({ ...place, part, zoom: WHOLE }));
  const label = t("record.pdf.page", { page: number, count });
  return (
    <ZoomBox
      kind="page"
      label={title}
      aspect={size === null ? 1 / Math.SQRT2 : size.width / size.height}
      zoom={place.zoom}
      onZoom={(zoom) => go(page, writePlace({ ...place, part: number, zoom }))}
      tools={
        <span className={own.zoomGroup}>
          <ActionIcon
            variant="default"
            size="lg"
            aria-label={t("record.pdf.previous")}
            data-testid="pdf-previous"
            disabled={number === 1}
            onClick={() => turn(number - 1)}
          >
            <ChevronLeft aria-hidden="true" size={18} />
          </ActionIcon>
          <span className={own.zoomPercent} data-testid="pdf-page" aria-live="polite">
            {label}
          </span>
          <ActionIcon
            variant="default"
            size="lg"
            aria-label={t("record.pdf.next")}
            data-testid="pdf-next"
            disabled={number === count}
            onClick={() => turn(number + 1)}
          >
            <ChevronRight aria-hidden="true" size={18} />
          </ActionIcon>
        </span>
      }
    >
      {size !== null && (
        <Sheet key={number} {...{ document, number, label: `${title}, ${label}` }} percent={place.zoom.percent} />
      )}
    </ZoomBox>
  );
}

function useSize(document: PDFDocumentProxy, number: number): PageSize | null {
  const [size, setSize] = useState<(PageSize & { number: number }) | null>(null);
  useEffect(() => {
    let isCurrent = true;
    pageSize(document, number).then(
      (found) => isCurrent && setSize({ ...found, number }),
      () => isCurrent && setSize({ width: 1, height: Math.SQRT2, number }),
    );
    return () => {
      isCurrent = false;
    };
  }, [document, number]);
  return size?.number === number ? size : null;
}

function Sheet(props: { document: PDFDocumentProxy; number: number; label: string; percent: number }) {
  const { t } = useTranslation();
  const { document, number, label, percent } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [state, setState] = useState<"drawing" | "drawn" | "failed">("drawing");
  const [text, setText] = useState("");

  useEffect(() => {
    const element = canvas.current;
    if (element === null) return;
    const gone = new AbortController();
    // Enlarged, the canvas is that much wider, and is drawn again with as many more points.
    element.dataset.percent = String(percent);
    const width = element.clientWidth * Math.min(2, window.devicePixelRatio || 1);
    drawPage(document, number, element, width, gone.signal).then(
      () => !gone.signal.aborted && setState("drawn"),
      () => !gone.signal.aborted && setState("failed"),
    );
    return () => {
      gone.abort();
      wipe(element);
    };
  }, [document, number, percent]);

  useEffect(() => {
    let isCurrent = true;
    pageText(document, number).then(
      (found) => isCurrent && setText(found),
      () => undefined,
    );
    return () => {
      isCurrent = false;
    };
  }, [document, number]);

  if (state === "failed") return <Notice icon={FileWarning} title={t("record.pdf.pageFailed")} />;
  return (
    <>
      <canvas
        ref={canvas}
        className={own.sheet}
        data-testid="pdf-sheet"
        data-page={number}
        data-state={state}
        role="img"
        aria-label={text === "" && state === "drawn" ? t("record.pdf.noText", { label }) : label}
      />
      {state === "drawing" && (
        <div className={own.drawing}>
          <Lines />
        </div>
      )}
      <div className="visually-hidden" data-testid="pdf-text">
        {text}
      </div>
    </>
  );
}
