/**
 * What people set and see on a trace that stands: calipers, QT, marks, notes, pointers.
 *
 * An SVG over the still page, which tells its lanes in CSS px. Whatever is set snaps to a real sample of the lane it was
 * begun on (W32); whatever is drawn comes from times and voltages, so each viewer sees it on his own layout. There is no
 * layer on a moving trace, hence nothing to measure there. Everything that is set by hand can be set by keys as well
 * (`useKeyCursor`), and both legs be moved, one sample at a time.
 */
import { type KeyboardEvent, type PointerEvent, useEffect, useId, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { EcgMark } from "../protocol";
import type { EcgSample, StillLane, StillMap } from "../waveform/settings";
import { marchOut, measure, msText, mvText, type TracePoint } from "./calipers";
import { caliperText, endsOf, textOf } from "./marks";
import styles from "./StillLayer.module.css";
import { aimAt, heightOf, holds, laneAt, laneEndUs, laneOfSpan, type PagePlace, placesOf, xOf, yOf } from "./still";
import { FAST, type KeyCursor, useKeyCursor } from "./useKeyCursor";

export type Tool = "caliper" | "qt" | "marker" | "note" | "point";

/** Asks the view for the nearest real sample. */
export type Sampler = (lead: string, atUs: number) => Promise<EcgSample | null>;

/** Two legs being set; the second follows the hand until it is fixed. */
export interface Legs {
  readonly from: TracePoint;
  readonly to: TracePoint | null;
  readonly isFixed: boolean;
}

export interface ShownPointer {
  readonly by: string;
  readonly name: string;
  readonly point: TracePoint;
}

export interface StillLayerProps {
  readonly map: StillMap;
  readonly tool: Tool | null;
  readonly legs: Legs | null;
  readonly hasMarch: boolean;
  readonly stepUs: number;
  readonly marks: readonly (EcgMark & { readonly name: string })[];
  readonly chosen: string | null;
  readonly pointers: readonly ShownPointer[];
  readonly sample: Sampler;
  readonly onLegs: (legs: Legs | null) => void;
  /** A place for a marker or a note was chosen. */
  readonly onPlace: (point: TracePoint) => void;
  /** The hand moved over the trace, or left it. */
  readonly onPoint: (point: TracePoint | null) => void;
  readonly onChoose: (id: string) => void;
  readonly onProblem: (problem: "noSample" | "failed" | null) => void;
}

/** Further than this a press is a drag from the first leg to the second. */
const DRAG_PX = 6;

export function StillLayer(props: StillLayerProps) {
  const { t } = useTranslation();
  const { map, tool, legs, marks, pointers } = props;
  const snap = useSnap(props);
  const hand = useHand(props, snap);
  const keys = useKeyCursor({ ...props, snap });
  const layer = useRef<SVGSVGElement>(null);
  const hint = useId();
  const isMeasuring = tool !== null;
  // Whoever takes up a tool goes on here, with the hand or with keys.
  useEffect(() => {
    if (isMeasuring) layer.current?.focus({ preventScroll: true });
  }, [isMeasuring]);
  return (
    <>
      {isMeasuring && (
        <>
          <p id={hint} className="visually-hidden">
            {t("ecg.caliper.keys")}
          </p>
          <p className="visually-hidden" role="status" data-testid="ecg-cursor-words">
            {keys.cursor === null ? "" : cursorText(keys.cursor, t("ecg.caliper.noSampleShort"))}
          </p>
        </>
      )}
      <svg
        ref={layer}
        className={styles.layer}
        data-testid="ecg-still-layer"
        data-tool={tool ?? ""}
        role={isMeasuring ? "application" : "group"}
        tabIndex={isMeasuring ? 0 : undefined}
        aria-label={t("ecg.caliper.layer")}
        aria-describedby={isMeasuring ? hint : undefined}
        onPointerDown={(event) => {
          keys.hide();
          hand.onDown(event);
        }}
        onPointerMove={hand.onMove}
        onPointerUp={hand.onUp}
        onPointerLeave={hand.onLeave}
        onKeyDown={keys.onKeyDown}
      >
        {marks.map((mark) => (
          <Mark key={mark.id} map={map} mark={mark} isChosen={mark.id === props.chosen} onChoose={props.onChoose} />
        ))}
        {legs !== null && <Legged {...props} legs={legs} inHand={hand.lane} onNudge={hand.nudge} />}
        {pointers.map(({ by, name, point }) =>
          placesOf(map, point)
            .slice(0, 1)
            .map(({ xPx, yPx }) => (
              <g key={by} className={styles.pointer} transform={`translate(${xPx} ${yPx})`} data-testid="ecg-pointer">
                <circle r={9} />
                <circle r={2.5} />
                <text x={14} y={4}>
                  {name}
                </text>
              </g>
            )),
        )}
        {keys.cursor !== null && <Cursor cursor={keys.cursor} />}
      </svg>
    </>
  );
}

/** `II, 1234 ms, 0.35 mV`. */
function cursorText({ lane, atUs, uv }: KeyCursor, none: string): string {
  return `${lane.lead}, ${msText((atUs - lane.fromUs) / 1000)}, ${uv === null ? none : mvText(uv / 1000)}`;
}

function Cursor({ cursor: { lane, atUs, uv } }: { cursor: KeyCursor }) {
  const x = xOf(lane, atUs);
  return (
    <g className={styles.cursor} data-testid="ecg-cursor">
      <line x1={x} x2={x} y1={lane.topPx} y2={lane.bottomPx} />
      {uv !== null && <circle cx={x} cy={heightOf(lane, uv)} r={4.5} />}
    </g>
  );
}

/** A press: where, and the first leg that comes of it. */
interface Begun {
  readonly place: PagePlace;
  readonly lane: StillLane;
  readonly first: Promise<TracePoint | null> | null;
}

type Snap = (lead: string, atUs: number, isQuiet?: boolean) => Promise<TracePoint | null>;

/** The nearest real sample; what stands in the way is told, unless somebody is only passing. */
function useSnap({ sample, onProblem }: StillLayerProps): Snap {
  return async (lead, atUs, isQuiet = false) => {
    try {
      const found = await sample(lead, atUs);
      if (found?.valid === true) {
        onProblem(null);
        return { lead, atUs: found.atUs, uv: found.uv };
      }
      if (!isQuiet) onProblem("noSample");
    } catch {
      onProblem("failed");
    }
    return null;
  };
}

/** What the hand does: presses, drags, hovers; one question for a sample at a time while it moves. */
function useHand({ map, tool, legs, onLegs, onPlace, onPoint, stepUs }: StillLayerProps, snap: Snap) {
  const start = useRef<Begun | null>(null);
  /** Questions about the second leg that are not answered yet. */
  const asking = useRef(0);
  /** The strip that the legs were begun on: the same lead may be shown on another one as well. */
  const [inHand, setInHand] = useState<StillLane | null>(null);

  const clamped = (lane: StillLane, place: PagePlace): number =>
    Math.min(laneEndUs(lane), Math.max(lane.fromUs, aimAt(lane, place).atUs));
  const isLegged = tool === "caliper" || tool === "qt";

  const setFirst = async (lane: StillLane, place: PagePlace): Promise<TracePoint | null> => {
    const from = await snap(lane.lead, aimAt(lane, place).atUs);
    if (from === null) return null;
    setInHand(lane);
    onLegs({ from, to: null, isFixed: false });
    return from;
  };
  const setSecond = async (from: TracePoint, place: PagePlace, isFixed: boolean, begun = inHand): Promise<void> => {
    const under = laneAt(map, place);
    // The hand may go on to another strip of the same lead; beside its strips the nearest end counts.
    const lane = under?.lead === from.lead ? under : laneOfSpan(map, from.lead, from.atUs, null, begun);
    if (lane === null) return;
    // While the press that fixes it is asked about, a movement must not let it loose again.
    asking.current += 1;
    try {
      const to = await snap(from.lead, clamped(lane, place));
      if (to !== null) onLegs({ from, to, isFixed });
    } finally {
      asking.current -= 1;
    }
  };

  return {
    lane: inHand,
    onDown: (event: PointerEvent<SVGSVGElement>): void => {
      const place = placeOf(event);
      const lane = laneAt(map, place);
      if (tool === null || event.button !== 0) return;
      if (isLegged && legs !== null && !legs.isFixed) {
        void setSecond(legs.from, place, true);
        return;
      }
      if (lane === null) return;
      event.currentTarget.setPointerCapture(event.pointerId);
      start.current = { place, lane, first: isLegged ? setFirst(lane, place) : null };
      if (isLegged) return;
      if (tool !== "point") void snap(lane.lead, aimAt(lane, place).atUs).then((at) => at !== null && onPlace(at));
    },
    onMove: (event: PointerEvent<SVGSVGElement>): void => {
      const place = placeOf(event);
      if (tool === "point") {
        const lane = laneAt(map, place);
        onPoint(lane === null ? null : aimAt(lane, place));
        return;
      }
      if (!isLegged || legs === null || legs.isFixed || asking.current > 0) return;
      void setSecond(legs.from, place, false);
    },
    onUp: (event: PointerEvent<SVGSVGElement>): void => {
      const began = start.current;
      start.current = null;
      const place = placeOf(event);
      if (began === null || Math.hypot(place.xPx - began.place.xPx, place.yPx - began.place.yPx) <= DRAG_PX) return;
      void began.first?.then((from) => (from === null ? undefined : setSecond(from, place, true, began.lane)));
    },
    onLeave: (): void => {
      if (tool === "point") onPoint(null);
    },
    nudge: async (end: "from" | "to", samples: number): Promise<void> => {
      const point = legs?.[end];
      if (legs === null || point === null || point === undefined) return;
      const moved = await snap(point.lead, point.atUs + samples * stepUs);
      if (moved !== null) onLegs({ ...legs, [end]: moved });
    },
  };
}

function placeOf(event: PointerEvent<SVGSVGElement>): PagePlace {
  const box = event.currentTarget.getBoundingClientRect();
  return { xPx: event.clientX - box.left, yPx: event.clientY - box.top };
}

type LeggedProps = StillLayerProps & {
  readonly legs: Legs;
  readonly inHand: StillLane | null;
  readonly onNudge: (end: "from" | "to", samples: number) => Promise<void>;
};

/** The two legs being set, what they measure, and the interval marched out. */
function Legged({ map, legs, tool, hasMarch, inHand, onNudge }: LeggedProps) {
  const { from, to } = legs;
  const lane = laneOfSpan(map, from.lead, from.atUs, to?.atUs ?? null, inHand);
  if (lane === null) return null;
  const march =
    hasMarch && to !== null && tool === "caliper" ? marchOut(from.atUs, to.atUs, lane.fromUs, laneEndUs(lane)) : [];
  return (
    <g className={styles.draft} data-testid="ecg-legs">
      {march.map((us) => (
        <line
          key={us}
          className={styles.march}
          x1={xOf(lane, us)}
          x2={xOf(lane, us)}
          y1={lane.topPx}
          y2={lane.bottomPx}
        />
      ))}
      <Leg lane={lane} point={from} number={1} onNudge={(samples) => void onNudge("from", samples)} />
      {to !== null && (
        <>
          {holds(lane, to.atUs) && (
            <Leg lane={lane} point={to} number={2} onNudge={(samples) => void onNudge("to", samples)} />
          )}
          <Span
            lane={lane}
            from={from}
            to={to}
            text={tool === "qt" ? `QT ${msText(measure(from, to).ms)}` : caliperText(from, to)}
            isLow
          />
        </>
      )}
    </g>
  );
}

interface LegProps {
  readonly lane: StillLane;
  readonly point: TracePoint;
  readonly number: number;
  readonly onNudge: (samples: number) => void;
}

const KEYS: Readonly<Record<string, number>> = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };

