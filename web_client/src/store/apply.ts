/**
 * Snapshot + event -> snapshot: the same law as `apply` in signaling/core/consult.py.
 *
 * Golden vectors written by the Python side (tests/vectors/signaling) are
 * replayed against this file, so the two cannot drift apart.
 */
import { type AnyEvent, type Connection, type Consult, type Participant, SUMMARY } from "../protocol";

/** The event does not follow the snapshot: something between them is missing and must be fetched. */
export class RevisionGap extends Error {
  constructor(have: number, got: number) {
    super(`revision ${got} does not follow ${have}`);
    this.name = "RevisionGap";
  }
}

/**
 * The state after `event`. An event the snapshot already contains changes nothing.
 *
 * @throws RevisionGap when an event in between was missed.
 */
export function applyEvent(consult: Consult, event: AnyEvent): Consult {
  if (event.revision <= consult.revision) return consult;
  if (event.revision !== consult.revision + 1) throw new RevisionGap(consult.revision, event.revision);
  return { ...consult, ...changes(consult, event), revision: event.revision };
}

function changes(consult: Consult, event: AnyEvent): Partial<Consult> {
  switch (event.type) {
    case "participant_joined":
      return { participants: { ...consult.participants, [event.participant.id]: event.participant } };
    case "participant_left":
      return withoutParticipant(consult, event.participant);
    case "connection_changed":
      return patchParticipant(consult, event.participant, (participant) => connected(participant, event.connection));
    case "context_opened":
      return { context: event.context, context_version: event.context.version, view: SUMMARY };
    case "context_closed":
      return { context: null, context_version: consult.context_version + 1, view: SUMMARY };
    case "context_confirmed":
      return patchParticipant(consult, event.participant, (participant) => ({
        ...participant,
        context_seen: event.version,
      }));
    case "lead_changed":
      return { lead: event.lead };
    case "page_turned":
      return { view: event.view };
    case "producer_added":
      return { producers: { ...consult.producers, [event.producer.id]: event.producer } };
    case "producer_changed": {
      const producer = consult.producers[event.producer];
      if (producer === undefined) return {};
      return { producers: { ...consult.producers, [producer.id]: { ...producer, paused: event.paused } } };
    }
    case "producer_closed":
      return { producers: without(consult.producers, event.producer) };
    case "data_producer_added":
      return { data_producers: { ...consult.data_producers, [event.data_producer.id]: event.data_producer } };
    case "data_producer_closed":
      return { data_producers: without(consult.data_producers, event.data_producer) };
    case "media_reset":
      return { media_epoch: event.media_epoch, producers: {}, data_producers: {} };
    case "consult_ended":
      return ended(consult);
  }
}

function withoutParticipant(consult: Consult, id: string): Partial<Consult> {
  return {
    participants: without(consult.participants, id),
    producers: keep(consult.producers, (producer) => producer.participant !== id),
    data_producers: keep(consult.data_producers, (producer) => producer.participant !== id),
    lead: consult.lead === id ? null : consult.lead,
  };
}

function ended(consult: Consult): Partial<Consult> {
  return {
    status: "ended",
    participants: {},
    producers: {},
    data_producers: {},
    lead: null,
    context: null,
    context_version: consult.context === null ? consult.context_version : consult.context_version + 1,
    view: SUMMARY,
  };
}

/** Whoever lost the socket shows nothing that can be vouched for. */
function connected(participant: Participant, connection: Connection): Participant {
  return { ...participant, connection, context_seen: connection === "reconnecting" ? 0 : participant.context_seen };
}

function patchParticipant(
  consult: Consult,
  id: string,
  change: (participant: Participant) => Participant,
): Partial<Consult> {
  const participant = consult.participants[id];
  if (participant === undefined) return {};
  return { participants: { ...consult.participants, [id]: change(participant) } };
}

function keep<T>(entries: Record<string, T>, wanted: (entry: T) => boolean): Record<string, T> {
  return Object.fromEntries(Object.entries(entries).filter(([, entry]) => wanted(entry)));
}

function without<T>(entries: Record<string, T>, id: string): Record<string, T> {
  const { [id]: _gone, ...rest } = entries;
  return rest;
}
