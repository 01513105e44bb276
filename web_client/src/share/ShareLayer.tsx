/**
 * What lies over the page: highlights, the pen, and a note that was drawn on a page laid out like this one.
 *
 * Nothing is painted over a page that it was not made on: another context or page is filtered by the caller's key, another
 * layout by `fits`. A highlight of a named element finds that element wherever this screen has put it.
 */
import { type PointerEvent, type RefObject, useEffect, useLayoutEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { afterPaint } from "../desk/contextGate";
import type { Area, Highlight, PageShape } from "../protocol";
import { sameView } from "../record/follow";
import { useInk, useInkOut } from "./ink";
import { fits, placeOn, SHEET_FONT_PX, shapeOf, UNITS } from "./shape";
import styles from "./share.module.css";
import { freezeOf, nameOf, type ShareLink, type Sharing, type Stroke, useSharing } from "./sharing";

const MAX_SCALE = 2;
const MAX_STROKES = 64;
const MAX_NUMBERS = 8_000;
const STROKE_NUMBERS = 512;
/** A hundredth of a page's width is a small letter; the pen is finer than that by ten. */
const PEN_STEP = 10;

/** How the page is laid out and scaled while something is drawn on it. */
export function useSheetStyle(box: RefObject<HTMLElement | null>): React.CSSProperties | undefined {
  const width = useSharing()?.sheet?.width ?? null;
  const [room, setRoom] = useState<number | null>(null);
  useLayoutEffect(() => {
    const element = box.current;
    if (width === null || element === null) return;
    const measure = (): void => setRoom(element.clientWidth);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [width, box]);
  if (width === null || room === null || room === 0) return undefined;
  return {
    width,
    maxWidth: "none",
    minHeight: 0,
    margin: 0,
    fontSize: SHEET_FONT_PX,
    containerType: "inline-size",
    // Nothing of the layout may come from this screen's height.
    ["--picture-room" as string]: "36em",
    zoom: Math.min(MAX_SCALE, room / width),
  };
}

export function ShareLayer({ page }: { page: RefObject<HTMLDivElement | null> }) {
  const sharing = useSharing();
  return sharing === null ? null : <Layer page={page} sharing={sharing} />;
}

function Layer({ page, sharing }: { page: RefObject<HTMLDivElement | null>; sharing: Sharing }) {
  const { link, version, view, shared, mode, opened, sheet } = sharing;
  const here = useShape(page, sharing);
  useFreeze(page, sharing);
  const freeze = shared ? freezeOf(link.consult, version, view) : null;
  const isPen = mode === "draw" && freeze !== null && freeze.by === link.me;
  const isFitting = sheet?.made != null && fits(sheet.made, here);
  const { setFitting } = sharing;
  useEffect(() => setFitting(isFitting), [isFitting, setFitting]);
  const down = here === null ? UNITS : Math.round((UNITS * here.height) / here.width);
  const highlights = shared ? Object.values(link.consult.highlights) : [];
  return (
    <div className={styles.layer} data-over-page data-testid="share-layer">
      {highlights
        .filter((mark) => mark.context_version === version && sameView(mark.view, view))
        .map((mark) => (
          <Highlighted key={mark.by} mark={mark} page={page} here={here} name={nameOf(link.consult, mark.by)} />
        ))}
      {opened !== null && isFitting && (
        <img src={opened.picture} alt="" className={styles.drawing} data-testid="note-over-page" />
      )}
      {freeze !== null && freeze.by !== link.me && isFitting && <OthersInk {...{ link, freeze: freeze.id, down }} />}
      {isPen && <Pen page={page} sharing={sharing} down={down} freeze={freeze.id} />}
      {mode === "highlight" && <Marker page={page} sharing={sharing} here={here} />}
    </div>
  );
}

/** The page's shape, measured again whenever the page changes. */
function useShape(page: RefObject<HTMLDivElement | null>, { sheet }: Sharing): PageShape | null {
  const width = sheet?.width;
  const [shape, setShape] = useState<PageShape | null>(null);
  // Not a layout effect: the page is this layer's parent, and its ref is set after those.
  useEffect(() => {
    const element = page.current;
    if (element === null) return;
    const measure = (): void => {
      const now = shapeOf(element, width);
      setShape((before) => (JSON.stringify(before) === JSON.stringify(now) ? before : now));
    };
    measure();
    const resized = new ResizeObserver(measure);
    resized.observe(element);
    const written = new MutationObserver(measure);
    written.observe(element, { childList: true, characterData: true, subtree: true, attributeFilter: ["style"] });
    return () => {
      resized.disconnect();
      written.disconnect();
    };
  }, [page, width]);
  return shape;
}

/** Drawing begins: first the page becomes a sheet here, then that sheet, as it was painted, becomes everyone's. [SH3] */
function useFreeze(page: RefObject<HTMLDivElement | null>, sharing: Sharing): void {
  const { mode, link, version, view, sheet, setWidth, setMode } = sharing;
  const { ask } = link;
  const { page: name, item } = view;
  const isWaiting = mode === "draw" && sheet?.made == null;
  const width = sheet?.width ?? null;
  useEffect(() => {
    const element = page.current;
    if (!isWaiting || element === null) return;
    if (width === null) {
      setWidth(Math.round(element.offsetWidth));
      return;
    }
    return afterPaint(async () => {
      const shape = shapeOf(element, width);
      const about = { context_version: version, view: { page: name, item } };
      if (shape !== null && (await ask({ type: "freeze_page", id: crypto.randomUUID(), ...about, shape }))) return;
      setMode("none");
      setWidth(null);
    });
  }, [isWaiting, width, page, ask, version, name, item, setWidth, setMode]);
}

interface HighlightedProps {
  mark: Highlight;
  page: RefObject<HTMLDivElement | null>;
  here: PageShape | null;
  name: string;
}

function Highlighted({ mark, page, here, name }: HighlightedProps) {
  const { t } = useTranslation();
  const area = areaOf(mark, page.current, here);
  if (area === null || here === null) {
    return (
      <p className={styles.elsewhere} data-testid="highlight-elsewhere">
        {t("share.elsewhere", { name })}
      </p>
    );
  }
  return (
    <div className={styles.highlight} data-testid="highlight" data-by={mark.by} style={percent(area, here)}>
      <span className={styles.highlightName}>{name}</span>
    </div>
  );
}

/** Where a highlight lies on the page as it stands here; null: nobody can say. */
function areaOf(mark: Highlight, page: HTMLElement | null, here: PageShape | null): Area | null {
  if (page === null || here === null) return null;
  const element = mark.target === "" ? null : page.querySelector(`[data-testid="${CSS.escape(mark.target)}"]`);
  if (element !== null) return areaOfElement(page, element);
  return fits(mark.shape, here) ? mark.area : null;
}

function areaOfElement(page: HTMLElement, element: Element): Area {
  const [outer, inner] = [page.getBoundingClientRect(), element.getBoundingClientRect()];
  const [x, y] = placeOn(outer, inner.left, inner.top);
  const [right, bottom] = placeOn(outer, inner.right, inner.bottom);
  return { x, y, width: right - x, height: bottom - y };
}

function percent({ x, y, width, height }: Area, here: PageShape): React.CSSProperties {
  const down = (UNITS * here.height) / here.width / 100;
  return { left: `${x / 100}%`, width: `${width / 100}%`, top: `${y / down}%`, height: `${height / down}%` };
}

/** Click an entry, or draw a frame. */
function Marker({
  page,
  sharing,
  here,
}: {
  page: RefObject<HTMLDivElement | null>;
  sharing: Sharing;
  here: PageShape | null;
}) {
  const [from, setFrom] = useState<readonly [number, number] | null>(null);
  const [to, setTo] = useState<readonly [number, number] | null>(null);
  const at = (event: PointerEvent): [number, number] | null =>
    page.current === null ? null : placeOn(page.current.getBoundingClientRect(), event.clientX, event.clientY);
  const frame = from !== null && to !== null ? framed(from, to) : null;
  const done = (event: PointerEvent<HTMLDivElement>): void => {
    const { link, version, view, setMode } = sharing;
    setFrom(null);
    setTo(null);
    if (here === null || page.current === null || frame === null) return;
    const isClick = frame.width < 60 && frame.height < 60;
    const entry = isClick ? entryAt(event) : null;
    const area = entry !== null ? areaOfElement(page.current, entry) : frame;
    setMode("none");
    if (isClick && entry === null) return;
    const target = entry?.getAttribute("data-testid") ?? "";
    void link.ask({ type: "highlight", context_version: version, view, shape: here, target, area });
  };
  return (
    <div
      className={styles.marker}
      data-testid="highlight-marker"
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        setFrom(at(event));
        setTo(at(event));
      }}
      onPointerMove={(event) => from !== null && setTo(at(event))}
      onPointerUp={done}
    >
      {frame !== null && here !== null && <div className={styles.frame} style={percent(frame, here)} />}
    </div>
  );
}