function Leg({ lane, point, number, onNudge }: LegProps) {
  const { t } = useTranslation();
  const [x, y] = [xOf(lane, point.atUs), yOf(lane, point.uv)];
  const onKeyDown = (event: KeyboardEvent): void => {
    const step = KEYS[event.key];
    if (step === undefined) return;
    event.preventDefault();
    onNudge(event.shiftKey ? step * FAST : step);
  };
  return (
    <g
      className={styles.leg}
      role="slider"
      tabIndex={0}
      aria-label={t("ecg.caliper.leg", { number, lead: lane.lead })}
      aria-valuenow={Math.round(point.atUs / 1000)}
      aria-valuetext={`${Math.round((point.atUs - lane.fromUs) / 1000)} ms`}
      onKeyDown={onKeyDown}
    >
      <line className={styles.grip} x1={x} x2={x} y1={lane.topPx} y2={lane.bottomPx} />
      <line x1={x} x2={x} y1={lane.topPx} y2={lane.bottomPx} />
      <circle cx={x} cy={y} r={3.5} />
    </g>
  );
}

interface SpanProps {
  readonly lane: StillLane;
  readonly from: TracePoint;
  readonly to: TracePoint;
  readonly text: string;
  /** Along the foot of the lane: what is in hand stays clear of the marks that are there. */
  readonly isLow?: boolean;
}

