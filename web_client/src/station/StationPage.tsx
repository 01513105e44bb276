/** Stations: which wall screens there are, what each shows, and pairing them. */
import { Button } from "@mantine/core";
import { Activity, FileText, Link2, MonitorOff, ScanEye, Unlink, Video, X } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useLocation, useSearch } from "wouter";
import type { ScreenRole, Station, StationRoom, StationScreen } from "../common/api";
import { ApiError } from "../common/http";
import { useStations } from "../common/queries";
import { EmptyState, ErrorState, Loading } from "../common/states";
import { localized } from "../i18n";
import { ClaimDialog, UnpairDialog } from "./dialogs";
import { cleanCode, type ScreenPlace, useIdentify } from "./pairing";
import styles from "./StationPage.module.css";

export default function StationPage() {
  const { t } = useTranslation();
  const stations = useStations();
  return (
    <>
      <header className={styles.head}>
        <h1 className={styles.title}>{t("station.title")}</h1>
        <p className={styles.lead}>{t("station.lead")}</p>
      </header>
      {stations.data !== undefined ? (
        <Rooms rooms={stations.data} />
      ) : stations.isError ? (
        <Failed error={stations.error} retry={() => void stations.refetch()} />
      ) : (
        <Loading />
      )}
    </>
  );
}

function Failed({ error, retry }: { error: unknown; retry: () => void }) {
  const { t } = useTranslation();
  const forbidden = error instanceof ApiError && error.status === 403;
  return <ErrorState error={error} onRetry={retry} {...(forbidden ? { title: t("station.forbidden") } : {})} />;
}

type Open = { kind: "claim" | "unpair"; place: ScreenPlace } | null;

function Rooms({ rooms }: { rooms: readonly StationRoom[] }) {
  const { t } = useTranslation();
  const [, navigate] = useLocation();
  const code = cleanCode(new URLSearchParams(useSearch()).get("code") ?? "");
  const [open, setOpen] = useState<Open>(null);
  const [said, setSaid] = useState("");
  const identify = useIdentify((place) => setSaid(t("station.identified", naming(place))));
  const forgetCode = (): void => navigate("/station", { replace: true });
  if (rooms.length === 0) {
    return <EmptyState icon={MonitorOff} title={t("station.empty")} body={t("station.emptyBody")} />;
  }
  const actions: ScreenActions = {
    claim: (place) => setOpen({ kind: "claim", place }),
    unpair: (place) => setOpen({ kind: "unpair", place }),
    identify: (place) => identify.mutate(place),
  };
  const done = (message: string): void => {
    setOpen(null);
    setSaid(message);
  };
  return (
    <>
      {code !== "" && <CodeNote code={code} onForget={forgetCode} />}
      <p role="status" className={styles.said} data-empty={said === "" && !identify.isError}>
        {identify.error instanceof ApiError ? localized(identify.error) : said}
      </p>
      {rooms.map((room) => (
        <Room key={room.id} room={room} actions={actions} />
      ))}
      {open?.kind === "claim" && (
        <ClaimDialog
          place={open.place}
          code={code}
          onClose={() => setOpen(null)}
          onDone={() => {
            done(t("station.claimed", naming(open.place)));
            if (code !== "") forgetCode();
          }}
        />
      )}
      {open?.kind === "unpair" && (
        <UnpairDialog
          place={open.place}
          onClose={() => setOpen(null)}
          onDone={() => done(t("station.unpaired", naming(open.place)))}
        />
      )}
    </>
  );
}

const naming = (place: ScreenPlace) => ({ station: place.station.name, number: place.screen.number });

function CodeNote({ code, onForget }: { code: string; onForget: () => void }) {
  const { t } = useTranslation();
  return (
    <div className={styles.codeNote}>
      <Link2 size={20} aria-hidden="true" />
      <span className={styles.codeText}>{t("station.withCode", { code })}</span>
      <Button
        variant="subtle"
        size="compact-sm"
        leftSection={<X size={16} aria-hidden="true" />}
        onClick={onForget}
        data-testid="btn-drop-code"
      >
        {t("station.dropCode")}
      </Button>
    </div>
  );
}

interface ScreenActions {
  claim: (place: ScreenPlace) => void;
  unpair: (place: ScreenPlace) => void;
  identify: (place: ScreenPlace) => void;
}

