/** Screen 1: the record, always on the lead's page. */
import { useStore } from "zustand";
import type { ConsultClient } from "../desk/consultClient";
import type { Consult } from "../protocol";
import { RecordPane } from "../record/RecordPane";

export default function RecordView({ client, consult }: { client: ConsultClient; consult: Consult }) {
  const scroll = useStore(client.store, (state) => state.scroll);
  const pointer = useStore(client.store, (state) => state.pointer);
  return (
    <RecordPane
      consultId={consult.id}
      contextVersion={consult.context_version}
      patient={consult.context?.patient ?? null}
      view={consult.view}
      following
      canLead={false}
      remoteScroll={scroll}
      remotePointer={pointer}
      wall
    />
  );
}
