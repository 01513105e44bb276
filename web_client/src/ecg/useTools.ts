/**
 * What is being set on the still page, and the commands that share it.
 *
 * One tool at a time. Leaving the still page, another signal or another context puts every unfinished thing away: a leg must not stand
 * on a trace that it was not measured on.
 */
import { useCallback, useEffect, useRef, useState } from "react";
import type { ConsultClient } from "../desk/consultClient";
import type { AnyCommand, EcgMark, EcgMarkDraft } from "../protocol";
import { measure, type TracePoint } from "./calipers";
import { draftOf, lastOwn, MAX_MARKS, type MarkPlace } from "./marks";
import { type QtBeat, type QtFormula, qtProblem, qtText, readQt, rrBefore } from "./qtc";
import type { Legs, Tool } from "./StillLayer";
import { useStateOf } from "./useStateOf";

const NO_BEATS: readonly QtBeat[] = [];

export type Problem = "noSample" | "failed" | null;

export interface Tools {
  readonly tool: Tool | null;
  readonly legs: Legs | null;
  readonly hasMarch: boolean;
  readonly problem: Problem;
  /** A place waits for its words. */
  readonly place: TracePoint | null;
  readonly beats: readonly QtBeat[];
  readonly formula: QtFormula;
  /** RR of the beat being measured: typed, or computed; `null` while unknown. */
  readonly rrMs: number | null;
  readonly isRrComputed: boolean;
  /** The last interval that calipers gave. */
  readonly caliperMs: number | null;
  choose(tool: Tool | null): void;
  setLegs(legs: Legs | null): void;
  setMarch(on: boolean): void;
  setProblem(problem: Problem): void;
  setPlace(place: TracePoint | null): void;
  setFormula(formula: QtFormula): void;
  setRr(rrMs: number | null): void;
  addBeat(): void;
  removeBeat(index: number): void;
  /** Show the caliper, or the QT with its formula and RR, to everyone. */
  shareLegs(): void;
  shareText(text: string): void;
  undo(): void;
  remove(id: string): void;
}

export interface ToolsInput {
  readonly place: MarkPlace;
  readonly isStill: boolean;
  readonly marks: readonly EcgMark[];
  readonly me: string;
  /** Computed R peaks, a run of each computation; the first that knows an RR is believed. */
  readonly beatsUs: readonly (readonly number[])[];
  readonly onCommand: (command: AnyCommand) => Promise<void>;
}

