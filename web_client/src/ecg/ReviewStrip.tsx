/**
 * The whole consult in one strip: what happened when, the computed heart rate, and where one is.
 *
 * Gaps, restarts, kept strips and marks stand at their times; dragging or arrow keys scrub, page buttons turn by a page.
 */
import { ActionIcon, Tooltip } from "@mantine/core";
import { ChevronLeft, ChevronRight, SkipBack, SkipForward } from "lucide-react";
import { type KeyboardEvent, type PointerEvent, type ReactNode, useMemo } from "react";
import { useTranslation } from "react-i18next";
import styles from "./ReviewStrip.module.css";
import {
  clampEdge,
  clockOf,
  fractionOf,
  jumpTo,
  neighbour,
  type OverviewEvent,
  type Recorded,
  rateTrend,
  stepPage,
  timeAt,
} from "./review";

export interface ReviewStripProps {
  readonly recorded: Recorded;
  readonly events: readonly OverviewEvent[];
  readonly beatsUs: readonly number[];
  /** Right edge and width of the page. */
  readonly atUs: number;
  readonly pageUs: number;
  readonly onMove: (atUs: number) => void;
}

const MAX_TREND_BINS = 160;
/** Shorter parts would hold too few beats for a median. */
const MIN_BIN_US = 5_000_000;
const KEY_STEPS: Readonly<Record<string, number>> = { ArrowLeft: -0.1, ArrowRight: 0.1, PageUp: -0.9, PageDown: 0.9 };

export function ReviewStrip({ recorded, events, beatsUs, atUs, pageUs, onMove }: ReviewStripProps) {
  const { t, i18n } = useTranslation();
  const middleUs = atUs - pageUs / 2;
  const go = (us: number): void => onMove(clampEdge(us, recorded, pageUs));
  const before = neighbour(events, middleUs, -1);
  const after = neighbour(events, middleUs, 1);
  const jump = (event: OverviewEvent | null) => (): void => {
    if (event !== null) onMove(jumpTo(event.fromUs, recorded, pageUs));
  };
  return (
    <section className={styles.strip} aria-label={t("ecg.review.title")} data-testid="ecg-review">
      <div className={styles.buttons}>
        <Step label={t("ecg.review.previous")} isOff={before === null} onClick={jump(before)}>
          <SkipBack />
        </Step>
        <Step
          label={t("ecg.review.back")}
          isOff={atUs <= clampEdge(0, recorded, pageUs)}
          onClick={() => onMove(stepPage(atUs, -1, recorded, pageUs))}
        >
          <ChevronLeft />
        </Step>
      </div>
      <Track {...{ recorded, events, beatsUs, atUs, pageUs, onMove: go, language: i18n.language }} />
      <div className={styles.buttons}>
        <Step
          label={t("ecg.review.forward")}
          isOff={atUs >= recorded.lastUs}
          onClick={() => onMove(stepPage(atUs, 1, recorded, pageUs))}
        >
          <ChevronRight />
        </Step>
        <Step label={t("ecg.review.next")} isOff={after === null} onClick={jump(after)}>
          <SkipForward />
        </Step>
      </div>
    </section>
  );
}

interface StepProps {
  readonly label: string;
  readonly isOff: boolean;
  readonly onClick: () => void;
  readonly children: ReactNode;
}

function Step({ label, isOff, onClick, children }: StepProps) {
  return (
    <Tooltip label={label} openDelay={400}>
      <ActionIcon variant="default" size="lg" aria-label={label} disabled={isOff} onClick={onClick}>
        {children}
      </ActionIcon>
    </Tooltip>
  );
}

type TrackProps = ReviewStripProps & { readonly language: string };

