/**
 * Imaging: the list of studies, and one picture of a study.
 *
 * The server draws the picture and says what it did: grey window, size, what a pixel measures. There is nothing to
 * measure with here, and every picture says that it is not for primary diagnosis. Which picture, which window and what
 * part of it is part of the shared view.
 */
import { ActionIcon } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { ChevronLeft, ChevronRight, FileX2, ImageOff, ScanEye } from "lucide-react";
import { useEffect, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useHttp } from "../../common/http";
import { type ImagingSeries, type PictureInfo, readPictureInfo, type Study, studiesOf } from "../fhirImaging";
import { throttle } from "../follow";
import { type Place, readPlace, WHOLE, writePlace } from "../place";
import styles from "../RecordPane.module.css";
import { fetchPicture, KEPT, recordKey, usePane } from "../recordData";
import own from "./pages.module.css";
import {
  BackToList,
  Empty,
  Failed,
  full,
  Lines,
  Name,
  Notice,
  PageTitle,
  Ready,
  Row,
  Sought,
  Tag,
  When,
} from "./parts";
import { useObjectUrl } from "./useObjectUrl";
import { ZoomBox } from "./ZoomBox";

/** A hand on the slider turns everyone's picture, at most four times a second. */
const TURN_EVERY_MS = 250;

export function ImagingPage({ item }: { item: string }) {
  const { t } = useTranslation();
  const { data } = usePane();
  const place = readPlace(item);
  return (
    <>
      {place.id === "" && <PageTitle page="imaging" />}
      <Ready of={data.imaging} page="imaging" quiet={place.id !== ""}>
        {(series) => {
          const studies = studiesOf(series);
          if (place.id !== "") return <OneStudy study={studies.find((one) => one.id === place.id)} place={place} />;
          if (studies.length === 0) return <Empty text={t("record.imaging.empty")} />;
          return (
            <ul className={styles.rows}>
              {studies.map((study) => (
                <StudyRow key={study.uid} study={study} />
              ))}
            </ul>
          );
        }}
      </Ready>
    </>
  );
}

function StudyTitle({ study }: { study: Study }) {
  const { t } = useTranslation();
  if (study.title !== null) return <Name term={study.title} struck={study.cancelled} />;
  return <span className={styles.nameMain}>{t("record.imaging.untitled")}</span>;
}

function StudyRow({ study }: { study: Study }) {
  const { t } = useTranslation();
  return (
    <Row page="imaging" item={study.id} testId={`study-${study.id}`}>
      <div className={styles.rowMain}>
        <StudyTitle study={study} />
        <p className={styles.soft}>
          {t("record.imaging.series", { count: study.series.length })} ·{" "}
          {t("record.imaging.images", { count: study.count })}
        </p>
      </div>
      <div className={styles.rowSide}>
        <span className={styles.tags}>
          {study.modalities.map((modality) => (
            <Tag key={modality}>{modality}</Tag>
          ))}
        </span>
        <When at={study.started} />
      </div>
    </Row>
  );
}

function OneStudy({ study, place }: { study: Study | undefined; place: Place }) {
  const { t } = useTranslation();
  const { data } = usePane();
  if (study === undefined) {
    return (
      <>
        <BackToList page="imaging" />
        <Sought of={data.imaging}>
          <Notice icon={FileX2} title={t("record.notHere")} />
        </Sought>
      </>
    );
  }
  return (
    <>
      <BackToList page="imaging" />
      <header className={styles.pageHead}>
        <h2 className={styles.pageTitle}>
          <StudyTitle study={study} />
        </h2>
        <p className={styles.byline}>
          {study.modalities.map((modality) => (
            <Tag key={modality}>{modality}</Tag>
          ))}
          <When at={study.started} />
        </p>
      </header>
      <div className={own.warning} data-testid="not-for-diagnosis" role="note">
        <ScanEye aria-hidden="true" className={styles.inlineIcon} />
        {t("record.imaging.notDiagnostic")}
      </div>
      <SeriesChoice study={study} place={place} />
      {study.instances.length === 0 ? (
        <Notice icon={ImageOff} title={t("record.imaging.noneListed")} body={t("record.imaging.noneListedBody")} />
      ) : (
        <PictureOf study={study} place={place} />
      )}
    </>
  );
}

/** First picture of each series among all of the study, counted from 1. */
export function seriesStarts(series: readonly ImagingSeries[]): readonly number[] {
  let next = 1;
  return series.map(({ instances }) => {
    const start = next;
    next += instances.length;
    return start;
  });
}

