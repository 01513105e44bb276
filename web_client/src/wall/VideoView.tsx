/** Screen 2: the partner hospital's room as large as the wall, everyone else in a strip, and the sound. */
import { Volume2 } from "lucide-react";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import type { ConsultClient } from "../desk/consultClient";
import { type Seat, seatsOf, sharedScreens } from "../desk/people";
import { useTellPictureAges } from "../ecg/pictureNews";
import { SoundOutlet, useSound } from "../media/SoundOutlet";
import type { Line, MediaSession, RemoteMedia } from "../media/session";
import { useNow } from "../media/useNow";
import { VideoTile } from "../media/VideoTile";
import type { Consult } from "../protocol";
import styles from "./VideoView.module.css";

export interface VideoViewProps {
  client: ConsultClient;
  media: MediaSession;
  consult: Consult;
  me: string;
}

const STRIP_SEATS = 5;

export default function VideoView({ client, media, consult, me }: VideoViewProps) {
  const { t } = useTranslation();
  const nowMs = useNow();
  const sound = useSound();
  const remote = useStore(media.store, (state) => state.remote);
  const line = useStore(media.store, (state) => state.line);
  const activeSpeaker = useStore(client.store, (state) => state.activeSpeaker);
  useTellPictureAges(consult, media);
  const seats = seatsOf(consult, me, remote, activeSpeaker);
  const [screen] = sharedScreens(consult, remote);
  const main = screen === undefined ? mainSeat(seats) : undefined;
  const strip = seats.filter((seat) => seat !== main).slice(0, STRIP_SEATS);
  return (
    <div className={styles.stage}>
      <SoundOutlet media={media} sound={sound} />
      <div className={styles.main}>
        {screen !== undefined && (
          <VideoTile
            key={`screen-${screen.participant.id}`}
            testId={`screen-${screen.participant.id}`}
            name={t("desk.tile.screenOf", { name: screen.participant.name })}
            hospital={screen.participant.hospital}
            connection={screen.participant.connection}
            media={screen.media}
            micOff={false}
            isScreen
            simulated={screen.participant.simulated}
            size="wall"
            rank="main"
            session={media}
            line={line}
            nowMs={nowMs}
          />
        )}
        {main !== undefined && (
          <SeatTile key={main.participant.id} seat={main} size="wall" session={media} line={line} nowMs={nowMs} />
        )}
        {screen === undefined && main === undefined && <p className={styles.waiting}>{t("wall.consult.noVideo")}</p>}
      </div>
      {strip.length > 0 && (
        <div className={styles.strip}>
          {strip.map((seat) => (
            <SeatTile key={seat.participant.id} seat={seat} size="strip" session={media} line={line} nowMs={nowMs} />
          ))}
        </div>
      )}
      {sound.blocked && (
        <button type="button" className={styles.sound} onClick={sound.resume} data-testid="btn-sound">
          <Volume2 aria-hidden="true" /> {t("wall.consult.soundOn")}
        </button>
      )}
    </div>
  );
}

/** The partner's room if it sends a picture, else whoever does. */
function mainSeat(seats: readonly Seat[]): Seat | undefined {
  const isVisible = (camera: RemoteMedia | undefined): boolean => camera !== undefined && !camera.paused;
  return seats.find(({ camera }) => isVisible(camera)) ?? seats[0];
}

interface SeatTileProps {
  seat: Seat;
  size: "wall" | "strip";
  session: MediaSession;
  line: Line;
  nowMs: number;
}

function SeatTile({ seat, size, session, line, nowMs }: SeatTileProps) {
  const { participant, camera, micOff, isSpeaking } = seat;
  return (
    <VideoTile
      testId={`tile-${participant.id}`}
      name={participant.name}
      hospital={participant.hospital}
      connection={participant.connection}
      media={camera}
      micOff={micOff}
      speaking={isSpeaking}
      simulated={participant.simulated}
      size={size}
      rank={size === "wall" ? "main" : "tile"}
      session={session}
      line={line}
      nowMs={nowMs}
    />
  );
}
