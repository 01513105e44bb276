/**
 * One person, room or shared screen: the picture, who it is, and whether it is live.
 *
 * The picture is never trusted by itself. Its age comes from decoded frames; a dot appears at 2 s, and from 3 s the
 * last picture is greyed under LIVE STOPPED and the running seconds. While a new track is awaited (a worker was
 * replaced) the old last picture stays that way instead of a tile that looks switched off, but never under another
 * name: a tile that is given another source is empty before it is painted. A picture that the relay rests because the
 * line is too thin says so: neither the sender nor the page is broken, and sound and ECG go on.
 */
import { MicOff, MonitorUp, VideoOff } from "lucide-react";
import { useEffect, useLayoutEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import type { Connection } from "../protocol";
import { markOnce } from "./marks";
import type { PictureTimes } from "./pictureTimes";
import { QualitySign } from "./QualitySign";
import { type Quality, qualityOf } from "./quality";
import type { Line, MediaSession, RemoteMedia } from "./session";
import { useView } from "./useView";
import styles from "./VideoTile.module.css";
import { ageMs, clockText, type FrameMark, type Freshness, freshness, isPictureOld } from "./videoAge";
import type { View } from "./views";

export interface VideoTileProps {
  testId: string;
  name: string;
  /** Shown while there is no picture; by default of the name. */
  initial?: string;
  hospital: string;
  connection: Connection;
  /** A picture of somebody else, with its age; absent when they send none. */
  media?: RemoteMedia | undefined;
  /** One's own picture: always live, mirrored, never heard. */
  ownTrack?: MediaStreamTrack | null;
  micOff: boolean;
  speaking?: boolean;
  simulated?: boolean;
  isScreen?: boolean;
  size?: "desk" | "wall" | "strip";
  /** Served first when the line is thin: the picture people look at. */
  rank?: View["rank"];
  session?: MediaSession | undefined;
  line?: Line | undefined;
  nowMs: number;
  onPick?: (() => void) | undefined;
  pickLabel?: string;
}

export function VideoTile(props: VideoTileProps) {
  const { t } = useTranslation();
  const { media, ownTrack, connection, nowMs, size = "desk" } = props;
  const video = useRef<HTMLVideoElement>(null);
  const tile = useRef<HTMLElement>(null);
  const shown = ownTrack ?? (media?.paused === false || media?.producer === null ? (media?.track ?? null) : null);
  const isOn = shown !== null;
  const state: Freshness = ownTrack ? "live" : shownFreshness(shown, media?.frames, nowMs);
  const seconds = clockText(ageMs(media?.frames, nowMs));
  const sent = isOn && !ownTrack ? qualityOf(media?.layers ?? null, media?.frames, nowMs) : null;
  const rests = sent?.kind === "paused_line";
  // A picture that stands still has no quality, whatever was sent last.
  const quality = rests || state === "live" || state === "quiet" ? sent : null;
  useTrack(video, shown, ownTrack !== undefined ? OWN : (media?.key ?? null));
  usePictureTimes(video, shown, props.session?.ecg.pictures, media?.producer ?? null);
  useView(tile, props.session?.views, media?.key, props.rank ?? "tile");

  return (
    <figure
      ref={tile}
      className={styles.tile}
      data-testid={props.testId}
      data-state={isOn ? (rests ? "paused" : state) : "off"}
      data-old={ownTrack === undefined && isPictureOld(media?.frames)}
      data-size={size}
      data-speaking={props.speaking === true}
      data-screen={props.isScreen === true}
      data-connection={connection}
    >
      <video
        ref={video}
        className={styles.video}
        data-own={ownTrack !== undefined && props.isScreen !== true}
        hidden={!isOn}
        muted
        autoPlay
        playsInline
        aria-label={props.name}
      />
      {!isOn && <Placeholder initial={props.initial ?? initialOf(props.name)} />}
      {rests && (
        <p className={styles.stopped} data-tone="line" data-testid="video-paused" role="status">
          <span>{t("desk.quality.paused")}</span> <Counting text={seconds} />
          <span className={styles.why}>{t("desk.quality.pausedHint")}</span>
        </p>
      )}
      {isOn && !rests && state === "waiting" && <p className={styles.waiting}>{t("desk.tile.waiting")}</p>}
      {isOn && !rests && state === "stopped" && (
        <p className={styles.stopped} data-testid="video-age" role="status">
          <span>{t("desk.tile.stopped")}</span> <Counting text={seconds} />
        </p>
      )}
      {isOn && !rests && state === "quiet" && (
        <span className={styles.quiet} role="img" aria-label={t("desk.tile.quiet")} />
      )}
      {props.simulated === true && <strong className={styles.simulated}>{t("desk.tile.simulated")}</strong>}
      <Caption {...props} isOn={isOn} quality={quality} />
      {props.onPick !== undefined && (
        <button type="button" className={styles.pick} onClick={props.onPick} aria-label={props.pickLabel} />
      )}
    </figure>
  );
}

/** Seen, not read out: that it stands still is said once, not again with every second. */
function Counting({ text }: { text: string }) {
  return (
    <span className={styles.seconds} aria-hidden="true">
      {text}
    </span>
  );
}

type CaptionProps = VideoTileProps & { isOn: boolean; quality: Quality | null };

function Caption({ name, hospital, connection, micOff, isScreen, isOn, quality, line }: CaptionProps) {
  const { t } = useTranslation();
  return (
    <figcaption className={styles.caption}>
      <span
        className={styles.dot}
        data-connection={connection}
        role="img"
        aria-label={t(`desk.tile.${connection}`)}
        title={t(`desk.tile.${connection}`)}
      />
      {isScreen === true && <MonitorUp className={styles.icon} aria-hidden="true" />}
      <span className={styles.name}>
        {connection === "reconnecting" ? t("desk.tile.isReconnecting", { name }) : name}
      </span>
      {hospital !== "" && <span className={styles.hospital}>{hospital}</span>}
      <span className={styles.signs}>
        {!isOn && isScreen !== true && (
          <VideoOff className={styles.icon} role="img" aria-label={t("desk.tile.cameraOff")} />
        )}
        {micOff && isScreen !== true && (
          <MicOff className={styles.icon} role="img" aria-label={t("desk.tile.microphoneOff")} />
        )}
        {quality !== null && line !== undefined && <QualitySign quality={quality} line={line} />}
      </span>
    </figcaption>
  );
}

function Placeholder({ initial }: { initial: string }) {
  return (
    <div className={styles.placeholder} aria-hidden="true">
      <span className={styles.initial}>{initial}</span>
    </div>
  );
}

/** A family name's first character in Chinese, first letters in Latin. Titles are left out. */
export function initialOf(name: string): string {
  const words = name
    .replace(/^(dr|prof)\.?\s+/i, "")
    .trim()
    .split(/\s+/);
  const first = words[0] ?? "";
  if (/^[\u3400-\u9fff]/.test(first)) return first.slice(0, 1);
  return words
    .slice(0, 2)
    .map((word) => word.slice(0, 1).toUpperCase())
    .join("");
}

/** An ended track brings no further frame: its picture stands, however new the last one is. */
function shownFreshness(track: MediaStreamTrack | null, frames: FrameMark | undefined, nowMs: number): Freshness {
  const state = freshness(frames, nowMs);
  return track?.readyState === "ended" && state !== "waiting" ? "stopped" : state;
}

/** Tell when each frame of somebody's picture is on the glass, so that a trace beside it can be of the same moment. */
function usePictureTimes(
  video: React.RefObject<HTMLVideoElement | null>,
  track: MediaStreamTrack | null,
  times: PictureTimes | undefined,
  producer: string | null,
): void {
  useEffect(() => {
    const element = video.current;
    if (element === null || track === null || times === undefined || producer === null) return;
    if (!("requestVideoFrameCallback" in element)) return;
    const next = (): number =>
      element.requestVideoFrameCallback((_, { rtpTimestamp, expectedDisplayTime }) => {
        // Absent in browsers that do not tell; then only the time since the last frame is known.
        if (rtpTimestamp !== undefined) times.onShown(producer, rtpTimestamp, expectedDisplayTime);
        request = next();
      });
    let request = next();
    return () => element.cancelVideoFrameCallback(request);
  }, [video, track, times, producer]);
}

/** The source of one's own picture; those of others contain a slash. */
const OWN = "own";

/**
 * Attach a track; the former picture stays until a new track of the same source is there.
 *
 * @param source whose picture it is; that of another is gone before the next paint, whatever its track does
 */
function useTrack(
  video: React.RefObject<HTMLVideoElement | null>,
  track: MediaStreamTrack | null,
  source: string | null,
): void {
  const attached = useRef<string | null>(null);
  useLayoutEffect(() => {
    const element = video.current;
    if (element === null) return;
    if (attached.current !== source) {
      element.srcObject = null;
      attached.current = source;
    }
    if (track === null || track.readyState === "ended") return;
    element.srcObject = new MediaStream([track]);
    // A muted element may always play; a refusal means that the tab is being closed or the track was replaced.
    element.play().catch(() => undefined);
    if (source === OWN || !("requestVideoFrameCallback" in element)) return;
    const request = element.requestVideoFrameCallback(() => markOnce("first-frame"));
    return () => element.cancelVideoFrameCallback(request);
  }, [video, track, source]);
}