/** The bar between two legs with its words, inside the lane where there is room. */
function Span({ lane, from, to, text, isLow = false }: SpanProps) {
  // What reaches beyond the strip ends with it: there another lead begins.
  const within = (us: number): number => Math.min(lane.xPx + lane.wPx, Math.max(lane.xPx, xOf(lane, us)));
  const [x1, x2] = [within(from.atUs), within(to.atUs)].sort((a, b) => a - b) as [number, number];
  const y = isLow ? lane.bottomPx - 8 : Math.min(lane.bottomPx - 6, lane.topPx + 22);
  const [x, anchor] = wordsAt(lane, x1, x2, EM_PX * text.length);
  return (
    <g>
      <line x1={x1} x2={x2} y1={y} y2={y} />
      <text
        className={styles.words}
        x={x}
        y={anchor === "middle" ? y - 5 : y + 4}
        textAnchor={anchor}
        data-testid="ecg-measured"
      >
        {text}
      </text>
    </g>
  );
}

/** What a letter takes, about. */
const EM_PX = 8;

/** Beside the bar where there is room in the strip, else over it: words cut off by the page's edge are half a number. */
function wordsAt(
  lane: StillLane,
  x1: number,
  x2: number,
  width: number,
): [x: number, anchor: "start" | "end" | "middle"] {
  if (x2 + 6 + width < lane.xPx + lane.wPx) return [x2 + 6, "start"];
  if (x1 - 6 - width > lane.xPx) return [x1 - 6, "end"];
  const least = Math.max(width / 2, lane.xPx);
  return [Math.max(least, Math.min((x1 + x2) / 2, lane.xPx + lane.wPx - width / 2)), "middle"];
}

