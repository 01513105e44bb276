/**
 * One test over time, drawn by uPlot with the reference range behind it.
 *
 * The chart is a picture for people; the table below it holds the same values
 * for everyone. Colours and type size come from the page, so light, dark and
 * wall need no case of their own.
 */
import "uplot/dist/uPlot.min.css";
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import UPlot from "uplot";
import { minuteText } from "../fhir";
import type { LabSeries, Range } from "../fhirLabs";
import styles from "../RecordPane.module.css";
import { full } from "./parts";

export interface TrendProps {
  series: LabSeries;
  /** Drawn with it on the same scale: the diastolic half of a pressure. */
  second?: LabSeries | undefined;
}

export default function Trend({ series, second }: TrendProps) {
  const { t } = useTranslation();
  const scheme = useComputedColorScheme("light");
  const box = useRef<HTMLDivElement>(null);
  const range = series.latest?.range ?? null;

  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    // Read so that another scheme draws again: canvas does not follow CSS by itself.
    element.dataset.scheme = scheme;
    return mountTrend(element, series, second);
  }, [series, second, scheme]);

  const day = (ms: number | undefined): string => (ms === undefined ? "" : new Date(ms).toLocaleDateString("sv"));
  const label = t("record.labs.chart", {
    name: full(series.name),
    count: series.drawn.length,
    first: day(series.drawn[0]?.ms),
    last: day(series.drawn.at(-1)?.ms),
  });
  return (
    <figure className={styles.figure}>
      <div ref={box} className={styles.chart} role="img" aria-label={label} data-testid="lab-trend" />
      {second !== undefined && <figcaption className={styles.soft}>{t("record.vitals.lines")}</figcaption>}
      {second === undefined && range !== null && (
        <figcaption className={styles.soft}>
          {t("record.labs.rangeNote", { range: `${range.text} ${series.latest?.unit ?? ""}` })}
        </figcaption>
      )}
    </figure>
  );
}

/** Build the chart in `element`, follow its width, and give back how to remove it. */
export function mountTrend(element: HTMLElement, series: LabSeries, second?: LabSeries): () => void {
  const size = () => ({ width: element.clientWidth, height: element.clientHeight });
  const plot = new UPlot({ ...size(), ...optionsFor(element, series, second) }, drawnTogether(series, second), element);
  const observer = new ResizeObserver(() => plot.setSize(size()));
  observer.observe(element);
  return () => {
    observer.disconnect();
    plot.destroy();
  };
}

/** Both series over one time axis; a line goes on over moments that only the other has. */
export function drawnTogether(series: LabSeries, second?: LabSeries): UPlot.AlignedData {
  const columns = ({ drawn }: LabSeries): [number[], number[]] => [
    drawn.map((point) => point.ms / 1000),
    drawn.map((point) => point.value),
  ];
  return second === undefined ? columns(series) : UPlot.join([columns(series), columns(second)]);
}

function optionsFor(
  element: HTMLElement,
  series: LabSeries,
  second?: LabSeries,
): Omit<UPlot.Options, "width" | "height"> {
  const css = getComputedStyle(element);
  const colour = (name: string): string => css.getPropertyValue(name).trim();
  const em = Number.parseFloat(css.fontSize) || 15;
  const font = `${Math.round(em * 0.82)}px ${css.fontFamily}`;
  const axis = {
    font,
    stroke: colour("--c-soft"),
    grid: { stroke: colour("--c-line"), width: 1 },
    ticks: { stroke: colour("--c-line"), width: 1 },
  };
  const range = series.latest?.range ?? null;
  const width = Math.max(2, em / 8);
  const points = { show: true, size: em * 0.55, fill: colour("--c-surface"), stroke: colour("--c-accent"), width };
  const line = { stroke: colour("--c-accent"), width, points, spanGaps: true };
  return {
    legend: { show: false },
    cursor: { show: false },
    padding: [em * 0.8, em * 1.2, 0, 0],
    scales: { x: { time: true }, y: { range: (_, low, high) => paddedRange(low, high, range) } },
    axes: [
      { ...axis, size: em * 2.2, space: em * 7, values: (_, ticks) => tickTexts(ticks) },
      { ...axis, size: em * 4.2, space: em * 2.4 },
    ],
    series: [{}, line, ...(second === undefined ? [] : [{ ...line, dash: [em * 0.5, em * 0.35] }])],
    hooks: { drawClear: [(plot) => drawBand(plot, range, colour("--c-band"))] },
  };
}

/** Days, in full; the time of day too where several marks are of one day. */
export function tickTexts(ticks: readonly number[]): string[] {
  const days = ticks.map((seconds) => new Date(seconds * 1000).toLocaleDateString("sv"));
  if (new Set(days).size === days.length) return days;
  return ticks.map((seconds) => minuteText(seconds * 1000).slice(5));
}

/** Room for the values and for the nearer edge of the range, with a tenth to spare. */
export function paddedRange(low: number | null, high: number | null, range: Range | null): [number, number] {
  const edges = [low, high, range?.low ?? null, range?.high ?? null].filter((value) => value !== null);
  if (edges.length === 0) return [0, 1];
  const [bottom, top] = [Math.min(...edges), Math.max(...edges)];
  const room = (top - bottom || Math.abs(top) || 1) * 0.1;
  // A quantity that is never negative must not seem to be so.
  return [bottom >= 0 ? Math.max(0, bottom - room) : bottom - room, top + room];
}

function drawBand(plot: UPlot, range: Range | null, fill: string): void {
  if (range === null) return;
  const { left, top, width, height } = plot.bbox;
  const clamp = (value: number): number => Math.min(top + height, Math.max(top, value));
  const upper = range.high === null ? top : clamp(plot.valToPos(range.high, "y", true));
  const lower = range.low === null ? top + height : clamp(plot.valToPos(range.low, "y", true));
  plot.ctx.save();
  plot.ctx.fillStyle = fill;
  plot.ctx.fillRect(left, upper, width, Math.max(0, lower - upper));
  plot.ctx.restore();
}