function Track({ recorded, events, beatsUs, atUs, pageUs, onMove, language }: TrackProps) {
  const { t } = useTranslation();
  const percent = (us: number): string => `${(100 * fractionOf(us, recorded)).toFixed(3)}%`;
  const scrub = (event: PointerEvent<HTMLDivElement>): void => {
    const box = event.currentTarget.getBoundingClientRect();
    onMove(timeAt((event.clientX - box.left) / box.width, recorded) + pageUs / 2);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const step = KEY_STEPS[event.key];
    if (step === undefined && event.key !== "Home" && event.key !== "End") return;
    event.preventDefault();
    onMove(step === undefined ? (event.key === "Home" ? 0 : recorded.lastUs) : atUs + step * pageUs);
  };
  const width = 100 * (fractionOf(atUs, recorded) - fractionOf(atUs - pageUs, recorded));
  return (
    <div className={styles.frame}>
      <div
        className={styles.track}
        role="slider"
        tabIndex={0}
        aria-label={t("ecg.review.overview")}
        aria-valuemin={Math.round(recorded.firstUs / 1e6)}
        aria-valuemax={Math.round(recorded.lastUs / 1e6)}
        aria-valuenow={Math.round(atUs / 1e6)}
        aria-valuetext={clockOf(atUs, language)}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          scrub(event);
        }}
        onPointerMove={(event) => {
          if (event.buttons === 1) scrub(event);
        }}
        onKeyDown={onKeyDown}
      >
        <Trend recorded={recorded} beatsUs={beatsUs} />
        {events.map((event) => (
          <span
            key={`${event.kind} ${event.fromUs} ${event.label}`}
            className={styles.event}
            data-kind={event.kind}
            title={`${t(`ecg.review.kinds.${event.kind}`)} ${clockOf(event.fromUs, language)} ${event.label}`}
            style={{
              insetInlineStart: percent(event.fromUs),
              width: `max(3px, calc(${percent(event.toUs)} - ${percent(event.fromUs)}))`,
            }}
          />
        ))}
        <span
          className={styles.page}
          style={{ insetInlineStart: percent(atUs - pageUs), width: `max(6px, ${width.toFixed(3)}%)` }}
        />
      </div>
      <p className={styles.times}>
        <span>{clockOf(recorded.firstUs, language)}</span>
        <Legend events={events} hasRate={beatsUs.length > 1} />
        <span>{clockOf(recorded.lastUs, language)}</span>
      </p>
    </div>
  );
}

/** Only what is there is explained. */
function Legend({ events, hasRate }: { events: readonly OverviewEvent[]; hasRate: boolean }) {
  const { t } = useTranslation();
  const kinds = [...new Set(events.map(({ kind }) => kind))];
  return (
    <span className={styles.legend}>
      {hasRate && <span>{t("ecg.review.rate")}</span>}
      {kinds.map((kind) => (
        <span key={kind}>
          <span className={styles.swatch} data-kind={kind} aria-hidden="true" /> {t(`ecg.review.kinds.${kind}`)}
        </span>
      ))}
    </span>
  );
}

const [LOW, HIGH] = [30, 180];

function Trend({ recorded, beatsUs }: { recorded: Recorded; beatsUs: readonly number[] }) {
  const { firstUs, lastUs } = recorded;
  const count = Math.max(1, Math.min(MAX_TREND_BINS, Math.floor((lastUs - firstUs) / MIN_BIN_US)));
  const path = useMemo(() => {
    const bins = rateTrend(beatsUs, { firstUs, lastUs }, count);
    const y = (bpm: number): string =>
      (100 - (100 * (Math.min(HIGH, Math.max(LOW, bpm)) - LOW)) / (HIGH - LOW)).toFixed(1);
    return bins
      .map((bpm, k) => (bpm === null ? "" : `${bins[k - 1] == null ? `M${k}` : `L${k}`} ${y(bpm)} L${k + 1} ${y(bpm)}`))
      .join(" ");
  }, [beatsUs, firstUs, lastUs, count]);
  return (
    <svg className={styles.trend} viewBox={`0 0 ${count} 100`} preserveAspectRatio="none" aria-hidden="true">
      <path d={path} vectorEffect="non-scaling-stroke" />
    </svg>
  );
}
