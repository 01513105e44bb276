/**
 * The others as large as the panel allows, oneself small in a corner when others are there.
 *
 * A shared screen, or whoever was picked, takes the stage; the rest stand in a strip beside it.
 */
import { Users } from "lucide-react";
import { type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import { bestGrid } from "../media/grid";
import type { LocalState } from "../media/local";
import type { MediaSession } from "../media/session";
import { useNow } from "../media/useNow";
import { initialOf, VideoTile } from "../media/VideoTile";
import type { View } from "../media/views";
import type { Consult } from "../protocol";
import { seatsOf, sharedScreens } from "./people";
import styles from "./VideoGrid.module.css";

export interface VideoGridProps {
  consult: Consult;
  me: string;
  media: MediaSession;
  local: LocalState;
  activeSpeaker: string | null;
}

interface Picture {
  readonly id: string;
  readonly isScreen: boolean;
  readonly render: (rank: View["rank"]) => ReactNode;
}

export function VideoGrid(props: VideoGridProps) {
  const { t } = useTranslation();
  const [picked, setPicked] = useState<string | null>(null);
  const pictures = usePictures(props, picked, setPicked);
  const others = pictures.filter(({ id }) => id !== "me");
  const staged = others.find(({ id }) => id === picked) ?? others.find(({ isScreen }) => isScreen);
  const [box, width, height] = useBox();
  const rest = others.filter((picture) => picture !== staged);
  const own = pictures.find(({ id }) => id === "me");
  const { columns, rows } = bestGrid(rest.length, width, height);

  if (others.length === 0) {
    return (
      <div className={styles.alone} ref={box}>
        <div className={styles.empty}>
          <Users aria-hidden="true" className={styles.emptyIcon} />
          <p className={styles.emptyTitle}>{t("desk.tile.empty")}</p>
          <p className={styles.emptyHint}>{t("desk.tile.emptyHint")}</p>
        </div>
        {own !== undefined && <div className={styles.own}>{own.render("tile")}</div>}
      </div>
    );
  }
  // Whoever is alone in the grid is as large as on the stage.
  const rank = rest.length === 1 && staged === undefined ? "main" : "tile";
  return (
    <div className={styles.stage} data-staged={staged !== undefined} ref={box}>
      {staged !== undefined && <div className={styles.main}>{staged.render("main")}</div>}
      <div
        className={staged === undefined ? styles.grid : styles.strip}
        style={
          staged === undefined
            ? {
                gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))`,
                gridTemplateRows: `repeat(${rows}, minmax(0, 1fr))`,
              }
            : undefined
        }
      >
        {rest.map((picture) => picture.render(rank))}
      </div>
      {own !== undefined && <div className={styles.own}>{own.render("tile")}</div>}
    </div>
  );
}

function usePictures(
  props: VideoGridProps,
  picked: string | null,
  pick: (id: string | null) => void,
): readonly Picture[] {
  const { t } = useTranslation();
  const { consult, me, media: session, local, activeSpeaker } = props;
  const remote = useStore(session.store, (state) => state.remote);
  const line = useStore(session.store, (state) => state.line);
  const nowMs = useNow();
  const seats = useMemo(() => seatsOf(consult, me, remote, activeSpeaker), [consult, me, remote, activeSpeaker]);
  const screens = useMemo(() => sharedScreens(consult, remote), [consult, remote]);
  const pickable = (id: string, name: string) => ({
    onPick: () => pick(picked === id ? null : id),
    pickLabel: picked === id ? t("desk.tile.reduce") : t("desk.tile.enlarge", { name }),
  });
  const mine = consult.participants[me];
  return [
    ...screens.map(({ participant, media }) => ({
      id: `screen-${participant.id}`,
      isScreen: true,
      render: (rank: View["rank"]) => (
        <VideoTile
          key={`screen-${participant.id}`}
          testId={`screen-${participant.id}`}
          name={t("desk.tile.screenOf", { name: participant.name })}
          hospital={participant.hospital}
          connection={participant.connection}
          media={media}
          micOff={false}
          isScreen
          simulated={participant.simulated}
          rank={rank}
          session={session}
          line={line}
          nowMs={nowMs}
        />
      ),
    })),
    ...seats.map(({ participant, camera, micOff, isSpeaking }) => ({
      id: participant.id,
      isScreen: false,
      render: (rank: View["rank"]) => (
        <VideoTile
          key={participant.id}
          testId={`tile-${participant.id}`}
          name={participant.name}
          hospital={participant.hospital}
          connection={participant.connection}
          media={camera}
          micOff={micOff}
          speaking={isSpeaking}
          simulated={participant.simulated}
          rank={rank}
          session={session}
          line={line}
          nowMs={nowMs}
          {...pickable(participant.id, participant.name)}
        />
      ),
    })),
    ...(mine === undefined
      ? []
      : [
          {
            id: "me",
            isScreen: false,
            render: () => (
              <VideoTile
                key="me"
                testId={`tile-${me}`}
                name={t("desk.tile.you")}
                initial={initialOf(mine.name)}
                hospital=""
                connection={mine.connection}
                ownTrack={local.camera.track}
                micOff={!local.microphone.on}
                nowMs={nowMs}
              />
            ),
          },
        ]),
  ];
}

/** A box's inner size, followed as panels are dragged. */
function useBox(): [(element: HTMLDivElement | null) => void, number, number] {
  const [size, setSize] = useState<[number, number]>([640, 360]);
  const observer = useRef<ResizeObserver | null>(null);
  const attach = useRef((element: HTMLDivElement | null): void => {
    observer.current?.disconnect();
    if (element === null) return;
    observer.current = new ResizeObserver(([entry]) => {
      if (entry !== undefined) setSize([entry.contentRect.width, entry.contentRect.height]);
    });
    observer.current.observe(element);
  });
  useEffect(() => () => observer.current?.disconnect(), []);
  return [attach.current, size[0], size[1]];
}
