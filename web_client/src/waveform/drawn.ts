/**
 * Test hook: every sample that was really stroked, read back from where it was put.
 *
 * Exists only in builds made with `CONSILIUM_ECG_TEST_HOOK=1` (Vite's define
 * `__ECG_DRAWN__`); vite.config.ts fails any other build that still contains `MARK`.
 * Each vertex is noted as it goes into a path and counts once that path is stroked. Time
 * and value are computed back from its pixel coordinates by the geometry of the page, so a
 * sample drawn at a wrong place shows up as a wrong sample; nothing is read from the buffer.
 *
 * In the page: `await document.querySelector("[data-testid=ecg]").ecgDrawn()` gives
 * `DrawnSample[]` since the last call, oldest first, at most `LIMIT`. Turn filters off and
 * keep below 12 samples per device pixel: above, only a column's first, lowest, highest and
 * last sample are vertices (W10). A sample may appear several times: as the start of the
 * next piece of line, and again after repaints.
 */

declare const __ECG_DRAWN__: boolean | undefined;

export const isRecording: boolean = typeof __ECG_DRAWN__ !== "undefined" && __ECG_DRAWN__;

export const MARK = "consilium-ecg-drawn-samples";

export interface DrawnSample {
  /** The lead as labelled: "-aVR" where it is turned over. */
  readonly lead: string;
  /** Server time, microseconds. */
  readonly us: number;
  /** Steps as drawn, rounded; of a computed lead to halves. */
  readonly value: number;
  readonly context: number;
  /** A repaint, not the pen. */
  readonly again: boolean;
}

const LIMIT = 2_000_000;

/** Where a vertex stands, in what the page's geometry says of a place. */
export interface Vertex {
  readonly lead: string;
  readonly derived: boolean;
  readonly position: number;
  readonly value: number;
}

export class DrawnRecorder {
  /** Names the hook in a bundle, so that a check finds it. */
  readonly mark = MARK;
  isRepaint = false;
  private pending: Vertex[] = [];
  private drawn: DrawnSample[] = [];

  constructor(
    private readonly timeOf: (position: number) => number,
    private readonly context: () => number,
  ) {}

  vertex(vertex: Vertex): void {
    this.pending.push(vertex);
  }

  /** The path with the vertices so far was stroked. */
  stroked(): void {
    for (const { lead, derived, position, value } of this.pending) {
      const steps = derived ? Math.round(2 * value) / 2 : Math.round(value);
      this.drawn.push({
        lead,
        us: this.timeOf(Math.round(position)),
        value: steps,
        context: this.context(),
        again: this.isRepaint,
      });
    }
    this.pending = [];
    if (this.drawn.length > LIMIT) this.drawn = this.drawn.slice(-LIMIT);
  }

  take(): DrawnSample[] {
    const { drawn } = this;
    this.drawn = [];
    return drawn;
  }
}
