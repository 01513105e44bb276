/**
 * Which ECG may stand under the open patient's name (W20, W22). Pure but for the hook at the end.
 *
 * A source that vanishes is held for a while: when the media worker is replaced it comes back, and until then the
 * frozen, crossed trace that counts its seconds says more than "no source" (W12), or than another source in its place.
 * What is shown stays shown while it is there, whatever comes beside it. A device that returns under another number is
 * the same source and is taken at once. Nothing is ever held over a change of patient (W24).
 *
 * Where a binding ends, the trace ends with it (W20); what people were doing on pages taken before it stays open, as
 * long as the same context is open and nothing says that the device was at another patient's (W22).
 */
import { useEffect, useRef, useState } from "react";
import type { Consult, WaveformStream } from "../protocol";
import { openingOf } from "./contextGate";

export interface EcgChoice {
  /** The stream to draw; a device bound to another patient never is. */
  readonly stream: WaveformStream | null;
  /** Every stream of the open patient, for the chooser. */
  readonly streams: readonly WaveformStream[];
  readonly isOtherPatient: boolean;
}

/** @param wanted the stream that this viewer chose, while it is there */
export function chooseEcg(consult: Consult, wanted: number | null = null): EcgChoice {
  const all = sourcesOf(consult);
  const patient = consult.context?.patient.id;
  const streams = all.map(({ stream }) => stream).filter((candidate) => candidate.patient === patient);
  const stream = streams.find(({ stream_id }) => stream_id === wanted) ?? streams[0] ?? null;
  return { stream, streams, isOtherPatient: stream === null && all.length > 0 && patient !== undefined };
}

interface Source {
  readonly stream: WaveformStream;
  /** Who sends it. */
  readonly device: string;
}

function sourcesOf(consult: Consult): readonly Source[] {
  return Object.values(consult.data_producers).flatMap(({ label, participant, waveform }) =>
    label === "ecg" && waveform !== null ? [{ stream: waveform, device: participant }] : [],
  );
}

export interface HeldEcg {
  readonly stream: WaveformStream | null;
  /** Who sends it; `null` with no stream. */
  readonly device: string | null;
  /** `openingOf` the consult. */
  readonly opening: string;
  readonly lostAtMs: number | null;
}

export const HOLD_MS = 20_000;

/**
 * Fold the present sources into what is shown.
 *
 * @param wanted the stream that this viewer chose, while it is there
 */
export function holdEcg(before: HeldEcg, consult: Consult, wanted: number | null, nowMs: number): HeldEcg {
  const opening = openingOf(consult);
  const patient = consult.context?.patient.id;
  const sources = sourcesOf(consult).filter(({ stream }) => stream.patient === patient);
  const show = (source: Source | undefined): HeldEcg => ({
    stream: source?.stream ?? null,
    device: source?.device ?? null,
    opening,
    lostAtMs: null,
  });
  const chosen = sources.find(({ stream }) => stream.stream_id === wanted);
  if (chosen !== undefined) return show(chosen);
  if (before.stream === null || before.opening !== opening) return show(sources[0]);
  const { stream, device } = before;
  const same = sources.find((source) => source.stream.stream_id === stream.stream_id);
  const returned = same ?? sources.find((source) => source.device === device && isSameSignal(source.stream, stream));
  if (returned !== undefined) return show(returned);
  // What came back bound to somebody else, or to nobody, is no longer this patient's (W21, W22).
  const isBound = Object.values(consult.bindings).some((one) => one.device === device && one.patient === patient);
  const lostAtMs = before.lostAtMs ?? nowMs;
  const isElsewhere = sourcesOf(consult).some(
    (source) => source.device === device && source.stream.patient !== patient,
  );
  if (!isBound || isElsewhere || nowMs - lostAtMs >= HOLD_MS) return show(sources[0]);
  return { ...before, lostAtMs };
}

/** One device may send several signals: which of them came back is told by its leads. */
function isSameSignal(a: WaveformStream, b: WaveformStream): boolean {
  return a.device === b.device && a.leads.join() === b.leads.join();
}

export interface ShownEcg extends EcgChoice {
  /** False: nothing live of `stream` may be shown, only what was taken while it was bound. */
  readonly isBound: boolean;
}

const NOTHING: HeldEcg = { stream: null, device: null, opening: "", lostAtMs: null };

/** The ECG to show for the open patient, held through short absences. */
export function useEcg(consult: Consult, wanted: number | null = null): ShownEcg {
  const { streams, isOtherPatient } = chooseEcg(consult, wanted);
  const opening = openingOf(consult);
  const [held, setHeld] = useState(NOTHING);
  const [, look] = useState(0);
  // Folded while rendering: another source, or another patient, must not be painted for a moment in between (W24).
  const present = holdEcg(held, consult, wanted, performance.now());
  if (!isSameHold(held, present)) setHeld(present);
  const isHeld = present.lostAtMs !== null;
  useEffect(() => {
    if (!isHeld) return;
    const timer = setInterval(() => look((count) => count + 1), 1_000);
    return () => clearInterval(timer);
  }, [isHeld]);
  const shown = present.stream;
  const before = useRef<{ readonly stream: WaveformStream; readonly opening: string } | null>(null);
  if (shown !== null) before.current = { stream: shown, opening };
  else if (isOtherPatient || hasMismatch(consult)) before.current = null;
  const kept = before.current?.opening === opening ? before.current.stream : null;
  return { stream: useSame(shown ?? kept), streams, isOtherPatient, isBound: shown !== null };
}

/** (W22) A device at the open patient reported somebody else: whose its samples are is not known. */
function hasMismatch({ mismatches, context }: Consult): boolean {
  return Object.values(mismatches).some(({ patient }) => patient === context?.patient.id);
}

/** The same object for the same descriptor: each snapshot brings a copy, and another object means another view. */
function useSame(stream: WaveformStream | null): WaveformStream | null {
  const last = useRef(stream);
  if (JSON.stringify(last.current) !== JSON.stringify(stream)) last.current = stream;
  return last.current;
}

function isSameHold(before: HeldEcg, next: HeldEcg): boolean {
  const isSame = before.stream === next.stream && before.device === next.device && before.opening === next.opening;
  return isSame && before.lostAtMs === next.lostAtMs;
}
