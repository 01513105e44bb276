/**
 * One ECG on the desk and everything people do with it together.
 *
 * The live trace is mounted once and stays: freezing, measuring and leafing back only tell it where to stand, so nothing
 * received meanwhile is missed and its state is always known. What is shared goes as commands and comes back with the
 * consult; what is one viewer's own is here. Tools are in `ToolBar`, measuring in `StillLayer` and `ToolPanel`.
 */
import { useComputedColorScheme } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import { type RefObject, useCallback, useEffect, useImperativeHandle, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import { ApiError, useHttp } from "../common/http";
import { useConfig } from "../common/queries";
import type { ConsultClient } from "../desk/consultClient";
import { ErrorStrip } from "../desk/ErrorStrip";
import type { EcgShortcut } from "../desk/shortcuts";
import { localized } from "../i18n";
import type { MediaSession } from "../media/session";
import type { AnyCommand, Consult, EcgMark, WaveformStream } from "../protocol";
import { CalibrationDialog } from "../waveform/CalibrationDialog";
import { readCalibration } from "../waveform/calibration";
import { type EcgLook, EcgView, type EcgViewHandle } from "../waveform/EcgView";
import { viewFilterRecord } from "../waveform/filterText";
import type { EcgStatus, StillMap } from "../waveform/settings";
import { type ArchiveContext, download, type FileKind } from "./api";
import { pictureBeside } from "./beside";
import type { TracePoint } from "./calipers";
import { DisplayForm } from "./DisplayForm";
import { after, type EcgDisplay, GAINS, rememberDisplay, rememberedDisplay, SPEEDS } from "./display";
import styles from "./EcgWorkspace.module.css";
import { ImportDialog } from "./ImportDialog";
import { InfoPanel } from "./InfoPanel";
import { MarksList } from "./MarksList";
import { endsOf, lastOwn, marksOf } from "./marks";
import { PriorDialog, PriorPane } from "./PriorPane";
import { pictureAge } from "./pictureNews";
import { rememberProfile } from "./profile";
import { ReviewStrip } from "./ReviewStrip";
import { clockOf } from "./review";
import { SkewNote } from "./SkewNote";
import { SnapshotDialog } from "./SnapshotDialog";
import { StateBar } from "./StateBar";
import { StillLayer } from "./StillLayer";
import { freezeMine, goLive, rejoin, reviewAt } from "./standing";
import { pageSpan, placesOf } from "./still";
import { ToolBar } from "./ToolBar";
import { ToolPanel } from "./ToolPanel";
import type { EcgPage } from "./useEcgPage";
import { useHeart, usePointers, useRepair, useReportState, useServerUs } from "./useEcgWork";
import { USUAL_PAGE_US, usePrior, useReview } from "./useReview";
import { useSnapshot } from "./useSnapshot";
import { useStateOf } from "./useStateOf";
import { usePointing, useTools } from "./useTools";
import { VitalsPanel } from "./VitalsPanel";

export interface EcgWorkspaceProps {
  readonly client: ConsultClient;
  readonly consult: Consult;
  readonly me: string;
  readonly media: MediaSession;
  /** Where the viewer stands; kept outside, since this view goes whenever it is not in sync. */
  readonly page: EcgPage;
  /** Of the page. Another one begins anew what belongs to a signal; tools and settings stay. */
  readonly stream: WaveformStream;
  readonly keys: RefObject<((name: EcgShortcut) => void) | null>;
  readonly onCommand: (command: AnyCommand) => Promise<void>;
}

export function EcgWorkspace(props: EcgWorkspaceProps) {
  const { client, consult, me, media, page, stream, onCommand } = props;
  const { shown, freeze, setStanding } = page;
  const { t } = useTranslation();
  const version = consult.context_version;
  const patient = consult.context?.patient ?? null;
  const context = useMemo((): ArchiveContext => ({ consultId: consult.id, version }), [consult.id, version]);
  const place = useMemo(() => ({ streamId: stream.stream_id, version }), [stream.stream_id, version]);
  const isNarrow = useMediaQuery("(max-width: 900px)", undefined, { getInitialValueInEffect: false }) === true;
  const isConnected = useStore(client.store, ({ status }) => status.phase === "connected");
  const config = useConfig();
  const serverUs = useServerUs(client.store);
  const heart = useHeart(client.store, stream.stream_id);
  const repair = useRepair(context, stream.stream_id);
  const news = useStore(media.ecg.news);
  const [display, changeDisplay] = useDisplay();
  const [status, setStatus] = useStateOf<EcgStatus | null>(stream.stream_id, null);
  const [map, setMap] = useStateOf<StillMap | null>(stream.stream_id, null);
  const [problem, setProblem] = useState<string | null>(null);
  const [isCalibrating, setCalibrating] = useState(false);
  const [chosen, setChosen] = useStateOf<string | null>(stream.stream_id, null);
  const view = useRef<EcgViewHandle>(null);
  const snapshots = useSnapshot(client, consult);
  const prior = usePrior(context, patient?.id ?? "", shown.kind === "review", serverUs);
  const review = useReview(consult, stream, context, prior.streams, shown, map, serverUs);
  const nameOf = useCallback(
    (id: string) => (id === me ? t("ecg.state.you") : (consult.participants[id]?.name ?? t("ecg.state.someone"))),
    [consult.participants, me, t],
  );
  const marks = useMemo(
    () => marksOf(consult, stream.stream_id).map((mark) => ({ ...mark, name: nameOf(mark.by) })),
    [consult, stream.stream_id, nameOf],
  );
  const beatsUs = useMemo(() => [heart?.beatsUs ?? [], review.beatsUs], [review.beatsUs, heart]);
  const tools = useTools({ place, isStill: shown.kind !== "live", marks, me, beatsUs, onCommand });
  const point = usePointing(client, place);
  const pointers = usePointers(client.store, stream.stream_id, me, nameOf);
  useReportState(client, place, status);

  // Looked up with each status of the trace, several times a second.
  const beside = pictureBeside(consult, stream.stream_id, media.store.getState().remote)?.producer ?? null;
  const videoDelayMs = media.ecg.pictures.delayMs(beside, performance.now());
  const penUs = (): number => serverUs() - Math.round((status?.penDelayMs ?? 0) * 1000);
  const edgeUs = (): number => shown.atUs ?? penUs();
  const freezeAll = (atUs: number): void =>
    void onCommand({
      type: "freeze_ecg",
      stream_id: stream.stream_id,
      context_version: version,
      at_us: Math.round(atUs),
    });
  const takeSnapshot = (): void => {
    // The moment is what one looks at: the middle of a standing page, the pen of a moving one.
    const span = map === null ? null : pageSpan(map);
    const atUs = span === null ? penUs() : Math.round((span.fromUs + span.toUs) / 2);
    snapshots.order({
      streamId: stream.stream_id,
      version,
      atUs: Math.min(atUs, penUs()),
      ageMs: status?.ageMs ?? null,
      state: status?.state ?? "LOST",
      settings: {
        speed: display.speed,
        gain: display.gain,
        layout: display.layout,
        order: display.order,
        filter: viewFilterRecord(stream, display.filter, display.notch),
        calibration: readCalibration().id ?? "",
        software: `Consilium ${config.data?.version ?? ""}`.trim(),
      },
    });
  };
  const startReview = (): void => setStanding((standing) => reviewAt(standing, penUs() - USUAL_PAGE_US));
  const toggleFreeze = (): void =>
    setStanding((standing) => (shown.kind === "live" ? freezeMine(standing, penUs()) : goLive(standing, freeze)));
  const fetchFile = useDownload(context, stream.stream_id, setProblem, t("ecg.download.failed"));
  const chooseTool = (tool: Parameters<typeof tools.choose>[0]): void =>
    tools.choose(shown.kind === "live" || tools.tool === tool ? null : tool);

  useImperativeHandle(props.keys, () => (name) => {
    const act: Record<EcgShortcut, () => void> = {
      ecgFreeze: toggleFreeze,
      ecgCaliper: () => chooseTool("caliper"),
      ecgQt: () => chooseTool("qt"),
      ecgSnapshot: () => isConnected && takeSnapshot(),
      ecgReview: startReview,
      ecgSpeed: () => changeDisplay({ speed: after(SPEEDS, display.speed) }),
      ecgGain: () => changeDisplay({ gain: after(GAINS, display.gain) }),
    };
    act[name]();
  });

  const look = useLook(display, prior.shown !== null);
  const isLost = status === null || status.state === "LOST";
  const vitals = (
    <VitalsPanel
      heart={heart}
      vitals={news.vitals}
      serverUs={serverUs}
      isTraceLost={isLost}
      isPathLost={news.way === null}
      isTraceSimulated={stream.simulated}
      size={isNarrow ? "row" : "column"}
    />
  );
  const toolPanel = shown.kind !== "live" && (
    <ToolPanel
      tools={tools}
      sampleRateMhz={stream.sample_rate_mhz}
      isFiltered={display.filter !== "off" || display.notch !== 0}
      isConnected={isConnected}
      marksCount={marks.length}
      side={isNarrow || map === null ? null : freeSide(map, tools.legs?.from ?? tools.place)}
    />
  );
  return (
    <div className={styles.workspace}>
      <ToolBar
        isNarrow={isNarrow}
        isStill={shown.kind !== "live"}
        isReview={shown.kind === "review"}
        isConnected={isConnected}
        isCovered={isCalibrating}
        tool={tools.tool}
        hasPrior={prior.shown !== null}
        canUndo={lastOwn(marks, me) !== null && isConnected}
        marksCount={marks.length}
        onFreeze={toggleFreeze}
        onLive={toggleFreeze}
        onFreezeAll={() => freezeAll(edgeUs())}
        onTool={tools.choose}
        onUndo={tools.undo}
        onSnapshot={takeSnapshot}
        onReview={startReview}
        onPrior={() => (prior.shown === null ? prior.open() : prior.show(null))}
        onDownload={(kind) => void fetchFile(kind)}
        display={
          <DisplayForm
            display={display}
            leads={stream.leads}
            onChange={changeDisplay}
            onCalibrate={() => setCalibrating(true)}
          />
        }
        info={
          <InfoPanel
            stream={stream}
            status={status}
            picture={media.ecg.pictures.age(beside, performance.now())}
            way={news.way}
            profile={media.ecg.chosenProfile}
            onProfile={(profile) => {
              rememberProfile(profile);
              media.ecg.setProfile(profile);
            }}
          />
        }
        marks={
          <MarksList
            marks={marks}
            me={me}
            onRemove={tools.remove}
            onGo={(mark) => {
              setChosen(mark.id);
              setStanding((standing) => reviewAt(standing, review.edgeFor(middleOf(mark))));
            }}
          />
        }
      >
        <Title page={page} stream={stream} />
      </ToolBar>
      <StateBar
        shown={shown}
        freeze={freeze}
        nameOf={nameOf}
        isConnected={isConnected}
        onLive={() => setStanding((standing) => goLive(standing, freeze))}
        onJoin={() => setStanding(rejoin)}
        onForAll={() => freezeAll(edgeUs())}
        onRelease={() => void onCommand({ type: "release_ecg" })}
      />
      <ChangeNote page={page} stream={stream} />
      {shown.kind === "live" && (
        <SkewNote
          className={styles.skew ?? ""}
          status={status}
          age={(nowMs) => pictureAge(consult, media, stream.stream_id, nowMs)}
        />
      )}
      {problem !== null && <ErrorStrip text={problem} testId="ecg-problem" onDismiss={() => setProblem(null)} />}
      {review.error !== null && shown.kind !== "live" && (
        <ErrorStrip text={`${t("ecg.review.failed")} ${review.error}`} testId="ecg-review-problem" />
      )}
      <div className={styles.body} data-narrow={isNarrow}>
        {isNarrow && vitals}
        <div className={styles.stage} data-beside={prior.shown !== null}>
          {prior.shown !== null && (
            <PriorPane
              key={prior.shown.id}
              prior={prior.shown}
              history={prior.history}
              look={look}
              onClose={() => prior.show(null)}
            />
          )}
          <div className={styles.trace} data-picture-ms={videoDelayMs === null ? "" : Math.round(videoDelayMs)}>
            <EcgView
              {...look}
              ref={view}
              stream={stream}
              channel={media.ecg.channel(stream.stream_id)}
              contextVersion={version}
              firstVersion={consult.context?.first_version ?? null}
              mode={display.mode}
              timing={display.timing}
              videoDelayMs={videoDelayMs}
              dated={prior.shown !== null}
              still={shown.atUs === null ? null : { atUs: shown.atUs }}
              history={review.frames}
              repair={repair}
              bound={page.isBound}
              onStill={setMap}
              onState={setStatus}
            />
            {!isNarrow && toolPanel}
            {shown.kind !== "live" && map !== null && (
              <StillLayer
                map={map}
                tool={tools.tool}
                legs={tools.legs}
                hasMarch={tools.hasMarch}
                stepUs={1e9 / stream.sample_rate_mhz}
                marks={marks}
                chosen={chosen}
                pointers={pointers}
                sample={async (lead, atUs) => (await view.current?.sample(lead, atUs)) ?? null}
                onLegs={tools.setLegs}
                onPlace={tools.setPlace}
                onPoint={point}
                onChoose={setChosen}
                onProblem={tools.setProblem}
              />
            )}
          </div>
        </div>
        {isNarrow && toolPanel}
        {!isNarrow && vitals}
      </div>
      {shown.kind === "review" && review.recorded !== null && (
        <ReviewStrip
          recorded={review.recorded}
          events={review.events}
          beatsUs={review.beatsUs}
          atUs={shown.atUs}
          pageUs={review.pageUs}
          onMove={(atUs) => setStanding((standing) => reviewAt(standing, atUs))}
        />
      )}
      <SnapshotDialog
        context={context}
        present={snapshots.present}
        serverUs={serverUs}
        onAgain={takeSnapshot}
        onClose={snapshots.dismiss}
      />
      <PriorDialog
        opened={prior.isChoosing}
        streams={prior.streams.filter((entry) => !entry.isLive)}
        isLoading={prior.isLoading}
        error={prior.error}
        canImport={patient !== null && isConnected}
        onRetry={prior.retry}
        onChoose={prior.show}
        onImport={prior.startImport}
        onClose={prior.close}
      />
      {patient !== null && (
        <ImportDialog
          context={context}
          patient={patient}
          opened={prior.isImporting}
          onClose={prior.close}
          onImported={prior.retry}
          onShow={prior.show}
        />
      )}
      {isCalibrating && <CalibrationDialog lang={look.lang} onClose={() => setCalibrating(false)} />}
    </div>
  );
}

function Title({ page, stream }: Pick<EcgWorkspaceProps, "page" | "stream">) {
  const { streams, choose } = page;
  const { t } = useTranslation();
  const isOnlyOne = streams.every(({ stream_id }) => stream_id === stream.stream_id);
  if (isOnlyOne || streams.length === 0) return <h2 className={styles.title}>{t("ecg.title")}</h2>;
  // The signal of a page that stands may be gone.
  const all = streams.some(({ stream_id }) => stream_id === stream.stream_id) ? streams : [stream, ...streams];
  return (
    <select
      className={styles.chooser}
      aria-label={t("ecg.tools.stream")}
      data-testid="ecg-stream"
      value={stream.stream_id}
      onChange={(event) => choose(Number(event.currentTarget.value))}
    >
      {all.map(({ stream_id, device, leads }) => (
        <option key={stream_id} value={stream_id}>
          {`${device} (${leads.length})`}
        </option>
      ))}
    </select>
  );
}

/** Says that the signal is another one than before: names do not tell two signals of one device apart (W5). */
function ChangeNote({ page, stream }: Pick<EcgWorkspaceProps, "page" | "stream">) {
  const { t, i18n } = useTranslation();
  const { newer, change } = page;
  if (newer !== null) {
    const isSameDevice = newer.device === stream.device;
    const text = t(isSameDevice ? "ecg.state.newerSame" : "ecg.state.newerOther", { device: newer.device });
    return <ErrorStrip text={text} testId="ecg-newer" />;
  }
  if (change === null) return null;
  const time = clockOf(change.atMs * 1000, i18n.language);
  return (
    <ErrorStrip
      title={t(`ecg.state.${change.kind}`, { device: stream.device, time })}
      text={t("ecg.state.changeHint")}
      testId="ecg-changed"
      onDismiss={page.forgetChange}
    />
  );
}

/** The panel stands where the hand is not: what is measured must not be covered by what it says. */
function freeSide(map: StillMap, at: TracePoint | null): "left" | "right" {
  const span = pageSpan(map);
  const places = at === null || span === null ? [] : placesOf(map, at);
  const right = Math.max(...map.lanes.map(({ xPx, wPx }) => xPx + wPx), 1);
  return places.some(({ xPx }) => xPx < 0.45 * right) ? "right" : "left";
}

const middleOf = (mark: EcgMark): number => {
  const { from, to } = endsOf(mark);
  return (from.atUs + (to?.atUs ?? from.atUs)) / 2;
};

function useDisplay(): [EcgDisplay, (change: Partial<EcgDisplay>) => void] {
  const [display, setDisplay] = useState(() => rememberedDisplay());
  useEffect(() => rememberDisplay(display), [display]);
  const change = useCallback((part: Partial<EcgDisplay>) => setDisplay((before) => ({ ...before, ...part })), []);
  return [display, change];
}

function useLook(display: EcgDisplay, isBeside: boolean): EcgLook {
  const { i18n } = useTranslation();
  const theme = useComputedColorScheme("light");
  const { layout, order, rhythm, speed, gain, filter, notch } = display;
  return useMemo(
    () => ({
      theme,
      lang: i18n.language === "zh-CN" ? ("zh" as const) : ("en" as const),
      layout,
      order,
      rhythm: rhythm === "" ? [] : [rhythm],
      speed,
      gain,
      filter,
      notch,
      ...(isBeside ? { zoom: 1 } : {}),
    }),
    [theme, i18n.language, layout, order, rhythm, speed, gain, filter, notch, isBeside],
  );
}

function useDownload(
  context: ArchiveContext,
  streamId: number,
  onProblem: (text: string | null) => void,
  failed: string,
): (kind: FileKind) => Promise<void> {
  const http = useHttp();
  return async (kind) => {
    onProblem(null);
    try {
      await download(http, context, String(streamId), kind);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      onProblem(`${failed} ${localized(error)}`);
    }
  };
}