function framed([ax, ay]: readonly [number, number], [bx, by]: readonly [number, number]): Area {
  return { x: Math.min(ax, bx), y: Math.min(ay, by), width: Math.abs(ax - bx), height: Math.abs(ay - by) };
}

/** The named element of the page under the pointer, below the layer itself. */
function entryAt(event: PointerEvent<HTMLDivElement>): Element | null {
  const page = event.currentTarget.closest("[data-testid=record-page]");
  for (const element of document.elementsFromPoint(event.clientX, event.clientY)) {
    const named = element.closest("[data-testid]");
    if (named === null || named === page || named.closest("[data-over-page]") !== null) continue;
    if (page?.contains(named) === true) return named;
  }
  return null;
}

/** The pen of whoever draws on this page, as it goes; only where the page lies as it does there. [SH7] */
function OthersInk({ link, freeze, down }: { link: ShareLink; freeze: string; down: number }) {
  const strokes = useInk(link.ink, freeze);
  return (
    <svg className={styles.ink} viewBox={`0 0 ${UNITS} ${down}`} preserveAspectRatio="none" data-testid="others-ink">
      <title>{nameOf(link.consult, link.consult.page_freeze?.by ?? "")}</title>
      {strokes.map((stroke, index) => (
        <path key={index} d={pathOf(stroke)} />
      ))}
    </svg>
  );
}

