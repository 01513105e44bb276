/**
 * What to receive, and what to stop receiving.
 *
 * After a reconnect or a reset the client never replays what happened: it compares the present state of the consult
 * with what it holds and makes up the difference ("my audio works but nobody sees my video" is what replaying gives).
 * Pure; carrying it out is `session.ts`.
 */

export interface Source {
  readonly id: string;
  readonly participant: string;
}

export interface MediaProducer extends Source {
  readonly kind: "audio" | "video";
}

export interface DataSource extends Source {
  readonly label: string;
}

/** What this view wants at all: a record screen needs no media, an ECG screen no video. */
export interface Wishes {
  readonly audio: boolean;
  readonly video: boolean;
  readonly ecg: boolean;
}

export interface Held {
  /** Producer ids with a Consumer, open or being opened. */
  readonly producers: ReadonlySet<string>;
  /** DataProducer ids likewise. */
  readonly dataProducers: ReadonlySet<string>;
}

export interface Plan {
  readonly consume: readonly string[];
  readonly close: readonly string[];
  readonly consumeData: readonly string[];
  readonly closeData: readonly string[];
}

const ECG_LABELS: readonly string[] = ["ecg", "vitals"];

export function planReceiving(
  consult: { readonly producers: readonly MediaProducer[]; readonly dataProducers: readonly DataSource[] },
  me: string,
  wishes: Wishes,
  held: Held,
): Plan {
  const wanted = new Set(
    consult.producers.filter((source) => source.participant !== me && wishes[source.kind]).map(({ id }) => id),
  );
  const wantedData = new Set(
    consult.dataProducers
      .filter((source) => source.participant !== me && wishes.ecg && ECG_LABELS.includes(source.label))
      .map(({ id }) => id),
  );
  return {
    consume: [...wanted].filter((id) => !held.producers.has(id)),
    close: [...held.producers].filter((id) => !wanted.has(id)),
    consumeData: [...wantedData].filter((id) => !held.dataProducers.has(id)),
    closeData: [...held.dataProducers].filter((id) => !wantedData.has(id)),
  };
}
