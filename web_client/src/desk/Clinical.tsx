/** The two clinical views of a desk, wired to the consult: record and ECG. Shown only behind the context gate. */

import { useState } from "react";
import { useStore } from "zustand";
import type { AnyCommand, Consult } from "../protocol";
import { RecordPane } from "../record/RecordPane";
import type { ConsultClient } from "./consultClient";

export interface DeskRecordProps {
  client: ConsultClient;
  consult: Consult;
  me: string;
  isShown: boolean;
  onCommand: (command: AnyCommand) => Promise<void>;
}

export function DeskRecord({ client, consult, me, isShown, onCommand }: DeskRecordProps) {
  const [isFollowing, setFollowing] = useState(true);
  const scroll = useStore(client.store, (state) => state.scroll);
  const pointer = useStore(client.store, (state) => state.pointer);
  const lead = consult.lead === null ? undefined : consult.participants[consult.lead];
  const version = consult.context_version;
  return (
    <RecordPane
      consultId={consult.id}
      contextVersion={version}
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
      inSync={isShown}
    />
  );
}

/** Scroll and pointer are worth nothing a second later: a lost one is not worth a word. */
async function signal(client: ConsultClient, command: AnyCommand): Promise<void> {
  try {
    await client.socket.command(command);
  } catch {
    // The next movement brings the next one.
  }
}
