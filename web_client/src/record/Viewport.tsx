/**
 * What scrolls: the page's content, the lead's pointer over it, and the signals
 * that keep every screen at the same place.
 *
 * It is remounted for every view, so scroll and pointer of one page can never
 * be applied to another.
 */
import {
  type PointerEvent,
  type ReactNode,
  type RefObject,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import { createPortal } from "react-dom";
import { useTranslation } from "react-i18next";
import { NotesOfPage, ShareLayer, useSheetStyle } from "../share";
import {
  clampFraction,
  isAbout,
  POINT_EVERY_MS,
  POINTER_SILENT_MS,
  SCROLL_EVERY_MS,
  scrollFraction,
  scrollTopFor,
  throttle,
} from "./follow";
import { PANEL_ID } from "./PageTabs";
import type { RecordPaneProps } from "./RecordPane";
import styles from "./RecordPane.module.css";
import type { RemotePointer, RemoteScroll, View } from "./types";

export interface ViewportProps {
  view: View;
  version: number;
  labelledBy: string;
  leading: boolean;
  follows: boolean;
  wall: boolean;
  leadName: string | null;
  remoteScroll: RemoteScroll | null;
  remotePointer: RemotePointer | null;
  onScroll: RecordPaneProps["onScroll"];
  onPoint: RecordPaneProps["onPoint"];
  audience: string;
  /** Somebody who follows scrolls by hand. */
  onOwnScroll: () => void;
  children: ReactNode;
}

const SCROLL_KEYS = new Set(["PageUp", "PageDown", "ArrowUp", "ArrowDown", "Home", "End", " "]);

export function Viewport(props: ViewportProps) {
  const { view, version, leading, follows, wall, onOwnScroll } = props;
  const box = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  useFollowedScroll(box, content, follows && props.remoteScroll !== null ? props.remoteScroll : null, version, view);
  const lead = useLeadSignals(props, box, content);
  const sheet = useSheetStyle(box);
  const leave = follows && !wall ? onOwnScroll : undefined;
  return (
    <div
      ref={box}
      id={PANEL_ID}
      role="tabpanel"
      aria-labelledby={props.labelledBy}
      tabIndex={wall ? -1 : 0}
      className={styles.viewport}
      data-testid="record-page"
      data-page={view.page}
      data-item={view.item}
      data-context={version}
      onScroll={leading ? lead.scrolled : undefined}
      onWheel={leave}
      onTouchMove={leave}
      onKeyDown={leave && ((event) => event.target === event.currentTarget && SCROLL_KEYS.has(event.key) && leave())}
    >
      <div
        ref={content}
        className={styles.content}
        style={sheet}
        onPointerMove={leading ? lead.pointed : undefined}
        onPointerLeave={leading ? lead.pointerLeft : undefined}
      >
        {props.children}
        <ShareLayer page={content} />
        {follows && <LeadPointer pointer={props.remotePointer} {...{ version, view, content }} name={props.leadName} />}
      </div>
      <NotesOfPage />
    </div>
  );
}

/** Keep the box where the lead is, also when the content grows after loading. */
function useFollowedScroll(
  box: RefObject<HTMLDivElement | null>,
  content: RefObject<HTMLDivElement | null>,
  remote: RemoteScroll | null,
  version: number,
  view: View,
): void {
  const y = remote !== null && isAbout(remote, version, view) ? remote.y : null;
  useLayoutEffect(() => {
    const [element, inner] = [box.current, content.current];
    if (y === null || element === null || inner === null) return;
    const apply = (): void => {
      element.scrollTop = scrollTopFor(element, y);
    };
    apply();
    const observer = new ResizeObserver(apply);
    observer.observe(inner);
    return () => observer.disconnect();
  }, [y, box, content]);
}

/** The lead's own movements, as throttled fractions. */
function useLeadSignals(
  { view, onScroll, onPoint, leading, audience }: ViewportProps,
  box: RefObject<HTMLDivElement | null>,
  content: RefObject<HTMLDivElement | null>,
) {
  const { page, item } = view;
  const signals = useMemo(() => {
    const about = { page, item };
    return {
      scroll: throttle((y: number) => onScroll?.(y, about), SCROLL_EVERY_MS),
      point: throttle((x: number, y: number, visible: boolean) => onPoint?.(x, y, visible, about), POINT_EVERY_MS),
    };
  }, [page, item, onScroll, onPoint]);
  useEffect(
    () => () => {
      signals.scroll.cancel();
      signals.point.cancel();
    },
    [signals],
  );
  useEffect(() => {
    // Taking the lead makes this screen's place everyone's; who comes, or comes back, has not heard of it, and what was
    // scrolled while the line was down nobody has.
    if (leading && audience !== "" && box.current !== null) signals.scroll(scrollFraction(box.current));
  }, [leading, signals, box, audience]);
  const fractions = (event: PointerEvent): [number, number] => {
    const rect = pointerFrame(content.current)?.getBoundingClientRect();
    if (rect === undefined || rect.width === 0 || rect.height === 0) return [0, 0];
    return [
      clampFraction((event.clientX - rect.left) / rect.width),
      clampFraction((event.clientY - rect.top) / rect.height),
    ];
  };
  return {
    scrolled: () => box.current !== null && signals.scroll(scrollFraction(box.current)),
    pointed: (event: PointerEvent) => signals.point(...fractions(event), true),
    pointerLeft: (event: PointerEvent) => signals.point(...fractions(event), false),
  };
}

/**
 * What the pointer's fractions are of: a picture where there is one, else the page.
 *
 * Beside a picture texts break differently on each screen; over it the pointer must meet the same spot.
 */
const pointerFrame = (content: HTMLElement | null): HTMLElement | null =>
  content?.querySelector<HTMLElement>("[data-pointer-frame]") ?? content;

interface LeadPointerProps {
  pointer: RemotePointer | null;
  version: number;
  view: View;
  content: RefObject<HTMLElement | null>;
  name: string | null;
}

function LeadPointer(props: LeadPointerProps) {
  const { pointer, version, view } = props;
  const { t } = useTranslation();
  const [silent, setSilent] = useState<RemotePointer | null>(null);
  useEffect(() => {
    const timer = setTimeout(() => setSilent(pointer), POINTER_SILENT_MS);
    return () => clearTimeout(timer);
  }, [pointer]);
  if (pointer === null || pointer === silent || !pointer.visible || !isAbout(pointer, version, view)) return null;
  const name = props.name ?? t("record.someone");
  const frame = pointerFrame(props.content.current);
  const dot = (
    <div
      className={styles.pointer}
      data-testid="lead-pointer"
      data-over-page
      data-flip={pointer.x > 0.7}
      style={{ left: `${pointer.x * 100}%`, top: `${pointer.y * 100}%` }}
      aria-hidden="true"
    >
      <span className={styles.pointerName}>{name}</span>
    </div>
  );
  return frame === null || frame === props.content.current ? dot : createPortal(dot, frame);
}