function SeriesChoice({ study, place }: { study: Study; place: Place }) {
  const { t } = useTranslation();
  const { go, wall } = usePane();
  const starts = seriesStarts(study.series);
  if (study.series.length < 2) return null;
  const current = starts.findLastIndex((start) => start <= place.part);
  return (
    <ul className={own.chips} aria-label={t("record.imaging.seriesList")}>
      {study.series.map((series, index) => {
        const title =
          series.title === null ? t("record.imaging.seriesNumber", { number: index + 1 }) : full(series.title);
        const text = `${series.modality} ${title} (${series.count})`;
        return (
          <li key={series.id}>
            {wall ? (
              <span className={own.chip} data-current={index === current}>
                {text}
              </span>
            ) : (
              <button
                type="button"
                className={own.chip}
                data-current={index === current}
                aria-pressed={index === current}
                disabled={series.instances.length === 0}
                onClick={() => go("imaging", writePlace({ ...place, part: starts[index] ?? 1, zoom: WHOLE }))}
              >
                {text}
              </button>
            )}
          </li>
        );
      })}
    </ul>
  );
}

interface Drawn {
  blob: Blob;
  info: PictureInfo | null;
}

/** Which instance and frame a part of a study is: a study of one file is leafed through by its frames. */
export function pictureAt(study: Study, part: number): { study: string; instance: string; frame: number } | null {
  const single = study.instances.length === 1;
  const instance = study.instances[single ? 0 : Math.min(part, study.instances.length) - 1];
  if (instance === undefined) return null;
  return { study: instance.study, instance: instance.uid, frame: single ? part - 1 : 0 };
}

function PictureOf({ study, place }: { study: Study; place: Place }) {
  const { go, context } = usePane();
  const http = useHttp();
  const at = pictureAt(study, place.part);
  const query = useQuery({
    queryKey: recordKey(context, "picture", at, place.window),
    queryFn: async ({ signal }): Promise<Drawn> => {
      if (at === null) throw new Error("a study with pictures has one at every place");
      const { blob, about } = await fetchPicture(http, context, { ...at, window: place.window }, signal);
      return { blob: new Blob([blob], { type: "image/png" }), info: readPictureInfo(about) };
    },
    enabled: at !== null,
    ...KEPT,
  });
  const info = query.data?.info ?? null;
  // Of a file with many frames the number is known once one was drawn.
  const [frames, setFrames] = useState(1);
  // While the next picture is on its way the box keeps its shape: leafing must not make the page jump.
  const [aspect, setAspect] = useState(1);
  useEffect(() => {
    if (info === null) return;
    setFrames(info.frames);
    setAspect(info.columns / info.rows);
  }, [info]);
  const count = study.instances.length > 1 ? study.instances.length : Math.max(frames, place.part);
  const newest = useRef(go);
  newest.current = go;
  const turn = useMemo(
    () => throttle((part: number, of: Place) => newest.current("imaging", writePlace({ ...of, part })), TURN_EVERY_MS),
    [],
  );
  useEffect(() => () => turn.cancel(), [turn]);
  return (
    <>
      <ZoomBox
        kind="picture"
        label={study.title === null ? study.modalities.join(", ") : full(study.title)}
        aspect={info === null ? aspect : info.columns / info.rows}
        zoom={place.zoom}
        onZoom={(zoom) => go("imaging", writePlace({ ...place, zoom }))}
        tools={
          <>
            {count > 1 && (
              <Stepper count={count} part={Math.min(place.part, count)} onPart={(part) => turn(part, place)} />
            )}
            <Windows names={info?.windows ?? []} place={place} />
          </>
        }
      >
        {query.data === undefined && (
          <div className={own.cover}>
            {query.error === null ? <Lines /> : <Failed error={query.error} retry={() => void query.refetch()} />}
          </div>
        )}
        {query.data !== undefined && (
          <Shown blob={query.data.blob} part={place.part} instance={at?.instance ?? ""} {...{ count, study }} />
        )}
      </ZoomBox>
      {info !== null && <Particulars info={info} shown={study.instances.length > 1} part={place.part} count={count} />}
    </>
  );
}

function Shown(props: { blob: Blob; part: number; count: number; study: Study; instance: string }) {
  const { blob, part, count, study, instance } = props;
  const { t } = useTranslation();
  const url = useObjectUrl(blob);
  const title = study.title === null ? study.modalities.join(", ") : full(study.title);
  if (url === "") return null;
  return (
    <img
      className={own.sheet}
      data-testid="dicom-picture"
      data-part={part}
      data-edition={instance}
      src={url}
      alt={t("record.imaging.alt", { title, part, count })}
      draggable={false}
    />
  );
}

