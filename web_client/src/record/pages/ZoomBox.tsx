/**
 * A picture in a box of its own shape, enlarged around a point that everyone shares.
 *
 * The box is as wide as the type lets it be and as high as the picture asks, on every screen alike, so a pointer over
 * it meets the same spot. Zoom and place are part of the shared view: the lead's drag is sent when the hand lets go.
 */
import { ActionIcon } from "@mantine/core";
import { Maximize, ZoomIn, ZoomOut } from "lucide-react";
import { type CSSProperties, type KeyboardEvent, type PointerEvent, type ReactNode, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { boundedZoom, MAX_PERCENT, WHOLE, type Zoom } from "../place";
import { usePane } from "../recordData";
import own from "./pages.module.css";

const STEPS = [100, 150, 200, 300, 400, 600, MAX_PERCENT];
/** Part of the visible width that an arrow key moves by. */
const KEY_MOVE = 20;

export interface ZoomBoxProps {
  /** Width by height. */
  aspect: number;
  zoom: Zoom;
  onZoom: (zoom: Zoom) => void;
  /** Of the box; what it shows is told by what is inside. */
  label: string;
  kind: "page" | "picture";
  /** Further controls beside the zoom. */
  tools?: ReactNode;
  children: ReactNode;
}

/** Where the enlarged picture lies in its box, in percent of the box; its edges never leave the box's. */
export function layoutOf({ percent, x, y }: Zoom): { size: number; left: number; top: number } {
  const at = (centre: number): number => Math.min(0, Math.max(100 - percent, 50 - (centre * percent) / 100));
  return { size: percent, left: at(x), top: at(y) };
}

/** The zoom whose picture lies there: a drag beyond the edge ends at the edge. */
export function zoomAt(percent: number, left: number, top: number): Zoom {
  const centre = (offset: number): number => ((50 - Math.min(0, Math.max(100 - percent, offset))) * 100) / percent;
  return boundedZoom({ percent, x: centre(left), y: centre(top) });
}

/** The next step up or down, around the same point. */
export function stepped(zoom: Zoom, direction: 1 | -1): Zoom {
  const next =
    direction > 0
      ? STEPS.find((percent) => percent > zoom.percent)
      : STEPS.findLast((percent) => percent < zoom.percent);
  return boundedZoom({ ...zoom, percent: next ?? zoom.percent });
}

export function ZoomBox({ aspect, zoom, onZoom, label, kind, tools, children }: ZoomBoxProps) {
  const { t } = useTranslation();
  const { wall } = usePane();
  const box = useRef<HTMLElement>(null);
  const [drag, setDrag] = useState<{ x: number; y: number; dx: number; dy: number } | null>(null);
  const { size, left, top } = layoutOf(zoom);
  const moved = {
    left: left + (drag === null ? 0 : drag.dx),
    top: top + (drag === null ? 0 : drag.dy),
  };
  const kept = layoutOf(zoomAt(size, moved.left, moved.top));

  const onDown = (event: PointerEvent<HTMLElement>): void => {
    if (zoom.percent === 100 || wall || event.button !== 0) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    setDrag({ x: event.clientX, y: event.clientY, dx: 0, dy: 0 });
  };
  const onMove = (event: PointerEvent<HTMLElement>): void => {
    const rect = box.current?.getBoundingClientRect();
    if (drag === null || rect === undefined || rect.width === 0) return;
    const dx = ((event.clientX - drag.x) / rect.width) * 100;
    const dy = ((event.clientY - drag.y) / rect.height) * 100;
    setDrag({ ...drag, dx, dy });
  };
  const onUp = (): void => {
    if (drag !== null && (drag.dx !== 0 || drag.dy !== 0)) onZoom(zoomAt(size, moved.left, moved.top));
    setDrag(null);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const next = zoomForKey(event.key, zoom);
    if (next === null || wall) return;
    event.preventDefault();
    event.stopPropagation();
    onZoom(next);
  };
  return (
    <div className={own.zoom} data-kind={kind} data-wall={wall} style={{ "--aspect": aspect } as CSSProperties}>
      {!wall && (
        <div className={own.zoomTools} role="toolbar" aria-label={label}>
          {tools}
          <span className={own.zoomGroup}>
            <ActionIcon
              variant="default"
              size="lg"
              aria-label={t("record.picture.smaller")}
              disabled={zoom.percent === 100}
              onClick={() => onZoom(stepped(zoom, -1))}
            >
              <ZoomOut aria-hidden="true" size={18} />
            </ActionIcon>
            <span className={own.zoomPercent} data-testid="zoom-percent">
              {zoom.percent} %
            </span>
            <ActionIcon
              variant="default"
              size="lg"
              aria-label={t("record.picture.larger")}
              data-testid="zoom-in"
              disabled={zoom.percent === MAX_PERCENT}
              onClick={() => onZoom(stepped(zoom, 1))}
            >
              <ZoomIn aria-hidden="true" size={18} />
            </ActionIcon>
            <ActionIcon
              variant="default"
              size="lg"
              aria-label={t("record.picture.whole")}
              disabled={zoom.percent === 100}
              onClick={() => onZoom(WHOLE)}
            >
              <Maximize aria-hidden="true" size={18} />
            </ActionIcon>
          </span>
        </div>
      )}
      <section
        ref={box}
        className={own.zoomBox}
        style={{ aspectRatio: String(aspect) }}
        data-grab={zoom.percent > 100 && !wall}
        data-testid="zoom-box"
        data-pointer-frame
        tabIndex={wall ? -1 : 0}
        aria-label={t("record.picture.keys", { label })}
        onPointerDown={onDown}
        onPointerMove={onMove}
        onPointerUp={onUp}
        onPointerCancel={() => setDrag(null)}
        onKeyDown={onKeyDown}
      >
        <div
          className={own.zoomed}
          style={{ width: `${size}%`, height: `${size}%`, left: `${kept.left}%`, top: `${kept.top}%` }}
        >
          {children}
        </div>
      </section>
    </div>
  );
}

/** Plus, minus, zero and arrows; null for keys that are not ours. */
export function zoomForKey(pressed: string, zoom: Zoom): Zoom | null {
  if (pressed === "+" || pressed === "=") return stepped(zoom, 1);
  if (pressed === "-") return stepped(zoom, -1);
  if (pressed === "0") return WHOLE;
  const [dx, dy] = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[pressed] ?? [0, 0];
  if (zoom.percent === 100 || (dx === 0 && dy === 0)) return null;
  const { size, left, top } = layoutOf(zoom);
  return zoomAt(size, left + (dx ?? 0) * KEY_MOVE, top + (dy ?? 0) * KEY_MOVE);
}
