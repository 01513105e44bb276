/**
 * Screen 3: the open patient's ECG over the whole display, the numbers below it.
 *
 * Nobody works at a wall: it follows. It stands where somebody froze the trace for all, with the marks and pointers that
 * people set there, and says that it is not live; it takes part in nothing else.
 */
import { useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import type { ConsultClient } from "../desk/consultClient";
import { openingOf } from "../desk/contextGate";
import { useEcg } from "../desk/ecgSources";
import { rememberedDisplay, USUAL } from "../ecg/display";
import { marksOf } from "../ecg/marks";
import { useHeardPictureAge } from "../ecg/pictureNews";
import { clockOf } from "../ecg/review";
import { SkewNote } from "../ecg/SkewNote";
import { StillLayer } from "../ecg/StillLayer";
import { useFrameHistory, useHeart, usePointers, useRepair, useReportState, useServerUs } from "../ecg/useEcgWork";
import { VitalsPanel } from "../ecg/VitalsPanel";
import type { MediaSession } from "../media/session";
import type { Consult, WaveformStream } from "../protocol";
import { EcgView } from "../waveform/EcgView";
import type { EcgStatus, StillMap } from "../waveform/settings";
import styles from "./Wall.module.css";

export interface EcgWallViewProps {
  readonly client: ConsultClient;
  readonly media: MediaSession;
  readonly consult: Consult;
}

export default function EcgWallView({ client, media, consult }: EcgWallViewProps) {
  const { t } = useTranslation();
  // The stream that a freeze for all is on is the one people talk about.
  const { stream, isOtherPatient, isBound } = useEcg(consult, consult.ecg_freeze?.stream_id ?? null);
  if (consult.context === null) return <Nothing text={t("wall.consult.noPatient")} />;
  if (stream === null || !isBound) {
    return <Nothing text={t(isOtherPatient ? "wall.consult.otherPatient" : "wall.consult.noEcg")} />;
  }
  return (
    <Wall
      // Another opening is another view: nothing of the former patient survives the change (W24).
      key={`${openingOf(consult)} ${stream.stream_id}`}
      client={client}
      media={media}
      consult={consult}
      stream={stream}
    />
  );
}

/** On a wall twelve leads over a rhythm strip, unless its installer chose otherwise. */
const WALL_USUAL = { ...USUAL, layout: "3x4+1" } as const;

function Wall({ client, media, consult, stream }: EcgWallViewProps & { stream: WaveformStream }) {
  const { t, i18n } = useTranslation();
  const version = consult.context_version;
  const [display] = useState(() => rememberedDisplay(WALL_USUAL));
  const [status, setStatus] = useState<EcgStatus | null>(null);
  const [map, setMap] = useState<StillMap | null>(null);
  const serverUs = useServerUs(client.store);
  const heart = useHeart(client.store, stream.stream_id);
  const news = useStore(media.ecg.news);
  const context = useMemo(() => ({ consultId: consult.id, version }), [consult.id, version]);
  const history = useFrameHistory(context, String(stream.stream_id), serverUs);
  const repair = useRepair(context, stream.stream_id);
  const place = useMemo(() => ({ streamId: stream.stream_id, version }), [stream.stream_id, version]);
  const freeze = consult.ecg_freeze?.stream_id === stream.stream_id ? consult.ecg_freeze : null;
  const nameOf = (id: string): string => consult.participants[id]?.name ?? t("ecg.state.someone");
  const pointers = usePointers(client.store, stream.stream_id, "", nameOf);
  const marks = marksOf(consult, stream.stream_id).map((mark) => ({ ...mark, name: nameOf(mark.by) }));
  const pictureAge = useHeardPictureAge(consult.id, version, stream.stream_id);
  useReportState(client, place, status);
  return (
    <div className={styles.ecg}>
      {freeze !== null && (
        <p className={styles.frozen} data-testid="ecg-standing" role="status">
          <strong>{t("ecg.state.shared", { time: clockOf(freeze.at_us, i18n.language) })}</strong>
          <span>
            {t("ecg.state.sharedBy", { name: nameOf(freeze.by), at: clockOf(freeze.at_ms * 1000, i18n.language) })}
          </span>
        </p>
      )}
      {freeze === null && <SkewNote className={styles.skew ?? ""} status={status} age={pictureAge} />}
      <div className={styles.trace}>
        <EcgView
          stream={stream}
          channel={media.ecg.channel(stream.stream_id)}
          contextVersion={version}
          firstVersion={consult.context?.first_version ?? null}
          theme="wall"
          lang={i18n.language === "zh-CN" ? "zh" : "en"}
          layout={display.layout}
          order={display.order}
          mode={display.mode}
          speed={display.speed}
          gain={display.gain}
          filter={display.filter}
          notch={display.notch}
          rhythm={display.rhythm === "" ? [] : [display.rhythm]}
          still={freeze === null ? null : { atUs: freeze.at_us }}
          // A failed page is an empty one: hatched, never made up.
          history={(fromUs, toUs) => history.range(fromUs, toUs).catch(() => [])}
          repair={repair}
          onStill={setMap}
          onState={setStatus}
        />
        {freeze !== null && map !== null && (
          <StillLayer
            map={map}
            tool={null}
            legs={null}
            hasMarch={false}
            stepUs={1e9 / stream.sample_rate_mhz}
            marks={marks}
            chosen={null}
            pointers={pointers}
            sample={NOBODY_MEASURES}
            onLegs={ignore}
            onPlace={ignore}
            onPoint={ignore}
            onChoose={ignore}
            onProblem={ignore}
          />
        )}
      </div>
      <VitalsPanel
        heart={heart}
        vitals={news.vitals}
        serverUs={serverUs}
        isTraceLost={status === null || status.state === "LOST"}
        isPathLost={news.way === null}
        isTraceSimulated={stream.simulated}
        size="wall"
      />
    </div>
  );
}

const ignore = (): void => undefined;
const NOBODY_MEASURES = async (): Promise<null> => null;

/** Says so under the same test id as a trace, with nothing drawn. */
function Nothing({ text }: { text: string }) {
  return (
    <p className={styles.notice} data-testid="ecg" data-state="NONE" data-samples-drawn="0">
      {text}
    </p>
  );
}
