/** Screen 1: the record, always on the lead's page. */
import { useMemo } from "react";
import { useStore } from "zustand";
import type { ConsultClient } from "../desk/consultClient";
import { openingOf } from "../desk/contextGate";
import type { AnyCommand, Consult } from "../protocol";
import { RecordPane } from "../record/RecordPane";
import { inkOf, ShareLinkValue } from "../share";

export default function RecordView({ client, consult, me }: { client: ConsultClient; consult: Consult; me: string }) {
  const scroll = useStore(client.store, (state) => state.scroll);
  const pointer = useStore(client.store, (state) => state.pointer);
  const notesSeen = useStore(client.store, (state) => state.notesSeen);
  const isConnected = useStore(client.store, (state) => state.status.phase === "connected");
  const ink = useMemo(() => inkOf(client.store), [client]);
  const link = useMemo(
    () => ({
      consult,
      me,
      canMark: false,
      isConnected,
      notesSeen,
      ink,
      ask: () => Promise.resolve(false),
      tell: (command: AnyCommand) => client.socket.command(command),
    }),
    [client, consult, me, isConnected, notesSeen, ink],
  );
  return (
    <ShareLinkValue.Provider value={link}>
      <RecordPane
        consultId={consult.id}
        contextVersion={consult.context_version}
        opening={openingOf(consult)}
        patient={consult.context?.patient ?? null}
        view={consult.view}
        following
        canLead={false}
        remoteScroll={scroll}
        remotePointer={pointer}
        wall
      />
    </ShareLinkValue.Provider>
  );
}
