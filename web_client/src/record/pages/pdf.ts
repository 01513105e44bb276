/**
 * PDF.js, loaded when the first PDF is opened: parsed in a worker of its own, everything from our own origin.
 *
 * Nothing in a document may run: no forms, no scripts, no links. WebAssembly and eval are off, so the page's
 * Content-Security-Policy stays as it is. Character maps for Chinese, Japanese and Korean fonts that a file does not
 * carry, the standard fonts and the decoders for scans lie beside our own files (vite.config.ts).
 */
import { GlobalWorkerOptions, getDocument, type PDFDocumentProxy, version } from "pdfjs-dist/legacy/build/pdf.mjs";
import workerUrl from "pdfjs-dist/legacy/build/pdf.worker.min.mjs?url";

const FILES = `${import.meta.env.BASE_URL}assets/pdfjs-${version}/`;
/** More than any sheet needs, and less than would stop a wall. */
const MAX_CANVAS_PX = 16_000_000;
const MAX_IMAGE_PX = 64_000_000;
const MAX_TEXT = 200_000;

export type { PDFDocumentProxy };

/**
 * Open a document; the abort ends the worker too.
 *
 * @throws Error of PDF.js for what is no PDF, is damaged, or needs a password
 */
export async function openPdf(data: ArrayBuffer, signal: AbortSignal): Promise<PDFDocumentProxy> {
  GlobalWorkerOptions.workerSrc = workerUrl;
  const task = getDocument({
    // PDF.js takes the buffer away: the blob may be read again.
    data: new Uint8Array(data),
    useWasm: false,
    useWorkerFetch: false,
    disableWorkerRendering: true,
    enableXfa: false,
    stopAtErrors: false,
    maxImageSize: MAX_IMAGE_PX,
    cMapUrl: `${FILES}cmaps/`,
    cMapPacked: true,
    // Every screen shows the same letters in the same places, whatever fonts its machine has.
    useSystemFonts: false,
    standardFontDataUrl: `${FILES}standard_fonts/`,
    wasmUrl: `${FILES}wasm/`,
    verbosity: 0,
  });
  const end = (): void => void task.destroy();
  if (signal.aborted) end();
  signal.addEventListener("abort", end, { once: true });
  return task.promise;
}

export interface PageSize {
  width: number;
  height: number;
}

/** Size of a page in points, turned as it is to be read. */
export async function pageSize(document: PDFDocumentProxy, page: number): Promise<PageSize> {
  const { width, height } = (await document.getPage(page)).getViewport({ scale: 1 });
  return { width, height };
}

/** Draw a page `widthPx` device pixels wide; an abort stops it and leaves the canvas empty. */
export async function drawPage(
  document: PDFDocumentProxy,
  page: number,
  canvas: HTMLCanvasElement,
  widthPx: number,
  signal: AbortSignal,
): Promise<void> {
  const sheet = await document.getPage(page);
  if (signal.aborted) return;
  const natural = sheet.getViewport({ scale: 1 });
  const most = Math.sqrt(MAX_CANVAS_PX / (natural.width * natural.height));
  const viewport = sheet.getViewport({ scale: Math.min(most, Math.max(0.1, widthPx / natural.width)) });
  canvas.width = Math.ceil(viewport.width);
  canvas.height = Math.ceil(viewport.height);
  const drawing = sheet.render({ canvas, viewport });
  const stop = (): void => drawing.cancel();
  signal.addEventListener("abort", stop, { once: true });
  try {
    await drawing.promise;
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener("abort", stop);
    if (signal.aborted) wipe(canvas);
  }
}

/** Nothing of a page stays in a canvas that is not shown any more (W24). */
export function wipe(canvas: HTMLCanvasElement): void {
  canvas.width = 0;
  canvas.height = 0;
}

/** The page's words in reading order, for those who cannot see the picture; empty for a scan. */
export async function pageText(document: PDFDocumentProxy, page: number): Promise<string> {
  const content = await (await document.getPage(page)).getTextContent();
  let text = "";
  for (const item of content.items) {
    if (!("str" in item)) continue;
    text += item.str + (item.hasEOL ? "\n" : "");
    if (text.length > MAX_TEXT) break;
  }
  return text.trim();
}
