/**
 * Which picture stands beside the trace: the room's where the device is, else anybody's from there (W43). Pure.
 */
import type { RemoteMedia } from "../media/session";
import type { Consult } from "../protocol";

/** The camera of the place where a stream's device is; `null` when nobody there sends a picture. */
export function pictureBeside(consult: Consult, streamId: number, remote: readonly RemoteMedia[]): RemoteMedia | null {
  const source = Object.values(consult.data_producers).find(({ waveform }) => waveform?.stream_id === streamId);
  const hospital = source === undefined ? undefined : consult.participants[source.participant]?.hospital;
  if (hospital === undefined) return null;
  const there = remote.filter(
    ({ kind, source: of, participant, paused, producer }) =>
      kind === "video" &&
      of === "camera" &&
      !paused &&
      producer !== null &&
      consult.participants[participant]?.hospital === hospital,
  );
  return there.find(({ participant }) => consult.participants[participant]?.role === "room") ?? there[0] ?? null;
}