function Stepper({ count, part, onPart }: { count: number; part: number; onPart: (part: number) => void }) {
  const { t } = useTranslation();
  // The hand leads, the shared view follows: between the two the slider stays where the hand is.
  const [hand, setHand] = useState<number | null>(null);
  useEffect(() => {
    if (hand === part) setHand(null);
  }, [hand, part]);
  const move = (to: number): void => {
    const target = Math.min(count, Math.max(1, to));
    setHand(target);
    onPart(target);
  };
  const shown = hand ?? part;
  return (
    <span className={own.zoomGroup}>
      <ActionIcon
        variant="default"
        size="lg"
        aria-label={t("record.imaging.previous")}
        disabled={shown === 1}
        onClick={() => move(shown - 1)}
      >
        <ChevronLeft aria-hidden="true" size={18} />
      </ActionIcon>
      <input
        type="range"
        className={own.slider}
        min={1}
        max={count}
        value={shown}
        data-testid="dicom-slider"
        aria-label={t("record.imaging.picture")}
        aria-valuetext={t("record.imaging.partOf", { part: shown, count })}
        onChange={(event) => move(Number(event.currentTarget.value))}
      />
      <ActionIcon
        variant="default"
        size="lg"
        aria-label={t("record.imaging.next")}
        data-testid="dicom-next"
        disabled={shown === count}
        onClick={() => move(shown + 1)}
      >
        <ChevronRight aria-hidden="true" size={18} />
      </ActionIcon>
    </span>
  );
}

const WINDOW_NAMES = ["", "full", "soft", "lung", "bone", "brain"] as const;
const windowKey = (name: (typeof WINDOW_NAMES)[number]) => (name === "" ? "own" : name);

function Windows({ names, place }: { names: readonly string[]; place: Place }) {
  const { t } = useTranslation();
  const { go } = usePane();
  const known = WINDOW_NAMES.filter((name) => names.includes(name));
  if (known.length < 2) return null;
  return (
    <label className={own.zoomGroup}>
      <span className={styles.soft}>{t("record.imaging.window")}</span>
      <select
        className={own.select}
        value={place.window}
        data-testid="dicom-window"
        onChange={(event) => go("imaging", writePlace({ ...place, window: event.currentTarget.value }))}
      >
        {known.map((name) => (
          <option key={name} value={name}>
            {t(`record.imaging.windows.${windowKey(name)}`)}
          </option>
        ))}
      </select>
    </label>
  );
}

/** What was drawn and how: on the picture's foot, on every screen. */
function Particulars(props: { info: PictureInfo; shown: boolean; part: number; count: number }) {
  const { t } = useTranslation();
  const { info, shown, part, count } = props;
  const name = WINDOW_NAMES.find((one) => one === info.window) ?? "";
  const parts = [
    t("record.imaging.partOf", { part, count }),
    windowText(t(`record.imaging.windows.${windowKey(name)}`), info, t("record.imaging.window")),
    `${info.columns} × ${info.rows}`,
    spacingText(info, t("record.imaging.spacing"), t("record.imaging.atDetector"), t("record.imaging.noSpacing")),
    info.laterality === "" ? "" : t("record.imaging.side", { side: info.laterality }),
    info.smaller ? t("record.imaging.reduced") : "",
    info.lossy ? t("record.imaging.lossy") : "",
    shown && info.frames > 1 ? t("record.imaging.firstFrame", { count: info.frames }) : "",
  ];
  return (
    <p className={own.particulars} data-testid="dicom-particulars">
      {parts
        .filter((one) => one !== "")
        .map((one) => (
          <span key={one}>{one}</span>
        ))}
    </p>
  );
}

const rounded = (value: number): string => String(Math.round(value * 100) / 100);

const windowText = (name: string, { centre, width }: PictureInfo, label: string): string =>
  `${label}: ${name}${centre === null || width === null ? "" : ` (C ${rounded(centre)} / W ${rounded(width)})`}`;

function spacingText({ spacing, atDetector }: PictureInfo, label: string, detector: string, none: string): string {
  if (spacing === null) return none;
  const text = `${label} ${rounded(spacing[0])} × ${rounded(spacing[1])} mm`;
  return atDetector ? `${text} ${detector}` : text;
}
