/**
 * What a screen says about the devices of a consult and whose signals they send (W20, W22). Pure; time comes in.
 *
 * A binding whose time has passed counts as over here at once: the server says so within a beat, and the trace of
 * somebody who may be lying in another bed by now must not look bound until then.
 */
import type { Binding, Consult, DeviceUnbound, Mismatch, Participant } from "../protocol";

/** How long before its end a binding asks to be renewed. */
export const WARN_MS = 5 * 60_000;

export type BindingState = "bound" | "ending" | "mismatch" | "unbound";

export interface DeviceRow {
  readonly device: Participant;
  readonly state: BindingState;
  /** Set when bound or ending. */
  readonly binding: Binding | null;
  readonly leftMs: number;
  readonly mismatch: Mismatch | null;
  /** How the last binding in this context ended. */
  readonly ended: DeviceUnbound | null;
  /** What the device is set to itself, when that is nobody who is open here. */
  readonly contradiction: string | null;
  readonly isAway: boolean;
  readonly canBind: boolean;
  readonly canUnbind: boolean;
}

/**
 * The devices of the consult: what needs a person first, then in the order they came.
 *
 * @param nowMs server time
 */
export function deviceRows(
  consult: Consult,
  me: string,
  endings: Readonly<Record<string, DeviceUnbound>>,
  nowMs: number,
): readonly DeviceRow[] {
  return Object.values(consult.participants)
    .filter(({ role }) => role === "device")
    .map((device) => rowOf(consult, me, device, endings[device.id] ?? null, nowMs))
    .sort(
      (a, b) =>
        Number(b.state === "mismatch") - Number(a.state === "mismatch") ||
        a.device.joined_at_ms - b.device.joined_at_ms ||
        a.device.id.localeCompare(b.device.id),
    );
}

function rowOf(
  consult: Consult,
  me: string,
  device: Participant,
  ended: DeviceUnbound | null,
  nowMs: number,
): DeviceRow {
  const known = consult.bindings[device.id];
  const binding = known !== undefined && nowMs < known.until_ms ? known : null;
  const mismatch = consult.mismatches[device.id] ?? null;
  const leftMs = binding === null ? 0 : binding.until_ms - nowMs;
  return {
    device,
    state: stateOf(binding, mismatch, leftMs),
    binding,
    leftMs,
    mismatch,
    ended,
    contradiction: contradictionOf(consult, device.id),
    isAway: device.connection === "reconnecting",
    canBind: canBind(consult, me, device),
    canUnbind: binding !== null && ["doctor", "nurse", "guest", "room"].includes(consult.participants[me]?.role ?? ""),
  };
}

function stateOf(binding: Binding | null, mismatch: Mismatch | null, leftMs: number): BindingState {
  if (binding !== null) return leftMs <= WARN_MS ? "ending" : "bound";
  return mismatch !== null ? "mismatch" : "unbound";
}

/** Whether this participant stands at that bedside and a patient is open; the server has the last word. [BI2] */
function canBind(consult: Consult, me: string, device: Participant): boolean {
  const self = consult.participants[me];
  if (self === undefined || consult.context === null) return false;
  const isStaff = self.role === "doctor" || self.role === "nurse" || self.role === "room";
  return isStaff && self.hospital !== "" && self.hospital === device.hospital;
}

function contradictionOf(consult: Consult, device: string): string | null {
  const reported = consult.reported[device] ?? "";
  const identifiers = consult.context?.patient.identifiers;
  if (reported === "" || identifiers === undefined) return null;
  return identifiers.some(({ value }) => normalised(value) === normalised(reported)) ? null : reported;
}

/** As the server compares: without width, case, spaces and a scanner's control characters. [BI1] */
export function normalised(identifier: string): string {
  return identifier
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[\p{Z}\p{C}]/gu, "");
}

/** What is wrong with the two before anybody is asked: one of them missing, or the same one twice. */
export function inputProblem(first: string, second: string): "missing" | "same" | null {
  const [a, b] = [normalised(first), normalised(second)];
  if (a === "" || b === "") return "missing";
  return a === b ? "same" : null;
}

/** Choices of a binding's length, minutes. */
export const LENGTHS_MIN = [30, 60, 120, 240, 480, 720, 1440] as const;
export const USUAL_MIN = 240;
