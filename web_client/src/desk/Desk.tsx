/**
 * The doctor's desk: whose patient, who is here, the record, the ECG.
 *
 * The banner with the patient's identity is the first row and never scrolls. Below it strips say what is wrong, then
 * three views in panels that can be dragged (stacked on a phone, ECG first), then the controls. Clinical views stand
 * behind the context gate: an old patient leaves the DOM before the new one is painted, and a desk that has heard
 * nothing from the server for 5 s hides them (W19, W24).
 */
import { type RefObject, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import { BindingFrame } from "../binding/BindingFrame";
import { localized } from "../i18n";
import { LOCAL_KINDS, type LocalKind, type LocalState } from "../media/local";
import { SoundOutlet, useSound } from "../media/SoundOutlet";
import type { MediaSession } from "../media/session";
import { useNow } from "../media/useNow";
import { RefusalError, UnansweredError } from "../net/refusal";
import type { AnyCommand, RefusalBody } from "../protocol";
import { PatientBanner } from "../record/PatientBanner";
import { IdentityBar } from "../share";
import { BusyNote } from "./BusyNote";
import { DeskRecord } from "./Clinical";
import { ConnectionBanner } from "./ConnectionBanner";
import { confirmContext } from "./confirmContext";
import type { ConsultClient } from "./consultClient";
import { openingOf, useContextGate } from "./contextGate";
import styles from "./Desk.module.css";
import { EcgPane } from "./EcgPane";
import { EndScreen, endingOf } from "./EndScreen";
import { ErrorStrip } from "./ErrorStrip";
import { InviteDialog } from "./InviteDialog";
import { LeaveDialog } from "./LeaveDialog";
import { type LayoutName, nextLayout, rememberedLayout, rememberLayout } from "./layouts";
import { PatientDialog } from "./PatientDialog";
import { possibleLeads } from "./people";
import { copyReport } from "./report";
import { ShortcutsDialog } from "./ShortcutsDialog";
import { SoundStrip } from "./SoundStrip";
import { SyncBanner } from "./SyncBanner";
import { type EcgShortcut, type Shortcut, useShortcuts } from "./shortcuts";
import { Toolbar } from "./Toolbar";
import type { SendCommand } from "./useTurns";
import { VideoGrid } from "./VideoGrid";
import { Views } from "./Views";

type Dialog = "patient" | "invite" | "leave" | "shortcuts";

export function Desk({
  client,
  media,
  onRejoin,
}: {
  client: ConsultClient;
  media: MediaSession;
  onRejoin: () => void;
}) {
  const status = useStore(client.store, (state) => state.status);
  const [hasLeft, setLeft] = useState(false);
  const [report, reportCopied] = useReport(client, media);
  const ending = endingOf(status, hasLeft);
  const leave = useCallback(() => {
    setLeft(true);
    void client.socket.leave();
  }, [client]);

  // Whatever ended the consult, camera and microphone must not stay open behind the closing words.
  useEffect(() => {
    if (ending !== null && ending !== "lost") client.media?.close();
  }, [ending, client]);

  if (ending !== null) {
    return (
      <EndScreen
        ending={ending}
        status={status}
        onRejoin={ending === "lost" ? () => client.socket.retry() : onRejoin}
        onCopyReport={report}
        reportCopied={reportCopied}
      />
    );
  }
  return <OpenDesk client={client} media={media} onLeave={leave} onReport={report} reportCopied={reportCopied} />;
}

interface OpenDeskProps {
  client: ConsultClient;
  media: MediaSession;
  onLeave: () => void;
  onReport: () => void;
  reportCopied: boolean;
}

function OpenDesk({ client, media, onLeave, onReport, reportCopied }: OpenDeskProps) {
  const { t } = useTranslation();
  const { consult, you, status, activeSpeaker } = useStore(client.store);
  // Ages tick twice a second; only what shows them subscribes to them, the record must not render for a clock.
  const path = useStore(media.store, (state) => state.path);
  const namesake = useStore(client.store, (state) => state.sameSurname);
  const stopsAtMs = useStore(client.store, (state) => state.stopsAtMs);
  const local = useStore(media.store, (state) => state.local);
  const sound = useSound();
  const [dialog, setDialog] = useState<Dialog | null>(null);
  const [layout, setLayout] = useLayoutName();
  const [refused, command, dismiss] = useCommands(client);
  const me = you ?? "";
  const isConnected = status.phase === "connected";
  const isFresh = consult !== null && status.fresh;
  const confirm = useCallback((version: number) => void confirmContext(client, version), [client]);
  const isShown = useContextGate(
    consult === null ? null : openingOf(consult),
    consult?.context_version ?? 0,
    isFresh,
    // A reconnect must confirm again, although the view never went away: the server forgot what we showed.
    isConnected && consult !== null && consult.context !== null,
    confirm,
  );
  const toggle = useCallback((kind: LocalKind) => void media.local.set(kind, !media.local.current[kind].on), [media]);
  const ecgKeys = useRef<((name: EcgShortcut) => void) | null>(null);
  const act = useShortcutActions({ toggle, setDialog, setLayout, command, isConnected, ecgKeys });
  const [areShortcutsOn, switchShortcuts] = useShortcuts(act);

  if (consult === null) {
    return (
      <main className={styles.opening} role="status">
        <BusyNote status={status} otherwise={t("desk.loading")} />
      </main>
    );
  }
  const lead = consult.lead === null ? undefined : consult.participants[consult.lead];
  const role = consult.participants[me]?.role;
  return (
    <div className={styles.desk} data-testid="desk-root" data-phase={status.phase} data-path={path}>
      <header className={styles.head}>
        {isShown ? (
          <PatientBanner
            patient={consult.context?.patient ?? null}
            contextVersion={consult.context_version}
            namesake={namesake}
          />
        ) : (
          <p className={styles.hidden}>{t(isFresh ? "desk.sync.changing" : "desk.sync.hidden")}</p>
        )}
      </header>
      {isShown && <IdentityBar consult={consult} me={me} onCommand={command} />}
      {!isFresh && <StaleStrip sinceMs={status.troubleSinceMs} />}
      <ConnectionBanner status={status} path={path} stopsAtMs={stopsAtMs} />
      <SyncBanner
        consult={consult}
        onDismiss={
          role === "doctor" || role === "nurse"
            ? (program) => void command({ type: "dismiss_program", program })
            : undefined
        }
      />
      {refused !== null && (
        <ErrorStrip
          title={t("desk.connection.refused")}
          text={localized(refused)}
          testId="refusal"
          onDismiss={dismiss}
        />
      )}
      <DeviceProblems media={media} local={local} />
      <SoundStrip sound={sound} />
      <SoundOutlet media={media} sound={sound} />
      <Views
        layout={layout}
        video={<VideoGrid consult={consult} me={me} media={media} local={local} activeSpeaker={activeSpeaker} />}
        record={<DeskRecord {...{ client, consult, me, isShown }} inSync={isFresh} onCommand={command} />}
        ecg={
          <BindingFrame client={client} consult={consult} me={me} isShown={isShown}>
            <EcgPane
              client={client}
              consult={consult}
              me={me}
              media={media}
              isShown={isShown}
              keys={ecgKeys}
              onCommand={command}
            />
          </BindingFrame>
        }
      />
      <Toolbar
        title={consult.title}
        local={local}
        isConnected={isConnected}
        isLeading={consult.lead === me}
        leadName={lead?.name ?? null}
        possibleLeads={possibleLeads(consult, me)}
        layout={layout}
        reportCopied={reportCopied}
        onToggle={toggle}
        onDevice={(kind, deviceId) => void media.local.change(kind, deviceId)}
        onLayout={setLayout}
        onTakeLead={() => void command({ type: "take_lead" })}
        onHandLead={(to) => void command({ type: "hand_lead", to })}
        onOpenPatient={() => setDialog("patient")}
        onInvite={() => setDialog("invite")}
        onShortcuts={() => setDialog("shortcuts")}
        onReport={onReport}
        onLeave={() => setDialog("leave")}
      />
      <PatientDialog
        consultId={consult.id}
        opened={dialog === "patient"}
        current={consult.context?.patient.id ?? null}
        onClose={() => setDialog(null)}
        onOpen={(id) => {
          setDialog(null);
          void command({ type: "open_context", patient: id });
        }}
        onCloseContext={() => {
          setDialog(null);
          void command({ type: "close_context" });
        }}
      />
      <InviteDialog consultId={consult.id} opened={dialog === "invite"} onClose={() => setDialog(null)} />
      <ShortcutsDialog
        opened={dialog === "shortcuts"}
        isOn={areShortcutsOn}
        onSwitch={switchShortcuts}
        onClose={() => setDialog(null)}
      />
      <LeaveDialog
        opened={dialog === "leave"}
        canEnd={role === "doctor"}
        onClose={() => setDialog(null)}
        onLeave={onLeave}
        onEnd={() => {
          setDialog(null);
          void command({ type: "end_consult" });
        }}
      />
    </div>
  );
}

/** A camera or microphone that would not start, until it does or the person has read it. */
function DeviceProblems({ media, local }: { media: MediaSession; local: LocalState }) {
  const { t } = useTranslation();
  return LOCAL_KINDS.map((kind) => {
    const { problem } = local[kind];
    if (problem === null) return null;
    const text = t(`desk.device.${kind}`, { problem: t(`desk.device.${problem}`) });
    return <ErrorStrip key={kind} text={text} testId="device-problem" onDismiss={() => media.local.forgive(kind)} />;
  });
}

/** No beat for 5 s, or none yet: the clinical views are hidden, and this says so and since when. */
function StaleStrip({ sinceMs }: { sinceMs: number | null }) {
  const { t } = useTranslation();
  const nowMs = useNow();
  const seconds = sinceMs === null ? 0 : Math.floor((nowMs - sinceMs) / 1_000);
  return (
    <ErrorStrip
      tone="danger"
      title={t("desk.sync.self")}
      text={t(sinceMs === null ? "desk.sync.selfWaiting" : "desk.sync.selfHint")}
      {...(seconds > 0 ? { counting: t("desk.sync.selfSince", { seconds }) } : {})}
      testId="self-not-in-sync"
    />
  );
}

/** Send commands; what the server declines is shown, what was not answered is shown by the connection itself. */
function useCommands(client: ConsultClient): [RefusalBody | null, SendCommand, () => void] {
  const [refused, setRefused] = useState<RefusalBody | null>(null);
  const command = useCallback(
    async (asked: AnyCommand, onLost?: () => void): Promise<void> => {
      try {
        await client.socket.command(asked);
        setRefused(null);
      } catch (error) {
        if (error instanceof RefusalError) setRefused(error.body());
        else if (!(error instanceof UnansweredError)) throw error;
        else onLost?.();
      }
    },
    [client],
  );
  const dismiss = useCallback(() => setRefused(null), []);
  return [refused, command, dismiss];
}

function useLayoutName(): [LayoutName, (change: LayoutName | ((current: LayoutName) => LayoutName)) => void] {
  const [layout, setLayout] = useState(rememberedLayout);
  useEffect(() => rememberLayout(layout), [layout]);
  return [layout, setLayout];
}

interface ShortcutTargets {
  toggle: (kind: LocalKind) => void;
  setDialog: (dialog: Dialog) => void;
  setLayout: (change: (current: LayoutName) => LayoutName) => void;
  command: (command: AnyCommand) => Promise<void>;
  isConnected: boolean;
  ecgKeys: RefObject<((name: EcgShortcut) => void) | null>;
}

function useShortcutActions({ toggle, setDialog, setLayout, command, isConnected, ecgKeys }: ShortcutTargets) {
  return useMemo(() => {
    const ecg = (name: EcgShortcut) => () => ecgKeys.current?.(name);
    const whenConnected = (act: () => void) => () => {
      if (isConnected) act();
    };
    const actions: Record<Shortcut, () => void> = {
      mute: () => toggle("microphone"),
      camera: () => toggle("camera"),
      share: () => toggle("screen"),
      layout: () => setLayout(nextLayout),
      lead: whenConnected(() => void command({ type: "take_lead" })),
      patient: whenConnected(() => setDialog("patient")),
      invite: whenConnected(() => setDialog("invite")),
      ecgFreeze: ecg("ecgFreeze"),
      ecgCaliper: ecg("ecgCaliper"),
      ecgQt: ecg("ecgQt"),
      ecgSnapshot: ecg("ecgSnapshot"),
      ecgReview: ecg("ecgReview"),
      ecgSpeed: ecg("ecgSpeed"),
      ecgGain: ecg("ecgGain"),
      help: () => setDialog("shortcuts"),
    };
    return (name: Shortcut): void => actions[name]();
  }, [toggle, setDialog, setLayout, command, isConnected, ecgKeys]);
}

const COPIED_FOR_MS = 3_000;

function useReport(client: ConsultClient, media: MediaSession): [() => void, boolean] {
  const [isCopied, setCopied] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = useCallback(async (): Promise<void> => {
    await copyReport(client, media);
    setCopied(true);
    timer.current = setTimeout(() => setCopied(false), COPIED_FOR_MS);
  }, [client, media]);
  return [() => void copy(), isCopied];
}
