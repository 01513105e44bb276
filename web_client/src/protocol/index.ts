/** The signalling wire as the rest of the client uses it: generated messages plus the few types that derive from them. */
import type { AnyCommand, CommandResults, Consult, Goodbye, View } from "./messages";

export * from "./messages";

/** What the server answers to a command of this type. */
export type ResultFor<T extends AnyCommand> = CommandResults[T["type"]];

export type GoodbyeReason = Goodbye["reason"];

export const SUMMARY: View = { page: "summary", item: "" };

/** The part of a snapshot that belongs to the open patient, their trace, marks and outside programs, when there is none. */
export const NO_TRACE = {
  bindings: {},
  reported: {},
  mismatches: {},
  ecg_freeze: null,
  ecg_marks: {},
  ecg_snapshots: {},
  ecg_states: {},
  context_changed_at_ms: 0,
  anchors: {},
  current: null,
  opens: {},
  content: null,
  programs: {},
  highlights: {},
  page_freeze: null,
  identity_check: null,
} satisfies Partial<Consult>;
