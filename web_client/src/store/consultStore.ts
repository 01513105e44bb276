/**
 * What this page knows about its consult, as one zustand store.
 *
 * The snapshot is changed only by `applyEvent` and by newer snapshots; signals
 * (pointer, scroll, loudest speaker) are kept beside it and forgotten when the
 * context, the page or the lead they belong to is gone.
 *
 *     const { store, socket } = openConsult({ getToken });
 *     socket.start();
 *     const lead = useStore(store, (state) => state.consult?.lead);
 */
import { createStore, type StoreApi } from "zustand/vanilla";
import { type ConnectionStatus, ConsultSocket, type ConsultSocketOptions, INITIAL_STATUS } from "../net/consultSocket";
import type {
  AnyEvent,
  AnySignal,
  Consult,
  DeviceUnbound,
  EcgPointed,
  HeartRate,
  Inked,
  Joined,
  JsonObject,
  Participant,
  Pointed,
  Scrolled,
} from "../protocol";
import { applyEvent } from "./apply";

export interface Inking {
  readonly freeze: string;
  readonly strokes: Readonly<Record<number, readonly number[]>>;
}

export interface ConsultState {
  status: ConnectionStatus;
  /** This page's participant id; null before the first join. */
  you: string | null;
  consult: Consult | null;
  /** For mediasoup-client's `device.load`. */
  routerRtpCapabilities: JsonObject | null;
  /** Counts joins after which Transports of before must be thrown away. */
  mediaGeneration: number;
  /** Add to `Date.now()` to get the server's clock; good to about half a round trip. */
  serverOffsetMs: number;
  /** When the server ends at the latest, by `performance.now()`; `null` while it is not about to restart. [SE14] */
  stopsAtMs: number | null;
  pointer: Pointed | null;
  scroll: Scrolled | null;
  /** Who points where on the trace, by participant. [EC4] */
  ecgPointers: Readonly<Record<string, EcgPointed>>;
  /** Strips that were asked for and could not be stored: the refusal's code, by id. [EC5] */
  failedSnapshots: Readonly<Record<string, string>>;
  /** What somebody draws now on the frozen page, by stroke; of that freeze only. [SH7] */
  ink: Inking | null;
  /** How the last binding of a device in this context ended, while it is not bound anew. [BI3] */
  bindingEnds: Readonly<Record<string, DeviceUnbound>>;
  /** What the server computed last, by stream; it carries its own time. [EC7] */
  heartRates: Readonly<Record<number, HeartRate>>;
  /** Producer id of the loudest speaker. */
  activeSpeaker: string | null;
  /** Counts notes put and marked: the record has others than before. [SH4] */
  notesSeen: number;
  /** A patient with the same family name is open in another consult. [SN1] (W25) */
  sameSurname: boolean;
}

export type ConsultStore = StoreApi<ConsultState>;

const NOTHING_KNOWN: ConsultState = {
  status: INITIAL_STATUS,
  you: null,
  consult: null,
  routerRtpCapabilities: null,
  mediaGeneration: 0,
  serverOffsetMs: 0,
  stopsAtMs: null,
  pointer: null,
  scroll: null,
  ecgPointers: {},
  failedSnapshots: {},
  ink: null,
  bindingEnds: {},
  heartRates: {},
  activeSpeaker: null,
  notesSeen: 0,
  sameSurname: false,
};

export function createConsultStore(): ConsultStore {
  return createStore<ConsultState>()(() => NOTHING_KNOWN);
}

/** A store and the socket that fills it; call `socket.start()`, and `socket.leave()` or `socket.close()` at the end. */
export function openConsult(options: Omit<ConsultSocketOptions, "onJoined" | "onSnapshot" | "onEvent" | "onStatus">): {
  store: ConsultStore;
  socket: ConsultSocket;
} {
  const store = createConsultStore();
  const socket = new ConsultSocket({
    ...options,
    onJoined: (joined, resumed) => store.setState((state) => afterJoin(state, joined, resumed)),
    onSnapshot: (consult) =>
      store.setState((state) => ({ ...withConsult(state, consult), notesSeen: state.notesSeen + 1 })),
    onEvent: (event) => store.setState((state) => afterEvent(state, event)),
    onSignal: (signal) => {
      store.setState((state) => afterSignal(state, signal));
      options.onSignal?.(signal);
    },
    onStatus: (status) => store.setState({ status }),
  });
  return { store, socket };
}

export function afterJoin(state: ConsultState, joined: Joined, resumed: boolean): Partial<ConsultState> {
  const kept = resumed && state.consult?.media_epoch === joined.snapshot.media_epoch;
  return {
    ...withConsult(state, joined.snapshot),
    you: joined.you,
    routerRtpCapabilities: joined.router_rtp_capabilities,
    mediaGeneration: kept ? state.mediaGeneration : state.mediaGeneration + 1,
    serverOffsetMs: joined.server_time_ms - Date.now(),
    pointer: null,
    scroll: null,
    ecgPointers: {},
    ink: null,
    bindingEnds: {},
    heartRates: {},
    activeSpeaker: null,
    notesSeen: state.notesSeen + 1,
  };
}

export function afterEvent(state: ConsultState, event: AnyEvent): Partial<ConsultState> {
  if (state.consult === null) return {};
  const ends = endsAfter(state.bindingEnds, event);
  const next = { ...withConsult(state, applyEvent(state.consult, event)), bindingEnds: ends };
  if (event.type === "note_put" || event.type === "note_marked_in_error") {
    return { ...next, notesSeen: state.notesSeen + 1 };
  }
  if (event.type === "context_opened" || event.type === "context_closed") return { ...next, sameSurname: false };
  if (event.type === "ecg_snapshot_failed") {
    return { ...next, failedSnapshots: { ...state.failedSnapshots, [event.id]: event.code } };
  }
  return event.type === "media_reset" ? { ...next, mediaGeneration: state.mediaGeneration + 1 } : next;
}

