/** Which ECG may stand under the open patient's name (W20, W22). Pure. */
import type { Consult, WaveformStream } from "../protocol";

export interface EcgChoice {
  /** The stream to draw; a device bound to another patient never is. */
  readonly stream: WaveformStream | null;
  readonly isOtherPatient: boolean;
}

export function chooseEcg(consult: Consult): EcgChoice {
  const streams = Object.values(consult.data_producers).flatMap(({ label, waveform }) =>
    label === "ecg" && waveform !== null ? [waveform] : [],
  );
  const patient = consult.context?.patient.id;
  const stream = streams.find((candidate) => candidate.patient === patient) ?? null;
  return { stream, isOtherPatient: stream === null && streams.length > 0 && patient !== undefined };
}
