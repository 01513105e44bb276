/** The two clinical views of a desk, wired to the consult: record and ECG. Shown only behind the context gate. */

import { useCallback, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import { localized } from "../i18n";
import { RefusalError } from "../net/refusal";
import type { AnyCommand, Consult, RefusalBody } from "../protocol";
import { RecordPane } from "../record/RecordPane";
import type { View } from "../record/types";
import { inkOf, type ShareLink, ShareLinkValue } from "../share";
import type { ConsultClient } from "./consultClient";
import { openingOf } from "./contextGate";
import { ErrorStrip } from "./ErrorStrip";
import { type SendCommand, useTurns } from "./useTurns";

export interface DeskRecordProps {
  client: ConsultClient;
  consult: Consult;
  me: string;
  /** Behind the context gate: false while the former patient is being cleared, and while out of sync. */
  isShown: boolean;
  inSync: boolean;
  onCommand: SendCommand;
}

export function DeskRecord({ client, consult, me, isShown, inSync, onCommand }: DeskRecordProps) {
  const { t } = useTranslation();
  const version = consult.context_version;
  const turns = useTurns(consult, me, onCommand);
  const [isFollowing, setFollowing] = useState(true);
  const scroll = useStore(client.store, (state) => state.scroll);
  const pointer = useStore(client.store, (state) => state.pointer);
  const [link, refused, forgive] = useLink(client, consult, me);
  const page = t(`record.page.${consult.view.page}`);
  const onScroll = useCallback(
    (y: number, view: View) => void signal(client, { type: "scroll", context_version: version, view, y }),
    [client, version],
  );
  const onPoint = useCallback(
    (x: number, y: number, visible: boolean, view: View) =>
      void signal(client, { type: "point", context_version: version, view, x, y, visible }),
    [client, version],
  );
  const lead = consult.lead === null ? undefined : consult.participants[consult.lead];
  return (
    <ShareLinkValue.Provider value={link}>
      {refused !== null && <ErrorStrip text={localized(refused)} testId="share-refusal" onDismiss={forgive} />}
      {turns.isLost && isShown && (
        <ErrorStrip
          title={t("record.notTurned")}
          text={t(link.isConnected ? "record.notTurnedHere" : "record.notTurnedYet", { page })}
          testId="page-not-turned"
          onDismiss={turns.forget}
        />
      )}
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
        audience={audienceOf(consult, link.isConnected)}
        onTurnPage={turns.turn}
        onScroll={onScroll}
        onPoint={onPoint}
        remoteScroll={scroll}
        remotePointer={pointer}
        inSync={inSync}
        isChanging={!isShown}
      />
    </ShareLinkValue.Provider>
  );
}

/** Changes when somebody comes or comes back, this page included: then the lead's place is told again. */
function audienceOf({ participants }: Consult, isConnected: boolean): string {
  const here = Object.values(participants).filter(({ connection }) => connection === "connected");
  return isConnected
    ? here
        .map(({ id }) => id)
        .sort()
        .join(" ")
    : "";
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
