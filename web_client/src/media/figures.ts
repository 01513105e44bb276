/**
 * Figures of what is received, from one `getStats` of the receiving transport.
 *
 * One report per reading instead of one per Consumer: a wall with nine sources would else ask eighteen times a second.
 */
import type { types } from "mediasoup-client";
import type { Via } from "./route";

export interface ConsumerFigures {
  readonly consumer: string;
  readonly producer: string;
  readonly kind: "audio" | "video";
  /** Came too late or were there already: with RED almost as many as packets, since each brings an old sound again. */
  readonly packetsDiscarded: number;
  readonly framesDecoded: number;
  readonly framesDropped: number;
  readonly frameWidth: number;
  readonly frameHeight: number;
  readonly freezeCount: number;
  readonly packetsLost: number;
  readonly packetsReceived: number;
  readonly bytesReceived: number;
  readonly jitterBufferMs: number;
  readonly audioEnergy: number;
}

export interface SessionFigures {
  /** Sum over all video. */
  readonly framesDecoded: number;
  /** Sum over all audio, in the unit of `totalAudioEnergy`. */
  readonly audioEnergy: number;
  readonly roundTripMs: number | null;
  /** The path in use; `null` without one. */
  readonly via: Via | null;
  readonly consumers: readonly ConsumerFigures[];
}

export const NO_FIGURES: SessionFigures = {
  framesDecoded: 0,
  audioEnergy: 0,
  roundTripMs: null,
  via: null,
  consumers: [],
};

export async function readFigures(
  transport: types.Transport | null,
  consumers: ReadonlyMap<string, types.Consumer>,
): Promise<SessionFigures> {
  if (transport === null || transport.closed || consumers.size === 0) return NO_FIGURES;
  let report: RTCStatsReport;
  try {
    report = await transport.getStats();
  } catch {
    // Closed while we asked.
    return NO_FIGURES;
  }
  return foldReport([...report.values()] as unknown[], consumers);
}

/** The part of a stats report that concerns our Consumers, matched by track id. */
export function foldReport(
  report: readonly unknown[],
  consumers: ReadonlyMap<
    string,
    { readonly id: string; readonly kind: string; readonly track: { readonly id: string } }
  >,
): SessionFigures {
  const entries = report.filter(isEntry);
  const byTrack = new Map([...consumers].map(([producer, consumer]) => [consumer.track.id, { producer, consumer }]));
  const figures = entries.flatMap((entry) => {
    const match = entry.type === "inbound-rtp" ? byTrack.get(String(entry.trackIdentifier)) : undefined;
    return match === undefined ? [] : [consumerFigures(entry, match.producer, match.consumer)];
  });
  const pair = selectedPair(entries);
  return {
    framesDecoded: figures.reduce((sum, { framesDecoded }) => sum + framesDecoded, 0),
    audioEnergy: figures.reduce((sum, { audioEnergy }) => sum + audioEnergy, 0),
    roundTripMs: pair === undefined ? null : number(pair, "currentRoundTripTime") * 1_000,
    via: viaOf(entries, pair),
    consumers: figures,
  };
}

/** Of what is sent: the path, and the worst share of packets that the relay reported lost, if it has reported. */
export function foldSent(report: readonly unknown[]): { readonly via: Via | null; readonly lost: number | null } {
  const entries = report.filter(isEntry);
  const losses = entries.flatMap((entry) => {
    const isReport = entry.type === "remote-inbound-rtp" && typeof entry.fractionLost === "number";
    return isReport ? [number(entry, "fractionLost")] : [];
  });
  return { via: viaOf(entries, selectedPair(entries)), lost: losses.length === 0 ? null : Math.max(...losses) };
}

/** After an ICE restart several pairs were once nominated; the transport names the one in use. */
function selectedPair(entries: readonly Entry[]): Entry | undefined {
  const selected = entries.find(({ type }) => type === "transport")?.selectedCandidatePairId;
  const pairs = entries.filter(({ type }) => type === "candidate-pair");
  return pairs.find(({ id }) => id === selected) ?? pairs.find(({ nominated }) => nominated === true);
}

function viaOf(entries: readonly Entry[], pair: Entry | undefined): Via | null {
  if (pair === undefined) return null;
  const local = entries.find(({ type, id }) => type === "local-candidate" && id === pair.localCandidateId);
  if (local?.candidateType === "relay") {
    return local.relayProtocol === "tls" ? "turn-tls" : local.relayProtocol === "tcp" ? "turn-tcp" : "turn-udp";
  }
  return local?.protocol === "tcp" ? "tcp" : "udp";
}

type Entry = Readonly<Record<string, unknown>>;

const isEntry = (value: unknown): value is Entry => typeof value === "object" && value !== null;

const number = (entry: Entry, name: string): number => {
  const value = entry[name];
  return typeof value === "number" ? value : 0;
};

function consumerFigures(entry: Entry, producer: string, consumer: { id: string; kind: string }): ConsumerFigures {
  const emitted = number(entry, "jitterBufferEmittedCount");
  return {
    consumer: consumer.id,
    producer,
    kind: consumer.kind === "video" ? "video" : "audio",
    packetsDiscarded: number(entry, "packetsDiscarded"),
    framesDecoded: number(entry, "framesDecoded"),
    framesDropped: number(entry, "framesDropped"),
    frameWidth: number(entry, "frameWidth"),
    frameHeight: number(entry, "frameHeight"),
    freezeCount: number(entry, "freezeCount"),
    packetsLost: number(entry, "packetsLost"),
    packetsReceived: number(entry, "packetsReceived"),
    bytesReceived: number(entry, "bytesReceived"),
    jitterBufferMs: emitted === 0 ? 0 : (number(entry, "jitterBufferDelay") / emitted) * 1_000,
    audioEnergy: number(entry, "totalAudioEnergy"),
  };
}