interface MarkProps {
  readonly map: StillMap;
  readonly mark: EcgMark & { readonly name: string };
  readonly isChosen: boolean;
  readonly onChoose: (id: string) => void;
}

function Mark({ map, mark, isChosen, onChoose }: MarkProps) {
  const { from, to } = endsOf(mark);
  const text = textOf(mark);
  const lane = laneOfSpan(map, from.lead, from.atUs, to?.atUs ?? null);
  if (lane === null) return null;
  const at = (us: number) => <line x1={xOf(lane, us)} x2={xOf(lane, us)} y1={lane.topPx + 4} y2={lane.bottomPx - 4} />;
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the list of marks is the way for keys; this is a short cut.
    <g
      className={styles.mark}
      data-kind={mark.kind}
      data-chosen={isChosen}
      data-testid="ecg-mark"
      onClick={() => onChoose(mark.id)}
    >
      <title>{`${mark.name}: ${text}`}</title>
      {at(from.atUs)}
      {to === null ? (
        <>
          <circle cx={xOf(lane, from.atUs)} cy={heightOf(lane, from.uv)} r={4} />
          <text className={styles.words} x={xOf(lane, from.atUs) + 7} y={lane.bottomPx - 8}>
            {text === "" ? mark.name : text}
          </text>
        </>
      ) : (
        <>
          {holds(lane, to.atUs) && at(to.atUs)}
          <Span lane={lane} from={from} to={to} text={text} />
        </>
      )}
    </g>
  );
}
