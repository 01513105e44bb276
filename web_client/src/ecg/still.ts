/**
 * Between points of a trace and places on a still page.
 *
 * A still page tells its lanes in CSS px; marks are kept as server time, lead and uV. The same mark therefore stands on
 * the same sample in every viewer's own layout, and where that lead or that time is not on his page, nowhere. Pure.
 */
import type { StillLane, StillMap } from "../waveform/settings";
import type { TracePoint } from "./calipers";

export interface PagePlace {
  readonly xPx: number;
  readonly yPx: number;
}

export const xOf = (lane: StillLane, atUs: number): number => lane.xPx + (atUs - lane.fromUs) / lane.usPerPx;
export const yOf = (lane: StillLane, uv: number): number => lane.midPx - uv / lane.uvPerPx;
/** The same, kept inside the strip. */
export const heightOf = (lane: StillLane, uv: number): number =>
  Math.min(lane.bottomPx, Math.max(lane.topPx, yOf(lane, uv)));
export const laneEndUs = (lane: StillLane): number => lane.fromUs + lane.wPx * lane.usPerPx;

export const holds = (lane: StillLane, atUs: number): boolean => atUs >= lane.fromUs && atUs <= laneEndUs(lane);

/** The lane under a place: the one whose strip it is in, else none. */
export function laneAt({ lanes }: StillMap, { xPx, yPx }: PagePlace): StillLane | null {
  return (
    lanes.find((lane) => xPx >= lane.xPx && xPx <= lane.xPx + lane.wPx && yPx >= lane.topPx && yPx <= lane.bottomPx) ??
    null
  );
}

/** What a place on a lane means; the nearest real sample is asked for with it (W32). */
export function aimAt(lane: StillLane, { xPx, yPx }: PagePlace): TracePoint {
  const atUs = Math.round(lane.fromUs + (xPx - lane.xPx) * lane.usPerPx);
  return { lead: lane.lead, atUs, uv: (lane.midPx - yPx) * lane.uvPerPx };
}

/** Every lane on which a time of a lead is seen: a rhythm strip may show the lead again. */
export function lanesOf({ lanes }: StillMap, lead: string, atUs: number): readonly StillLane[] {
  return lanes.filter((lane) => lane.lead === lead && holds(lane, atUs));
}

/**
 * The one lane to draw an interval on: of those that show its beginning one that shows its end too, and of these the one
 * in hand. A column's strip ends where the next lead begins, and nothing of this lead may stand there.
 *
 * @param inHand where somebody is setting it
 */
export function laneOfSpan(
  map: StillMap,
  lead: string,
  fromUs: number,
  toUs: number | null,
  inHand: StillLane | null = null,
): StillLane | null {
  const begun = lanesOf(map, lead, fromUs);
  const whole = toUs === null ? begun : begun.filter((lane) => holds(lane, toUs));
  const fitting = whole.length > 0 ? whole : begun;
  const isInHand = ({ xPx, topPx }: StillLane): boolean => xPx === inHand?.xPx && topPx === inHand.topPx;
  return fitting.find(isInHand) ?? fitting[0] ?? null;
}

/** Where a point stands on the page, on each lane that shows it. */
export function placesOf(map: StillMap, point: TracePoint): readonly (PagePlace & { lane: StillLane })[] {
  return lanesOf(map, point.lead, point.atUs).map((lane) => ({
    lane,
    xPx: xOf(lane, point.atUs),
    yPx: heightOf(lane, point.uv),
  }));
}

/** First and last time on the page; `null` for a page with no lanes. */
export function pageSpan({ lanes }: StillMap): { readonly fromUs: number; readonly toUs: number } | null {
  if (lanes.length === 0) return null;
  return {
    fromUs: Math.min(...lanes.map(({ fromUs }) => fromUs)),
    toUs: Math.max(...lanes.map(laneEndUs)),
  };
}
