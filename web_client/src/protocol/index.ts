/** The signalling wire as the rest of the client uses it: generated messages plus the few types that derive from them. */
import type { AnyCommand, CommandResults, Consult, Goodbye, View } from "./messages";

export * from "./messages";

/** What the server answers to a command of this type. */
export type ResultFor<T extends AnyCommand> = CommandResults[T["type"]];

export type GoodbyeReason = Goodbye["reason"];

export const SUMMARY: View = { page: "summary", item: "" };

/** The part of a snapshot that belongs to the open patient's trace, when there is none. */
export const NO_TRACE = {
  bindings: {},
  reported: {},
  mismatches: {},
  ecg_freeze: null,
  ecg_marks: {},
  ecg_snapshots: {},
  ecg_states: {},
} satisfies Partial<Consult>;
