/** The two clinical views of a desk, wired to the consult: record and ECG. Shown only behind the context gate. */

import { useMemo, useState } from "react";
import { useStore } from "zustand";
import { localized } from "../i18n";
import { RefusalError } from "../net/refusal";
import type { AnyCommand, Consult, RefusalBody } from "../protocol";
import { RecordPane } from "../record/RecordPane";
import { inkOf, type ShareLink, ShareLinkValue } from "../share";
import type { ConsultClient } from "./consultClient";
import { openingOf } from "./contextGate";
import { ErrorStrip } from "./ErrorStrip";

export interface DeskRecordProps {
  client: ConsultClient;
  consult: Consult;
  me: string;
  /** Behind the context gate: false while the former patient is being cleared, and while out of sync. */
  isShown: boolean;
  inSync: boolean;
  onCommand: (command: AnyCommand) => Promise<void>;
}

export function DeskRecord({ client, consult, me, isShown, inSync, onCommand }: DeskRecordProps) {
  const [isFollowing, setFollowing] = useState(true);
  const scroll = useStore(client.store, (state) => state.scroll);
  const pointer = useStore(client.store, (state) => state.pointer);
  const [link, refused, forgive] = useLink(client, consult, me);
  const lead = consult.lead === null ? undefined : consult.participants[consult.lead];
  const version = consult.context_version;
  return (
    <ShareLinkValue.Provider value={link}>
      {refused !== null && <ErrorStrip text={localized(refused)} testId="share-refusal" onDismiss={forgive} />}
      <RecordPane
        consultId={consult.id}
        contextVersion={version}
        opening={openingOf(consult)}
        patient={isShown ? (consult.context?.patient ?? null) : null}
        view={consult.view}
        following={isFollowing}
        canLead={consult.lead === me}
        leadName={lead?.name ?? null}
        onFollowingChange={setFollowing}
        onTurnPage={(view) => void onCommand({ type: "turn_page", context_version: version, view })}
        onScroll={(y, view) => void signal(client, { type: "scroll", context_version: version, view, y })}
        onPoint={(x, y, visible, view) =>
          void signal(client, { type: "point", context_version: version, view, x, y, visible })
        }
        remoteScroll={scroll}
        remotePointer={pointer}
        inSync={inSync}
        isChanging={!isShown}
      />
    </ShareLinkValue.Provider>
  );
}

const MARKING_ROLES = new Set(["doctor", "nurse", "guest"]);

/** What marking the record together needs of the consult; a mark that was declined says so above the record. */
function useLink(client: ConsultClient, consult: Consult, me: string): [ShareLink, RefusalBody | null, () => void] {
  const notesSeen = useStore(client.store, (state) => state.notesSeen);
  const isConnected = useStore(client.store, (state) => state.status.phase === "connected");
  const [refused, setRefused] = useState<RefusalBody | null>(null);
  const canMark = MARKING_ROLES.has(consult.participants[me]?.role ?? "");
  const asking = useMemo(
    () => ({
      ink: inkOf(client.store),
      tell: (command: AnyCommand) => client.socket.command(command),
      ask: async (command: AnyCommand): Promise<boolean> => {
        try {
          await client.socket.command(command);
          setRefused(null);
          return true;
        } catch (error) {
          if (error instanceof RefusalError) setRefused(error.body());
          return false;
        }
      },
    }),
    [client],
  );
  const link = useMemo(
    () => ({ consult, me, canMark, isConnected, notesSeen, ...asking }),
    [consult, me, canMark, isConnected, notesSeen, asking],
  );
  return [link, refused, () => setRefused(null)];
}

/** Scroll and pointer are worth nothing a second later: a lost one is not worth a word. */
async function signal(client: ConsultClient, command: AnyCommand): Promise<void> {
  try {
    await client.socket.command(command);
  } catch {
    // The next movement brings the next one.
  }
}