function Room({ room, actions }: { room: StationRoom; actions: ScreenActions }) {
  return (
    <section className={styles.room} aria-label={room.name}>
      <h2 className={styles.roomName}>{room.name}</h2>
      {room.stations.map((station) => (
        <StationCard key={station.id} station={station} actions={actions} />
      ))}
    </section>
  );
}

function StationCard({ station, actions }: { station: Station; actions: ScreenActions }) {
  const { t } = useTranslation();
  const online = station.screens.filter((screen) => screen.paired && screen.online).length;
  return (
    <article className={styles.station} data-testid={`station-${station.id}`}>
      <header className={styles.stationHead}>
        <h3 className={styles.stationName}>{station.name}</h3>
        <span className={styles.busy} data-busy={station.consult !== null}>
          {station.consult === null ? t("station.idle") : t("station.inConsult")}
        </span>
        <span className={styles.ready}>{t("station.ready", { count: online, total: station.screens.length })}</span>
      </header>
      <ul className={styles.screens}>
        {station.screens.map((screen) => (
          <ScreenTile key={screen.number} place={{ station, screen }} actions={actions} />
        ))}
      </ul>
    </article>
  );
}

const ROLE_ICON = { record: FileText, video: Video, ecg: Activity } as const satisfies Record<ScreenRole, unknown>;

const stateOf = (screen: StationScreen): "online" | "offline" | "unpaired" =>
  screen.paired ? (screen.online ? "online" : "offline") : "unpaired";

function ScreenTile({ place, actions }: { place: ScreenPlace; actions: ScreenActions }) {
  const { t } = useTranslation();
  const { screen } = place;
  const state = stateOf(screen);
  const Icon = screen.role === null ? MonitorOff : ROLE_ICON[screen.role];
  return (
    <li className={styles.tile} data-state={state} data-testid={`screen-${place.station.id}-${screen.number}`}>
      <div className={styles.display}>
        <span className={styles.number} aria-hidden="true">
          {screen.number}
        </span>
        <Icon className={styles.displayIcon} strokeWidth={1.4} aria-hidden="true" />
        <span className={styles.displayRole}>
          <span className="visually-hidden">{t("station.screen", { number: screen.number })}: </span>
          {screen.role === null ? t("station.state.unpaired") : t(`station.role.${screen.role}`)}
        </span>
      </div>
      <p className={styles.state}>
        <span className={styles.lamp} aria-hidden="true" />
        {t(`station.state.${state}`)}
      </p>
      <TileActions place={place} actions={actions} />
    </li>
  );
}

function TileActions({ place, actions }: { place: ScreenPlace; actions: ScreenActions }) {
  const { t } = useTranslation();
  const { station, screen } = place;
  const id = `${station.id}-${screen.number}`;
  const label = (action: "pair" | "change" | "unpair" | "identify"): string =>
    t(`station.${action}Label`, naming(place));
  if (!screen.paired) {
    return (
      <div className={styles.actions}>
        <Button
          size="compact-md"
          leftSection={<Link2 size={16} aria-hidden="true" />}
          aria-label={label("pair")}
          data-testid={`btn-pair-${id}`}
          onClick={() => actions.claim(place)}
        >
          {t("station.pair")}
        </Button>
      </div>
    );
  }
  return (
    <div className={styles.actions}>
      <Button
        size="compact-md"
        variant="default"
        leftSection={<ScanEye size={16} aria-hidden="true" />}
        aria-label={label("identify")}
        disabled={!screen.online}
        data-testid={`btn-identify-${id}`}
        onClick={() => actions.identify(place)}
      >
        {t("station.identify")}
      </Button>
      <Button
        size="compact-md"
        variant="subtle"
        aria-label={label("change")}
        data-testid={`btn-pair-${id}`}
        onClick={() => actions.claim(place)}
      >
        {t("station.change")}
      </Button>
      <Button
        size="compact-md"
        variant="subtle"
        leftSection={<Unlink size={16} aria-hidden="true" />}
        aria-label={label("unpair")}
        data-testid={`btn-unpair-${id}`}
        onClick={() => actions.unpair(place)}
      >
        {t("station.unpair")}
      </Button>
    </div>
  );
}
