/**
 * What can be seen and heard of the others, one entry per source of a participant.
 *
 * A source outlives its Producer: when the media worker is replaced every Producer disappears at once and returns
 * under a new id a moment later, and until then the last picture must stay on screen, greyed and counted, instead of
 * a tile that looks as if the camera had been switched off. Pure; the tracks are `session.ts`'s.
 */

export type SourceKind = "camera" | "microphone" | "screen" | "screen_audio";

export interface Producer {
  readonly id: string;
  readonly participant: string;
  readonly kind: "audio" | "video";
  readonly source: SourceKind;
  readonly label: string;
  readonly paused: boolean;
}

export interface RemoteSource {
  /** participant/source/label: stable over worker restarts and reconnects. */
  readonly key: string;
  readonly participant: string;
  readonly kind: "audio" | "video";
  readonly source: SourceKind;
  readonly label: string;
  /** `null` while the source is awaited after a reset. */
  readonly producer: string | null;
  readonly paused: boolean;
  readonly lostAtMs: number | null;
}

/** How long a source that a reset took away is awaited before its tile says "camera off". */
export const AWAIT_MS = 20_000;

export interface ConsultMedia {
  readonly epoch: number;
  readonly producers: readonly Producer[];
  readonly participants: ReadonlySet<string>;
}

/**
 * Fold the present state of the consult into the list of sources.
 *
 * @param before the last list and the media epoch it belonged to
 */
export function foldSources(
  before: { readonly epoch: number; readonly sources: readonly RemoteSource[] },
  now: ConsultMedia,
  me: string,
  nowMs: number,
): readonly RemoteSource[] {
  const present = now.producers.filter(({ participant }) => participant !== me).map(toSource);
  const keys = new Set(present.map(({ key }) => key));
  const awaited = before.sources
    .filter((source) => !keys.has(source.key) && now.participants.has(source.participant))
    .filter((source) => now.epoch !== before.epoch || source.producer === null)
    .map((source) => ({ ...source, producer: null, lostAtMs: source.lostAtMs ?? nowMs }))
    .filter((source) => nowMs - source.lostAtMs < AWAIT_MS);
  return [...present, ...awaited];
}

export const keyOf = ({ participant, source, label }: Pick<Producer, "participant" | "source" | "label">): string =>
  `${participant}/${source}/${label}`;

function toSource(producer: Producer): RemoteSource {
  const { id, participant, kind, source, label, paused } = producer;
  return {
    key: keyOf(producer),
    participant,
    kind,
    source,
    label,
    producer: id,
    paused,
    lostAtMs: null,
  };
}
