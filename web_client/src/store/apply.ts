/**
 * Snapshot + event -> snapshot: the same law as `apply` in signaling/core/consult.py.
 *
 * Golden vectors written by the Python side (tests/vectors/signaling) are
 * replayed against this file, so the two cannot drift apart.
 */
import {
  type AnyEvent,
  type Connection,
  type Consult,
  type ContentShared,
  type IdentityCheck,
  type Opened,
  type Participant,
  SUMMARY,
} from "../protocol";

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
      return {
        ...withoutTrace(consult),
        ...NO_ANCHOR,
        context: event.context,
        context_version: event.context.version,
        context_changed_at_ms: event.at_ms,
        current: "Patient",
        opens: { Patient: openedBy(event) },
        view: SUMMARY,
        ...NO_MARKS,
        identity_check: {
          patient: event.context.patient.id,
          context_version: event.context.version,
          hub: null,
          partner: null,
          skipped: null,
        },
      };
    case "context_closed":
      return {
        ...withoutTrace(consult),
        ...NO_ANCHOR,
        context: null,
        context_version: consult.context_version + 1,
        context_changed_at_ms: event.at_ms,
        view: SUMMARY,
        ...NO_MARKS,
        identity_check: null,
      };
    case "context_resumed":
      return {
        ...(event.version !== consult.context_version && carried(consult, event.version)),
        context_changed_at_ms: event.at_ms,
        current: event.current,
        opens: { ...consult.opens, [event.current]: openedBy(event) },
      };
    case "anchor_opened": {
      const { anchor, version } = event;
      const type = anchor.resource_type;
      return {
        ...carried(consult, version),
        context_changed_at_ms: event.at_ms,
        anchors: { ...consult.anchors, [type]: anchor },
        current: type,
        opens: { ...consult.opens, [type]: openedBy(event) },
        ...(type === "DiagnosticReport" && {
          content: { report: anchor.id, version: String(version), resources: {}, selected: [] },
        }),
      };
    }
    case "anchor_closed": {
      const type = event.resource_type;
      return {
        ...carried(consult, event.version),
        context_changed_at_ms: event.at_ms,
        anchors: without(consult.anchors, type),
        current: consult.current === type ? null : consult.current,
        opens: without(consult.opens, type),
        content: type === "DiagnosticReport" ? null : consult.content,
      };
    }
    case "content_shared":
      return contentShared(consult, event);
    case "content_selected":
      if (consult.content?.report !== event.report) return {};
      return { content: { ...consult.content, selected: event.selected } };
    case "program_out_of_step":
      return { programs: { ...consult.programs, [event.program.id]: event.program } };
    case "program_in_step":
      return { programs: without(consult.programs, event.program) };
    case "program_said":
      return {};
    case "context_confirmed":
      return patchParticipant(consult, event.participant, (participant) => ({
        ...participant,
        context_seen: event.version,
      }));
    case "lead_changed":
      return { lead: event.lead };
    case "page_turned":
      return { view: event.view, ...NO_MARKS };
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
    case "device_bound":
      return {
        bindings: { ...consult.bindings, [event.binding.device]: event.binding },
        mismatches: without(consult.mismatches, event.binding.device),
      };
    case "device_unbound":
      return {
        bindings: without(consult.bindings, event.device),
        data_producers: keep(consult.data_producers, ({ id }) => !event.closed.includes(id)),
      };
    case "device_reported": {
      const reported = without(consult.reported, event.device);
      return { reported: event.reported === "" ? reported : { ...reported, [event.device]: event.reported } };
    }
    case "device_mismatch":
      return { mismatches: { ...consult.mismatches, [event.mismatch.device]: event.mismatch } };
    case "ecg_frozen":
      return { ecg_freeze: event.freeze };
    case "ecg_released":
      return { ecg_freeze: null };
    case "ecg_mark_put":
      return { ecg_marks: { ...consult.ecg_marks, [event.mark.id]: event.mark } };
    case "ecg_mark_removed":
      return { ecg_marks: without(consult.ecg_marks, event.id) };
    case "ecg_snapshot_taken": {
      const { snapshot } = event;
      if (consult.context?.version !== snapshot.context_version) return {};
      return { ecg_snapshots: { ...consult.ecg_snapshots, [snapshot.id]: snapshot } };
    }
    case "ecg_snapshot_failed":
      return {};
    case "ecg_state_reported":
      return { ecg_states: { ...consult.ecg_states, [event.report.participant]: event.report } };
    case "highlighted":
      return { highlights: { ...consult.highlights, [event.highlight.by]: event.highlight } };
    case "highlight_cleared":
      return { highlights: without(consult.highlights, event.by) };
    case "page_frozen":
      return { page_freeze: event.freeze };
    case "page_released":
      return { page_freeze: null };
    case "note_put":
    case "note_marked_in_error":
    case "wrong_patient_reported":
      return {};
    case "identity_ticked":
      return withCheck(consult, { [event.side]: event.tick });
    case "identity_check_skipped":
      return withCheck(consult, { skipped: event.skip });
    case "media_reset":
      return { media_epoch: event.media_epoch, producers: {}, data_producers: {} };
    case "consult_ended":
      return ended(consult, event.at_ms);
  }
}

