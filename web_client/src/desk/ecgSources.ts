/**
 * Which ECG may stand under the open patient's name (W20, W22). Pure but for the hook at the end.
 *
 * A source that vanishes is held for a while: when the media worker is replaced it comes back, and until then the
 * frozen, crossed trace that counts its seconds says more than "no source" (W12). It is never held over a change of
 * patient (W24).
 *
 * Where a binding ends, the trace ends with it (W20); what people were doing on pages taken before it stays open, as
 * long as the same context is open and nothing says that the device was at another patient's (W22).
 */
import { useEffect, useRef, useState } from "react";
import type { Consult, WaveformStream } from "../protocol";

export interface EcgChoice {
  /** The stream to draw; a device bound to another patient never is. */
  readonly stream: WaveformStream | null;
  /** Every stream of the open patient, for the chooser. */
  readonly streams: readonly WaveformStream[];
  readonly isOtherPatient: boolean;
}

/** @param wanted the stream that this viewer chose, while it is there */
export function chooseEcg(consult: Consult, wanted: number | null = null): EcgChoice {
  const all = Object.values(consult.data_producers).flatMap(({ label, waveform }) =>
    label === "ecg" && waveform !== null ? [waveform] : [],
  );
  const patient = consult.context?.patient.id;
  const streams = all.filter((candidate) => candidate.patient === patient);
  const stream = streams.find(({ stream_id }) => stream_id === wanted) ?? streams[0] ?? null;
  return { stream, streams, isOtherPatient: stream === null && all.length > 0 && patient !== undefined };
}

export interface HeldEcg {
  readonly stream: WaveformStream | null;
  readonly version: number;
  readonly lostAtMs: number | null;
}

export const HOLD_MS = 20_000;

/** Fold the present choice into what is shown. */
export function holdEcg(before: HeldEcg, stream: WaveformStream | null, version: number, nowMs: number): HeldEcg {
  if (stream !== null) return { stream, version, lostAtMs: null };
  if (before.stream === null || before.version !== version) return { stream: null, version, lostAtMs: null };
  const lostAtMs = before.lostAtMs ?? nowMs;
  return nowMs - lostAtMs < HOLD_MS ? { ...before, lostAtMs } : { stream: null, version, lostAtMs: null };
}

export interface ShownEcg extends EcgChoice {
  /** False: nothing live of `stream` may be shown, only what was taken while it was bound. */
  readonly isBound: boolean;
}

/** The ECG to show for the open patient, held through short absences. */
export function useEcg(consult: Consult, wanted: number | null = null): ShownEcg {
  const { stream, streams, isOtherPatient } = chooseEcg(consult, wanted);
  const version = consult.context_version;
  const [held, setHeld] = useState<HeldEcg>({ stream: null, version, lostAtMs: null });
  useEffect(() => {
    const look = (): void => setHeld((before) => sameHold(before, holdEcg(before, stream, version, performance.now())));
    look();
    const timer = setInterval(look, 1_000);
    return () => clearInterval(timer);
  }, [stream, version]);
  // The version is compared here too: the effect runs after the render that learns of another patient.
  // And a device that came back bound to somebody else, or to nobody, is no longer this patient's (W21, W22).
  const holds = held.version === version && !isOtherPatient && isBound(consult, held.stream);
  const shown = stream ?? (holds ? held.stream : null);
  const before = useRef<{ readonly stream: WaveformStream; readonly version: number } | null>(null);
  if (shown !== null) before.current = { stream: shown, version };
  else if (isOtherPatient || hasMismatch(consult)) before.current = null;
  const kept = before.current?.version === version ? before.current.stream : null;
  return { stream: useSame(shown ?? kept), streams, isOtherPatient, isBound: shown !== null };
}

/** Whether some device is still bound to the patient whose trace this is. */
function isBound(consult: Consult, stream: WaveformStream | null): boolean {
  return Object.values(consult.bindings).some(({ patient }) => patient === stream?.patient);
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

function sameHold(before: HeldEcg, next: HeldEcg): HeldEcg {
  const isSame = before.stream === next.stream && before.version === next.version && before.lostAtMs === next.lostAtMs;
  return isSame ? before : next;
}