interface PenProps {
  page: RefObject<HTMLDivElement | null>;
  sharing: Sharing;
  down: number;
  freeze: string;
}

function Pen({ page, sharing, down, freeze }: PenProps) {
  const { strokes, setStrokes, link, version } = sharing;
  useInkOut(link, version, freeze, strokes);
  const drawing = useRef(false);
  const add = (event: PointerEvent, isFirst: boolean): void => {
    if (page.current === null) return;
    const [x, y] = placeOn(page.current.getBoundingClientRect(), event.clientX, event.clientY);
    setStrokes((before) => drawn(before, x, Math.min(y, down), isFirst));
  };
  return (
    <svg
      className={styles.pen}
      viewBox={`0 0 ${UNITS} ${down}`}
      preserveAspectRatio="none"
      data-testid="pen"
      aria-hidden="true"
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        drawing.current = true;
        add(event, true);
      }}
      onPointerMove={(event) => drawing.current && add(event, false)}
      onPointerUp={() => {
        drawing.current = false;
      }}
    >
      {strokes.map((stroke, index) => (
        <path key={index} d={pathOf(stroke)} />
      ))}
    </svg>
  );
}

/** One more point; what is too long becomes another stroke that goes on from there, what is too much is not drawn. */
export function drawn(strokes: readonly Stroke[], x: number, y: number, isFirst: boolean): readonly Stroke[] {
  if (strokes.reduce((sum, { length }) => sum + length, 0) + 4 > MAX_NUMBERS) return strokes;
  const last = strokes.at(-1);
  if (isFirst || last === undefined) return strokes.length < MAX_STROKES ? [...strokes, [x, y, x, y]] : strokes;
  const [px = 0, py = 0] = last.slice(-2);
  if (Math.abs(px - x) + Math.abs(py - y) < PEN_STEP) return strokes;
  if (last.length + 2 <= STROKE_NUMBERS) return [...strokes.slice(0, -1), [...last, x, y]];
  return strokes.length < MAX_STROKES ? [...strokes, [px, py, x, y]] : strokes;
}

export function pathOf(stroke: Stroke): string {
  const points: string[] = [];
  for (let index = 0; index + 1 < stroke.length; index += 2) points.push(`${stroke[index]} ${stroke[index + 1]}`);
  return `M${points.join("L")}`;
}
