/**
 * The record beside the video and on the first wall screen.
 *
 * The lead's page, scroll and pointer are everyone's; whoever turns a page
 * without leading browses alone until they return. The pane never decides who
 * leads: its owner tells it and gets calls back.
 *
 * W24: everything below is keyed by the opening of the patient, so opening
 * another one, or the same again, removes every trace of the former in the same
 * commit. The same opening under another version ([AN2]: a report was opened
 * beside the patient) keeps the page; from then on requests name that version. The banner is `PatientBanner`, placed by the owner
 * outside of what scrolls. Loading is in recordData.ts, the pages in pages/.
 */
import { Unplug, UserRoundX } from "lucide-react";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { ShareBar, SharingProvider } from "../share";
import { FollowBar } from "./FollowBar";
import { PageTabs, tabId } from "./PageTabs";
import { PageContent } from "./pages/PageContent";
import { Notice } from "./pages/parts";
import { entryOf, listPages } from "./place";
import styles from "./RecordPane.module.css";
import { type PaneContext, PaneContextValue, useRecordContext, useRecordData } from "./recordData";
import type { Page, PatientBanner, RemotePointer, RemoteScroll, View } from "./types";
import { Viewport } from "./Viewport";

export interface RecordPaneProps {
  consultId: string;
  /** Version of the open context; only answers that carry it are shown. */
  contextVersion: number;
  /** Names this opening of the patient, `openingOf` the consult; each version is its own when absent. */
  opening?: string;
  /** The open patient, null when none is. */
  patient: PatientBanner | null;
  /** The shared view. */
  view: View;
  /** Whether this participant shows the shared view; ignored while leading. */
  following: boolean;
  /** This participant leads now: page turns, scroll and pointer go to everyone. */
  canLead: boolean;
  /** Who leads, for "Return to ..."; null when nobody does. */
  leadName?: string | null;
  onFollowingChange?: (following: boolean) => void;
  onTurnPage?: (view: View) => void;
  /** Names who is here: when it changes, whoever leads tells again how far down the page is. */
  audience?: string;
  /** The lead's scroll, at most 10 a second, with the view it is about. */
  onScroll?: (y: number, view: View) => void;
  /** The lead's pointer, at most 20 a second. */
  onPoint?: (x: number, y: number, visible: boolean, view: View) => void;
  remoteScroll?: RemoteScroll | null;
  remotePointer?: RemotePointer | null;
  /** False blanks the content: no beat for 5 s (W19). */
  inSync?: boolean;
  /** Blank between two patients: the former one is gone, the next is not painted yet (W24). */
  isChanging?: boolean;
  /** Called once nothing but this version is in the pane: time to confirm the context. */
  onContextShown?: (version: number) => void;
  /** A wall: always follows, no controls, large type. */
  wall?: boolean;
}

export function RecordPane(props: RecordPaneProps) {
  const { t } = useTranslation();
  const { patient, contextVersion, onContextShown, wall = false, inSync = true, isChanging = false } = props;
  const opening = props.opening ?? String(contextVersion);
  useEffect(() => onContextShown?.(contextVersion), [contextVersion, onContextShown]);
  return (
    <section className={styles.pane} data-wall={wall} aria-label={t("record.label")}>
      {!inSync ? (
        <Notice icon={Unplug} title={t("record.notInSync")} body={t("record.notInSyncBody")} tone="danger" />
      ) : isChanging ? (
        <p className={styles.changing}>{t("record.switching")}</p>
      ) : patient === null ? (
        <Notice icon={UserRoundX} title={t("record.noPatient")} body={t("record.noPatientBody")} />
      ) : (
        <OpenRecord key={`${opening} ${patient.id}`} {...props} opening={opening} patient={patient} />
      )}
    </section>
  );
}

function OpenRecord(props: RecordPaneProps & { patient: PatientBanner; opening: string }) {
  const { consultId, contextVersion, opening, patient, view, canLead, following, onTurnPage, onFollowingChange } =
    props;
  const wall = props.wall ?? false;
  const [ownView, setOwnView] = useState<View>(view);
  const shared = wall || canLead || following;
  const shown = shared ? view : ownView;
  const context = useRecordContext(consultId, patient.id, opening, contextVersion);
  const data = useRecordData(context, shown.page, (page) => listPages(shown, page));

  const browseAlone = (target: View): void => {
    setOwnView(target);
    if (following) onFollowingChange?.(false);
  };
  const go = (page: Page, item = ""): void => {
    const target = { page, item };
    if (canLead) onTurnPage?.(target);
    else browseAlone(target);
  };
  const pane: PaneContext = { context, data, go, wall };

  return (
    <PaneContextValue.Provider value={pane}>
      <SharingProvider context={context} version={contextVersion} view={shown} shared={shared}>
        <PageTabs page={shown.page} wall={wall} onSelect={(page) => go(page)} />
        <div className={styles.bars} data-mode={canLead ? "leading" : shared ? "following" : "alone"}>
          {!wall && (
            <FollowBar
              leading={canLead}
              alone={!shared}
              leadName={props.leadName ?? null}
              onAlone={() => browseAlone(view)}
              onReturn={() => onFollowingChange?.(true)}
            />
          )}
          <ShareBar />
        </div>
        <Viewport
          key={`${shown.page} ${entryOf(shown.item)}`}
          view={shown}
          version={contextVersion}
          labelledBy={tabId(shown.page)}
          leading={canLead}
          follows={shared && !canLead}
          wall={wall}
          leadName={props.leadName ?? null}
          remoteScroll={props.remoteScroll ?? null}
          remotePointer={props.remotePointer ?? null}
          onScroll={props.onScroll}
          onPoint={props.onPoint}
          audience={props.audience ?? "all"}
          onOwnScroll={() => browseAlone(view)}
        >
          <PageContent view={shown} />
        </Viewport>
      </SharingProvider>
    </PaneContextValue.Provider>
  );
}
