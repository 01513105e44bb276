/** The shape of a trend in a table cell: values in time, the reference range behind them. */
import { useTranslation } from "react-i18next";
import { isOutOfRange, type LabSeries } from "../fhirLabs";
import styles from "../RecordPane.module.css";

const WIDTH = 96;
const HEIGHT = 26;
const EDGE = 4;

export interface Scales {
  x: (ms: number) => number;
  y: (value: number) => number;
}

/** Map the drawn values into the box; a flat series lies in the middle. */
export function scalesOf(drawn: LabSeries["drawn"]): Scales {
  const times = drawn.map((point) => point.ms);
  const values = drawn.map((point) => point.value);
  const [t0, t1] = [Math.min(...times), Math.max(...times)];
  const [v0, v1] = [Math.min(...values), Math.max(...values)];
  const share = (value: number, low: number, high: number): number =>
    high === low ? 0.5 : (value - low) / (high - low);
  return {
    x: (ms) => EDGE + share(ms, t0, t1) * (WIDTH - 2 * EDGE),
    y: (value) => HEIGHT - EDGE - share(value, v0, v1) * (HEIGHT - 2 * EDGE),
  };
}

export function Sparkline({ series }: { series: LabSeries }) {
  const { t } = useTranslation();
  const { drawn, latest } = series;
  const label = t("record.labs.values", { count: series.values.length });
  const last = drawn.at(-1);
  if (drawn.length < 2 || last === undefined) return <span className={styles.soft}>{label}</span>;
  const { x, y } = scalesOf(drawn);
  const range = latest?.range ?? null;
  const clamp = (value: number): number => Math.min(HEIGHT, Math.max(0, value));
  const top = clamp(range?.high == null ? 0 : y(range.high));
  const bottom = clamp(range?.low == null ? HEIGHT : y(range.low));
  return (
    <svg className={styles.spark} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={label}>
      {range !== null && bottom > top && (
        <rect className={styles.sparkBand} x="0" width={WIDTH} y={top} height={bottom - top} />
      )}
      <polyline
        className={styles.sparkLine}
        points={drawn.map((point) => `${x(point.ms).toFixed(1)},${y(point.value).toFixed(1)}`).join(" ")}
      />
      <circle
        className={styles.sparkDot}
        data-out={latest !== null && isOutOfRange(latest.flag)}
        cx={x(last.ms)}
        cy={y(last.value)}
        r="3.2"
      />
    </svg>
  );
}
