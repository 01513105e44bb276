/**
 * Measuring without a pointing device: a cursor on the still page that keys move and Enter sets.
 *
 * It stands at a time of one strip and may cross a gap; what is set are real samples only (W32). Left and right by a
 * sample, with Shift by ten, page up and down by a large square, up and down to the next strip until a first leg is set,
 * Enter sets a leg, Escape takes it back. Ends that stand are reached by Tab and moved where they are (`StillLayer`).
 */
import { type KeyboardEvent, useEffect, useMemo, useRef, useState } from "react";
import type { StillLane, StillMap } from "../waveform/settings";
import type { TracePoint } from "./calipers";
import type { Legs, Tool } from "./StillLayer";
import { holds, laneEndUs, lanesOf } from "./still";

/** Where the cursor is; no voltage where there is no sample, or until it is known. */
export interface KeyCursor {
  readonly lane: StillLane;
  readonly atUs: number;
  readonly uv: number | null;
}

export interface KeyCursorInput {
  readonly map: StillMap;
  readonly tool: Tool | null;
  readonly legs: Legs | null;
  readonly stepUs: number;
  /** The real sample at a time; `null` where there is none. */
  readonly snap: (lead: string, atUs: number, isQuiet?: boolean) => Promise<TracePoint | null>;
  readonly onLegs: (legs: Legs | null) => void;
  readonly onPlace: (point: TracePoint) => void;
  readonly onPoint: (point: TracePoint | null) => void;
}

export const SMALL = 1;
export const FAST = 10;
const SQUARE_US = 200_000;

export function useKeyCursor(input: KeyCursorInput): {
  readonly cursor: KeyCursor | null;
  readonly hide: () => void;
  readonly onKeyDown: (event: KeyboardEvent) => void;
} {
  const { map, tool, legs, stepUs, snap, onLegs, onPlace, onPoint } = input;
  const [cursor, setCursor] = useState<KeyCursor | null>(null);
  /** Of the newest movement: answers to older ones are late. */
  const moves = useRef(0);
  const isLegged = tool === "caliper" || tool === "qt";
  const open = isLegged && legs !== null && !legs.isFixed ? legs : null;

  // The page is told anew with each repaired sample; only one that lies elsewhere is another page.
  const lying = useMemo(() => JSON.stringify(map.lanes), [map]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another page or tool, another cursor.
  useEffect(() => setCursor(null), [lying, tool]);

  const start = (): KeyCursor | null => {
    const begun = open === null ? undefined : lanesOf(map, open.from.lead, open.from.atUs)[0];
    const lane = begun ?? map.lanes[0];
    if (lane === undefined) return null;
    return {
      lane,
      atUs: open?.from.atUs ?? Math.round((lane.fromUs + laneEndUs(lane)) / 2),
      uv: open?.from.uv ?? null,
    };
  };
  const moveTo = async (lane: StillLane, wantedUs: number): Promise<void> => {
    const atUs = Math.min(laneEndUs(lane), Math.max(lane.fromUs, wantedUs));
    moves.current += 1;
    const move = moves.current;
    setCursor({ lane, atUs, uv: null });
    const found = await snap(lane.lead, atUs, true);
    if (move !== moves.current || found === null) return;
    setCursor({ lane, atUs: found.atUs, uv: found.uv });
    if (tool === "point") onPoint(found);
    if (open !== null) onLegs({ from: open.from, to: found, isFixed: false });
  };
  const set = async (at: KeyCursor): Promise<void> => {
    moves.current += 1;
    const found = await snap(at.lane.lead, at.atUs);
    if (found === null) return;
    if (!isLegged) {
      if (tool !== "point") onPlace(found);
      return;
    }
    onLegs(open === null ? { from: found, to: null, isFixed: false } : { from: open.from, to: found, isFixed: true });
    if (open !== null) setCursor(null);
  };
  const beside = (lane: StillLane, by: 1 | -1): StillLane => {
    const at = map.lanes.findIndex(({ xPx, topPx }) => xPx === lane.xPx && topPx === lane.topPx);
    return map.lanes[at + by] ?? lane;
  };

  const onKeyDown = (event: KeyboardEvent): void => {
    // A leg that has the focus moves itself.
    if (tool === null || event.target !== event.currentTarget) return;
    const at = cursor ?? start();
    if (at === null) return;
    const samples = event.shiftKey ? FAST : SMALL;
    const along = (us: number) => () => moveTo(at.lane, cursor === null && open === null ? at.atUs : at.atUs + us);
    const across = (by: 1 | -1) => () => {
      if (open !== null) return;
      const lane = beside(at.lane, by);
      return moveTo(lane, holds(lane, at.atUs) ? at.atUs : lane.fromUs + (at.atUs - at.lane.fromUs));
    };
    const acts: Readonly<Record<string, () => unknown>> = {
      ArrowLeft: along(-samples * stepUs),
      ArrowRight: along(samples * stepUs),
      PageUp: along(-SQUARE_US),
      PageDown: along(SQUARE_US),
      ArrowUp: across(-1),
      ArrowDown: across(1),
      Enter: () => (cursor === null ? moveTo(at.lane, at.atUs) : set(cursor)),
      Escape: () => {
        setCursor(null);
        if (open !== null) onLegs(null);
      },
    };
    const act = acts[event.key];
    if (act === undefined) return;
    event.preventDefault();
    void act();
  };
  return { cursor, hide: () => setCursor(null), onKeyDown };
}