function withoutParticipant(consult: Consult, id: string): Partial<Consult> {
  return {
    participants: without(consult.participants, id),
    producers: keep(consult.producers, (producer) => producer.participant !== id),
    data_producers: keep(consult.data_producers, (producer) => producer.participant !== id),
    lead: consult.lead === id ? null : consult.lead,
    bindings: without(consult.bindings, id),
    reported: without(consult.reported, id),
    mismatches: without(consult.mismatches, id),
    ecg_states: without(consult.ecg_states, id),
    highlights: without(consult.highlights, id),
    page_freeze: consult.page_freeze?.by === id ? null : consult.page_freeze,
  };
}

/** What was bound to, drawn on or said of the former patient's trace ends with the context (W24). */
function withoutTrace(consult: Consult): Partial<Consult> {
  return {
    data_producers: keep(consult.data_producers, ({ waveform, vitals }) => waveform === null && vitals === null),
    bindings: {},
    mismatches: {},
    ecg_freeze: null,
    ecg_marks: {},
    ecg_snapshots: {},
    ecg_states: {},
  };
}

/** What was drawn on a page goes with the page. [SH2] */
const NO_MARKS = { highlights: {}, page_freeze: null } satisfies Partial<Consult>;

function withCheck({ identity_check }: Consult, change: Partial<IdentityCheck>): Partial<Consult> {
  return identity_check === null ? {} : { identity_check: { ...identity_check, ...change } };
}

/** What was open beside the former patient goes with the patient. [AN1] */
const NO_ANCHOR = { anchors: {}, current: null, opens: {}, content: null } satisfies Partial<Consult>;

function openedBy({ revision, at_ms, request }: Opened): Opened {
  return { revision, at_ms, request };
}

/** The same patient under another version: bindings, marks and strips stay. [AN2] */
function carried(consult: Consult, version: number): Partial<Consult> {
  if (consult.context === null) return {};
  return {
    context: { ...consult.context, version },
    context_version: version,
    bindings: under(version, consult.bindings),
    mismatches: under(version, consult.mismatches),
    ecg_marks: under(version, consult.ecg_marks),
    ecg_snapshots: under(version, consult.ecg_snapshots),
    ecg_freeze: null,
    ecg_states: {},
    ...NO_MARKS,
    identity_check: consult.identity_check && { ...consult.identity_check, context_version: version },
  };
}

function under<T>(context_version: number, entries: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(entries).map(([id, entry]) => [id, { ...entry, context_version }]));
}

/** What the server lets pass of a transaction. */
interface Entry {
  readonly fullUrl?: string;
  readonly request: { readonly method: "PUT" | "DELETE" };
  readonly resource?: { readonly resourceType: string; readonly id: string };
}

function contentShared({ content }: Consult, event: ContentShared): Partial<Consult> {
  if (content?.report !== event.report) return {};
  let { resources } = content;
  const { entry } = event.bundle as { entry: readonly Entry[] };
  for (const { fullUrl = "", resource } of entry) {
    resources =
      resource === undefined
        ? without(resources, fullUrl)
        : { ...resources, [`${resource.resourceType}/${resource.id}`]: { ...resource } };
  }
  const selected = content.selected.filter((one) => one in resources);
  return { content: { ...content, version: event.version, resources, selected } };
}

function ended(consult: Consult, atMs: number): Partial<Consult> {
  return {
    ...withoutTrace(consult),
    ...NO_ANCHOR,
    context_changed_at_ms: consult.context === null ? consult.context_changed_at_ms : atMs,
    programs: {},
    reported: {},
    status: "ended",
    participants: {},
    producers: {},
    data_producers: {},
    lead: null,
    context: null,
    context_version: consult.context === null ? consult.context_version : consult.context_version + 1,
    view: SUMMARY,
    ...NO_MARKS,
    identity_check: null,
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
