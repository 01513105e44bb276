/**
 * The way of one strip into the record: ordered, waiting for the ten seconds after, stored or not (W33).
 *
 * The answer to the command only says that it was ordered. The event that says it is stored comes when the seconds
 * after are in; an order that is neither stored nor refused in good time is said to be unconfirmed, never stored.
 */
import { useCallback, useEffect, useState } from "react";
import { useStore } from "zustand";
import type { ConsultClient } from "../desk/consultClient";
import { RefusalError } from "../net/refusal";
import type { Consult, EcgSettings, EcgSnapshot, EcgState, RefusalBody } from "../protocol";

export type SnapshotState =
  | { readonly kind: "waiting"; readonly atUs: number; readonly id: string | null }
  | { readonly kind: "taken"; readonly snapshot: EcgSnapshot }
  | { readonly kind: "failed"; readonly atUs: number; readonly refusal: RefusalBody | null }
  | { readonly kind: "late"; readonly atUs: number };

export const AFTER_US = 10_000_000;
/** Ten seconds after the moment and time to repair and store. */
const LATE_MS = 40_000;

export interface SnapshotOrder {
  readonly streamId: number;
  readonly version: number;
  readonly atUs: number;
  readonly settings: EcgSettings;
  readonly ageMs: number | null;
  readonly state: EcgState;
}

export interface Snapshots {
  readonly present: SnapshotState | null;
  readonly order: (order: SnapshotOrder) => void;
  readonly dismiss: () => void;
}

export function useSnapshot(client: ConsultClient, consult: Consult): Snapshots {
  const [present, setPresent] = useState<SnapshotState | null>(null);
  const failures = useStore(client.store, ({ failedSnapshots }) => failedSnapshots);
  const id = present?.kind === "waiting" ? present.id : null;
  const atUs = present?.kind === "waiting" ? present.atUs : null;
  const stored = id === null ? undefined : consult.ecg_snapshots[id];
  const failed = id === null ? undefined : failures[id];
  const shown = settled(present, stored, failed);

  useEffect(() => {
    if (atUs === null) return;
    const timer = setTimeout(() => setPresent({ kind: "late", atUs }), LATE_MS);
    return () => clearTimeout(timer);
  }, [atUs]);
  useEffect(() => {
    if (shown !== present) setPresent(shown);
  }, [shown, present]);

  const order = useCallback(
    ({ streamId, version, atUs: moment, settings, ageMs, state }: SnapshotOrder): void => {
      const ask = async (): Promise<void> => {
        setPresent({ kind: "waiting", atUs: moment, id: null });
        try {
          const { snapshot } = await client.socket.command({
            type: "take_ecg_snapshot",
            stream_id: streamId,
            context_version: version,
            at_us: Math.round(moment),
            settings,
            age_ms: ageMs === null ? null : Math.max(0, Math.round(ageMs)),
            state,
          });
          setPresent({ kind: "waiting", atUs: moment, id: snapshot });
        } catch (error) {
          // No answer is no refusal: it may have been ordered all the same.
          if (error instanceof RefusalError) setPresent({ kind: "failed", atUs: moment, refusal: error.body() });
          else setPresent({ kind: "late", atUs: moment });
        }
      };
      void ask();
    },
    [client],
  );
  const dismiss = useCallback(() => setPresent(null), []);
  return { present: shown, order, dismiss };
}

/** What the consult says of an order, once it says anything. */
export function settled(
  present: SnapshotState | null,
  stored: EcgSnapshot | undefined,
  failed: string | undefined,
): SnapshotState | null {
  if (present?.kind !== "waiting" || present.id === null) return present;
  if (stored !== undefined) return { kind: "taken", snapshot: stored };
  if (failed !== undefined) return { kind: "failed", atUs: present.atUs, refusal: null };
  return present;
}