export function afterSignal(state: ConsultState, signal: AnySignal): Partial<ConsultState> {
  switch (signal.type) {
    case "pointed":
      return belongs(state.consult, signal) ? { pointer: signal.visible ? signal : null } : {};
    case "scrolled":
      return belongs(state.consult, signal) ? { scroll: signal } : {};
    case "active_speaker":
      return { activeSpeaker: signal.producer };
    case "beat": {
      const serverOffsetMs = signal.server_time_ms - Date.now();
      const stops = signal.stops_at_ms ?? null;
      const leftMs = stops === null ? null : stops - signal.server_time_ms;
      const stopsAtMs = leftMs === null ? null : performance.now() + leftMs;
      // Of the patient whom this beat is about; a page that is behind hears it again in two seconds.
      const isAbout = signal.context_version === (state.consult?.context?.version ?? 0);
      return { serverOffsetMs, stopsAtMs, ...(isAbout && { sameSurname: signal.same_surname }) };
    }
    case "ecg_pointed":
      return { ecgPointers: pointersAfter(state, signal) };
    case "inked":
      return { ink: inkAfter(state, signal) };
    case "heart_rate":
      return isOpen(state.consult, signal.context_version)
        ? { heartRates: { ...state.heartRates, [signal.stream_id]: signal } }
        : {};
    // The media session's business, which hears them from the socket.
    case "consumer_layers":
    case "line_quality":
    case "transport_gone":
    case "goodbye":
      return {};
  }
}

function withConsult(state: ConsultState, consult: Consult): Partial<ConsultState> {
  const { pointer, scroll, activeSpeaker } = state;
  return {
    consult,
    ...tracesOf(state, consult),
    ...(consult.context?.version !== state.consult?.context?.version && { bindingEnds: {} }),
    pointer: belongs(consult, pointer) ? pointer : null,
    scroll: belongs(consult, scroll) ? scroll : null,
    activeSpeaker: activeSpeaker !== null && activeSpeaker in consult.producers ? activeSpeaker : null,
    ...(state.ink !== null && state.ink.freeze !== consult.page_freeze?.id && { ink: null }),
  };
}

/** One stroke, whole; strokes beyond the count were taken back. Ink of another page, patient or hand is none (W24). */
function inkAfter({ consult, ink }: ConsultState, signal: Inked): Inking | null {
  const freeze = consult?.page_freeze;
  const isOfFreeze = freeze != null && freeze.id === signal.freeze && freeze.by === signal.by;
  if (!isOfFreeze || !isOpen(consult, signal.context_version)) return ink;
  const before = ink?.freeze === signal.freeze ? ink.strokes : {};
  const strokes = { ...before, [signal.stroke]: signal.points };
  const kept = Object.entries(strokes).filter(([stroke, points]) => Number(stroke) < signal.of && points.length >= 4);
  return { freeze: signal.freeze, strokes: Object.fromEntries(kept) };
}

/** A change of patient ends every binding and is its own reason: nothing of the former one is kept (W24). */
function endsAfter(ends: ConsultState["bindingEnds"], event: AnyEvent): ConsultState["bindingEnds"] {
  switch (event.type) {
    case "device_unbound":
      return { ...ends, [event.device]: event };
    case "device_bound": {
      const { [event.binding.device]: _over, ...others } = ends;
      return others;
    }
    case "context_opened":
    case "context_closed":
      return {};
    default:
      return ends;
  }
}

/** Pointers on the trace and heart rates belong to the open context, and a pointer to somebody who is here (H21). */
function tracesOf(state: ConsultState, consult: Consult): Partial<ConsultState> {
  const { ecgPointers, heartRates } = state;
  const pointers = Object.entries(ecgPointers).filter(
    ([by, pointer]) => by in consult.participants && isOpen(consult, pointer.context_version),
  );
  const rates = Object.entries(heartRates).filter(([, rate]) => isOpen(consult, rate.context_version));
  return {
    ...(pointers.length < Object.keys(ecgPointers).length && { ecgPointers: Object.fromEntries(pointers) }),
    ...(rates.length < Object.keys(heartRates).length && { heartRates: Object.fromEntries(rates) }),
  };
}

function pointersAfter(state: ConsultState, signal: EcgPointed): Readonly<Record<string, EcgPointed>> {
  if (!isOpen(state.consult, signal.context_version)) return state.ecgPointers;
  const { [signal.by]: _before, ...others } = state.ecgPointers;
  return signal.visible ? { ...others, [signal.by]: signal } : others;
}

function isOpen(consult: Consult | null, contextVersion: number): boolean {
  return consult?.context?.version === contextVersion;
}

/** A pointer of another patient, page or former lead must never be drawn (H21). */
function belongs(consult: Consult | null, signal: Pointed | Scrolled | null): boolean {
  if (consult === null || signal === null || consult.context === null) return false;
  return (
    signal.context_version === consult.context.version &&
    signal.by === consult.lead &&
    signal.view.page === consult.view.page &&
    signal.view.item === consult.view.item
  );
}

/** Participants who do not confirm the open context: their screens are NOT IN SYNC (W19). */
export function outOfSync(consult: Consult): Participant[] {
  const version = consult.context?.version;
  if (version === undefined) return [];
  return Object.values(consult.participants).filter(
    ({ role, context_seen }) => role !== "room" && role !== "device" && context_seen !== version,
  );
}