export function useTools({ place: where, isStill, marks, me, beatsUs, onCommand }: ToolsInput): Tools {
  const [tool, setTool] = useState<Tool | null>(null);
  const [legs, setLegsNow] = useStateOf<Legs | null>(where.streamId, null);
  const [hasMarch, setMarch] = useState(false);
  const [problem, setProblem] = useStateOf<Problem>(where.streamId, null);
  const [place, setPlace] = useStateOf<TracePoint | null>(where.streamId, null);
  const [beats, setBeats] = useStateOf<readonly QtBeat[]>(where.streamId, NO_BEATS);
  const [formula, setFormula] = useState<QtFormula>("fridericia");
  const [typedRr, setTypedRr] = useStateOf<number | null>(where.streamId, null);
  const [caliperMs, setCaliperMs] = useStateOf<number | null>(where.streamId, null);

  const clear = useCallback((): void => {
    setLegsNow(null);
    setPlace(null);
    setProblem(null);
    setTypedRr(null);
  }, [setLegsNow, setPlace, setProblem, setTypedRr]);
  const choose = useCallback(
    (next: Tool | null): void => {
      setTool(next);
      clear();
    },
    [clear],
  );
  useEffect(() => {
    if (isStill) return;
    choose(null);
    setBeats([]);
    setCaliperMs(null);
  }, [isStill, choose, setBeats, setCaliperMs]);

  const setLegs = (next: Legs | null): void => {
    setLegsNow(next);
    const isNewBeat = tool === "qt" && next?.to === null;
    if (isNewBeat) setTypedRr(null);
    if (tool === "caliper" && next?.isFixed === true && next.to !== null) setCaliperMs(measure(next.from, next.to).ms);
  };
  const computedRr = tool === "qt" && legs !== null ? rrBefore(firstUs(legs), beatsUs) : null;
  const rrMs = typedRr ?? computedRr;
  const beat: QtBeat | null =
    legs?.to != null && legs.isFixed && rrMs !== null ? { qtMs: measure(legs.from, legs.to).ms, rrMs } : null;

  const put = (draft: EcgMarkDraft): void => {
    if (marks.length < MAX_MARKS) void onCommand({ type: "put_ecg_mark", mark: draft });
  };
  const shareLegs = (): void => {
    if (legs?.to == null) return;
    const all = beat !== null && qtProblem(beat) === null ? [...beats, beat] : beats;
    const reading = tool === "qt" ? readQt(all, formula) : null;
    // A QT alone may be shown; a QTc only whole.
    const text = reading === null ? "" : qtText(reading);
    put(draftOf(newId(), tool === "qt" ? "qt" : "caliper", where, legs.from, legs.to, text));
    if (tool === "caliper") setLegsNow(null);
  };
  return {
    tool,
    legs,
    hasMarch,
    problem,
    place,
    beats,
    formula,
    rrMs,
    isRrComputed: typedRr === null && computedRr !== null,
    caliperMs,
    choose,
    setLegs,
    setMarch,
    setProblem,
    setPlace,
    setFormula,
    setRr: setTypedRr,
    addBeat: () => {
      if (beat === null || qtProblem(beat) !== null) return;
      setBeats([...beats, beat]);
      setLegsNow(null);
      setTypedRr(null);
    },
    removeBeat: (index) => setBeats(beats.filter((_, k) => k !== index)),
    shareLegs,
    shareText: (text) => {
      if (place === null) return;
      put(draftOf(newId(), tool === "note" ? "note" : "marker", where, place, null, text));
      setPlace(null);
    },
    undo: () => {
      const own = lastOwn(marks, me);
      if (own !== null) void onCommand({ type: "remove_ecg_mark", id: own.id });
    },
    remove: (id) => void onCommand({ type: "remove_ecg_mark", id }),
  };
}

const firstUs = ({ from, to }: Legs): number => Math.min(from.atUs, to?.atUs ?? from.atUs);

const newId = (): string => crypto.randomUUID();

/** Faster than this nobody follows a pointer, and the server passes no more on. */
const POINT_EVERY_MS = 100;

/** Tell the others where one points, a few times a second; the last word is always "no longer". */
export function usePointing(
  client: ConsultClient,
  { streamId, version }: MarkPlace,
): (point: TracePoint | null) => void {
  const sentMs = useRef(Number.NEGATIVE_INFINITY);
  const last = useRef<TracePoint | null>(null);
  const send = useCallback(
    (point: TracePoint, visible: boolean): void => {
      const { lead, atUs, uv } = point;
      client.socket
        .command({
          type: "point_ecg",
          stream_id: streamId,
          context_version: version,
          lead,
          at_us: Math.round(atUs),
          uv: Math.round(uv),
          visible,
        })
        // The next movement brings the next one.
        .catch(() => undefined);
    },
    [client, streamId, version],
  );
  useEffect(
    () => () => {
      if (last.current !== null) send(last.current, false);
      last.current = null;
    },
    [send],
  );
  return useCallback(
    (point) => {
      if (point === null) {
        if (last.current !== null) send(last.current, false);
        last.current = null;
        return;
      }
      last.current = point;
      const nowMs = performance.now();
      if (nowMs - sentMs.current < POINT_EVERY_MS) return;
      sentMs.current = nowMs;
      send(point, true);
    },
    [send],
  );
}
