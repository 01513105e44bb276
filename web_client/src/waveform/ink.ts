/**
 * Everything that is drawn on the paper: traces, what stands where there is no signal, and marks.
 *
 * A line only ever leads from a sample to the next of the same signal (W2). Above twelve
 * samples per pixel a column is drawn as its first, lowest, highest and last sample, below
 * that every sample is a vertex: either way a spike of one sample keeps its height (W10).
 * Where nothing was received the paper is grey while it may still come and hatched for
 * good when not; what was sent but is no signal gets a pattern and a word of its own (W6).
 */

import type { DrawnRecorder } from "./drawn";
import type { Page, Row, Segment } from "./geometry";
import { Cell, drawable } from "./leadBuffer";
import type { Palette } from "./palette";
import { type Context2d, makePatterns, type Patterns, patternSize } from "./paper";
import { PathPen } from "./pathPen";
import type { Signal } from "./signal";
import { type EcgWords, FONT } from "./words";

/** One crossing of the page: the place on the axis that stands at the left edge of the strips; may be a fraction. */
export interface Pass {
  readonly start: number;
}

interface Run {
  readonly kind: number;
  readonly from: number;
  to: number;
}

const DASH_PX = 9;
/** Ways to stroke a trace, in the order they are painted. */
const Style = { plain: 1, saturated: 2, settling: 4 } as const;

export class Ink {
  private readonly patterns: Patterns;
  private readonly pen: PathPen;
  /** The run that each lane was in when it was last painted: a long one is not searched for its beginning each time. */
  private readonly runs = new Map<Segment, Run>();
  private readonly labelSize: number;
  private labels: { readonly text: string; readonly x: number; readonly y: number }[] = [];
  private limit = 0;
  private alignedTo: number | null = null;

  constructor(
    private readonly context: Context2d,
    private readonly page: Page,
    private readonly palette: Palette,
    private readonly nvPerStep: number,
    private readonly words: EcgWords,
    private readonly recorder: DrawnRecorder | null,
  ) {
    this.patterns = makePatterns(context, palette, page.unit);
    this.pen = new PathPen(context, 1 / page.pxPerSample);
    this.labelSize = Math.round((page.isWall ? 22 : 11) * page.unit);
  }

  /**
   * Draw places [from, to) of one pass; answers how many samples that were.
   *
   * Words of runs may reach beyond, but not past `limit`, where the pen is: they wait for `finish`,
   * since the caller may have clipped the canvas to the columns of these places.
   */
  paint(signal: Signal, pass: Pass, from: number, to: number, limit = to): number {
    signal.filter?.update();
    this.limit = limit;
    this.align(pass);
    this.gaps(signal, pass, from, to);
    for (const row of this.page.rows) {
      for (const segment of row.segments) this.notSignal(signal, pass, row, segment, from, to);
    }
    const drawn = this.traces(signal, pass, from, to);
    this.marks(signal, pass, from, to);
    return drawn;
  }

  /** Write the words of the runs painted since the last call. */
  finish(): void {
    const { context, palette } = this;
    if (this.labels.length === 0) return;
    context.font = `700 ${this.labelSize}px ${FONT}`;
    context.textBaseline = "middle";
    context.fillStyle = palette.cross;
    // No box behind them: traces of this lane or the next may run there, and nothing of them may be covered.
    for (const { text, x, y } of this.labels) context.fillText(text, x, y);
    this.labels = [];
  }

  /** Patterns lie on the paper: where it runs they run with it. */
  private align(pass: Pass): void {
    const at = Math.round(this.page.sweepX - pass.start * this.page.pxPerSample);
    if (at === this.alignedTo || typeof DOMMatrix === "undefined") return;
    this.alignedTo = at;
    const size = patternSize(this.page.unit);
    const shift = new DOMMatrix().translate(at % size, 0);
    for (const pattern of Object.values(this.patterns)) pattern?.setTransform(shift);
  }

  private x(pass: Pass, position: number): number {
    return this.page.sweepX + (position - pass.start) * this.page.pxPerSample;
  }

  private traces(signal: Signal, pass: Pass, from: number, to: number): number {
    const { context, palette, page } = this;
    context.lineWidth = page.lineWidth;
    context.lineJoin = "round";
    context.lineCap = "butt";
    let drawn = 0;
    let left: number = Style.plain;
    for (const [kind, colour] of [
      [Style.plain, palette.trace],
      [Style.saturated, palette.saturated],
      [Style.settling, palette.settling],
    ] as const) {
      if ((left & kind) === 0) continue;
      context.beginPath();
      for (const row of page.rows) {
        for (const segment of row.segments) {
          if (segment.terms.length === 0) continue;
          const { count, others } = this.trace(signal, pass, row, segment, kind, from, to);
          drawn += count;
          left |= others;
        }
      }
      context.strokeStyle = colour;
      context.stroke();
      this.recorder?.stroked();
    }
    return drawn;
  }

  private trace(
    signal: Signal,
    pass: Pass,
    row: Row,
    segment: Segment,
    kind: number,
    from: number,
    to: number,
  ): { count: number; others: number } {
    const { page, pen } = this;
    const scale = (this.nvPerStep / 1e6) * page.pxPerMv;
    const [first, stop] = placesOf(pass, segment, from, to);
    const laneStart = Math.ceil(pass.start + segment.from);
    const y = (position: number): number => row.baseline - signal.shown(segment, position) * scale;
    const note = (x: number, at: number): void => this.note(pass, row, segment, scale, x, at);
    let count = 0;
    let others = 0;
    let penAt: number | null = null;
    pen.begin(this.recorder === null ? null : note);
    for (let p = first; p < stop; p += 1) {
      const cell = signal.cell(segment, p);
      if (!drawable(cell)) continue;
      const style = styleOf(signal, segment, cell, p);
      if (style !== kind) {
        others |= style;
        continue;
      }
      const x = this.x(pass, p);
      this.offPage(x, y(p));
      if (p > laneStart && signal.joined(segment, p)) {
        if (penAt !== p - 1) pen.move(x - page.pxPerSample, y(p - 1));
        pen.line(x, y(p));
      } else if (!signal.joined(segment, p + 1)) {
        // A sample without neighbours: a dot, no wider than its own place.
        pen.dot(x, y(p), page.lineWidth / 2);
      } else {
        pen.move(x, y(p));
      }
      penAt = p;
      count += 1;
    }
    pen.end();
    return { count, others };
  }

  /** What leaves the paper is pointed at: a spike cut off by the page's edge must not look like its top. */
  private offPage(x: number, y: number): void {
    const { page } = this;
    const bottom = page.height - page.bandBottom;
    if (y >= page.bandTop && y <= bottom) return;
    const last = this.labels.at(-1);
    const isUp = y < page.bandTop;
    const text = isUp ? "▲" : "▼";
    if (last !== undefined && last.text === text && Math.abs(last.x - x) < this.labelSize) return;
    const at = isUp ? page.bandTop + 0.6 * this.labelSize : bottom - 0.6 * this.labelSize;
    this.labels.push({ text, x: x + 0.3 * this.labelSize, y: at });
  }

  /** [test hook] What a vertex says by where it stands. */
  private note(pass: Pass, row: Row, segment: Segment, scale: number, x: number, y: number): void {
    this.recorder?.vertex({
      lead: segment.label,
      derived: segment.derived,
      position: pass.start + (x - this.page.sweepX) / this.page.pxPerSample,
      value: (row.baseline - y) / scale,
    });
  }

  /** Holes in all leads, over exactly the places nothing was received for. */
  private gaps(signal: Signal, pass: Pass, from: number, to: number): void {
    const { buffer } = signal;
    if (buffer.empty) return;
    let start: number | null = null;
    for (let p = Math.max(from, buffer.begin + 1); p < to; p += 1) {
      if (!buffer.received(p)) {
        start ??= p;
        if (p === to - 1) this.gap(signal, pass, start, p);
      } else if (start !== null || !buffer.received(p - 1)) {
        this.gap(signal, pass, start ?? p, p, start === null ? p - 1 : start);
        start = null;
      }
    }
  }

  /** From the place before `from` to `until`, in the pattern of the hole that `inside` belongs to. */
  private gap(signal: Signal, pass: Pass, from: number, until: number, inside = from): void {
    const { context, page, palette, patterns } = this;
    const left = Math.round(Math.max(page.sweepX, this.x(pass, from - 1)));
    const width = Math.round(this.x(pass, until)) - left;
    if (width <= 0) return;
    const whole = signal.gapAround(inside, page.sweepSamples);
    const height = page.height - page.bandTop - page.bandBottom;
    context.fillStyle = palette.recovering;
    context.fillRect(left, page.bandTop, width, height);
    if (signal.gapKind(...whole) === "recovering" || patterns.lost === null) return;
    context.fillStyle = patterns.lost;
    context.fillRect(left, page.bandTop, width, height);
  }

  /** Runs of one lane that are no signal, or signal at the end of its range. */
  private notSignal(signal: Signal, pass: Pass, row: Row, segment: Segment, from: number, to: number): void {
    if (segment.terms.length === 0) return;
    const [first, stop] = placesOf(pass, segment, from, to);
    let p = first;
    while (p < stop) {
      const kind = signal.cell(segment, p);
      let end = p + 1;
      while (end < stop && signal.cell(segment, end) === kind) end += 1;
      if (kind !== Cell.blank && kind !== Cell.valid) this.run(signal, pass, row, segment, kind, p, end);
      p = end;
    }
  }

  private run(signal: Signal, pass: Pass, row: Row, segment: Segment, kind: number, from: number, to: number): void {
    const { context, palette, patterns } = this;
    const left = this.x(pass, from - 0.5);
    const width = this.x(pass, to - 0.5) - left;
    const inset = 0.14 * (row.bottom - row.top);
    const height = row.bottom - row.top - 2 * inset;
    const fill = (style: CanvasPattern | string | null, y = row.top + inset, h = height): void => {
      if (style === null) return;
      context.fillStyle = style;
      context.fillRect(left, y, Math.max(1, width), h);
    };
    if (kind === Cell.leadOff) this.dashes(pass, row, from, to);
    else if (kind === Cell.missing) fill(patterns.lost);
    else if (kind === Cell.clipped) fill(patterns.clipped);
    else if (kind === Cell.saturated) fill(patterns.clipped, row.bottom - inset, 0.5 * inset);
    else if (kind === Cell.calibration) fill(palette.recovering);
    else fill(patterns.artefact);
    this.runLabels(signal, pass, row, segment, kind, from, to);
  }

  /** Never a line at the height of 0 mV alone: dashes with the word beside them (W6). */
  private dashes(pass: Pass, row: Row, from: number, to: number): void {
    const { context, page, palette } = this;
    const height = 1.5 * page.lineWidth;
    context.fillStyle = palette.session;
    for (let p = from; p < to; p += 1) {
      const x = this.x(pass, p);
      if (Math.floor(x / (DASH_PX * page.unit)) % 2 === 0) {
        context.fillRect(x, row.baseline - height / 2, Math.max(1, page.pxPerSample), height);
      }
    }
  }

  /** The reason in words, inside the run and again along it; a short run gets a short word, if that fits. */
  private runLabels(
    signal: Signal,
    pass: Pass,
    row: Row,
    segment: Segment,
    kind: number,
    from: number,
    to: number,
  ): void {
    const start = this.startOfRun(signal, segment, kind, from, to);
    const isOver = signal.buffer.received(to) && signal.cell(segment, to) !== kind;
    let [text, samples] = this.measured(this.words.reasons[kind]);
    const isShort = isOver && to - start < samples;
    if (isShort) [text, samples] = this.measured(this.words.shortReasons[kind]);
    if (text === "") return;
    const laneStart = pass.start + segment.from;
    const laneEnd = pass.start + segment.to;
    const period = Math.round(2.5 * samples);
    // A short word stands for a whole run, whose beginning may long have been painted.
    const after = isShort ? start : from;
    for (let k = Math.max(0, Math.ceil((after + 1 - start - samples) / period)); ; k += 1) {
      const end = start + samples + k * period;
      if (end - samples >= to || end > this.limit || end > laneEnd || !this.runsOn(signal, segment, kind, to, end))
        return;
      if (end - samples < laneStart) continue;
      const x = this.x(pass, end - samples) + 0.5 * this.labelSize;
      this.labels.push({ text, x, y: this.labelY(kind, row) });
    }
  }

  /** A word and how many samples wide it is with some room. */
  private measured(text = ""): [text: string, samples: number] {
    this.context.font = `700 ${this.labelSize}px ${FONT}`;
    return [text, Math.ceil((this.context.measureText(text).width + this.labelSize) / this.page.pxPerSample)];
  }

  private runsOn(signal: Signal, segment: Segment, kind: number, from: number, to: number): boolean {
    for (let p = from; p < to; p += 1) if (signal.cell(segment, p) !== kind) return false;
    return true;
  }

  private labelY(kind: number, row: Row): number {
    if (kind === Cell.leadOff) return row.baseline - 0.95 * this.labelSize;
    return kind === Cell.saturated ? row.bottom - this.labelSize : (row.top + row.bottom) / 2;
  }

  private startOfRun(signal: Signal, segment: Segment, kind: number, from: number, to: number): number {
    const known = this.runs.get(segment);
    if (known !== undefined && known.kind === kind && known.from <= from && from <= known.to) {
      known.to = Math.max(known.to, to);
      return known.from;
    }
    let start = from;
    while (from - start < this.page.sweepSamples && signal.cell(segment, start - 1) === kind) start -= 1;
    this.runs.set(segment, { kind, from: start, to });
    return start;
  }

  /** Pacemaker pulses, beginnings of sessions, settling filters: drawn as what they are (W5, W6). */
  private marks(signal: Signal, pass: Pass, from: number, to: number): void {
    const { buffer } = signal;
    for (let p = from; p < to; p += 1) {
      const x = Math.round(this.x(pass, p));
      if (buffer.startsSession(p) && p > buffer.begin) this.sessionMark(x);
      if (buffer.paced(p)) this.paceMark(x);
    }
    if (signal.filter !== null) this.settling(signal, pass, from, to);
  }

  private paceMark(x: number): void {
    const { page, context, palette } = this;
    context.fillStyle = palette.pace;
    for (const row of page.rows) {
      context.fillRect(x, row.top, Math.max(1, Math.round(page.unit)), 5 * page.pxPerMmY);
    }
  }

  /** Dashed from top to bottom: before and after it are two recordings. */
  private sessionMark(x: number): void {
    const { page, context, palette } = this;
    context.fillStyle = palette.session;
    const dash = Math.round(4 * page.unit);
    const width = Math.max(1, Math.round(page.unit));
    for (let y = page.bandTop; y < page.height - page.bandBottom; y += 2 * dash) context.fillRect(x, y, width, dash);
  }

  /** A dotted line above the lane while its filter has not settled. */
  private settling(signal: Signal, pass: Pass, from: number, to: number): void {
    const { page, context, palette } = this;
    context.fillStyle = palette.session;
    const size = Math.max(1, Math.round(1.5 * page.unit));
    for (const row of page.rows) {
      for (const segment of row.segments) {
        const [first, stop] = placesOf(pass, segment, from, to);
        for (let p = first; p < stop; p += 1) {
          if (!drawable(signal.cell(segment, p)) || !signal.isSettling(segment, p)) continue;
          const x = Math.floor(this.x(pass, p));
          if (Math.floor(x / (3 * size)) % 2 === 0) context.fillRect(x, row.top + size, size, size);
        }
      }
    }
  }
}

function styleOf(signal: Signal, segment: Segment, cell: number, position: number): number {
  if (cell === Cell.saturated) return Style.saturated;
  return signal.isSettling(segment, position) ? Style.settling : Style.plain;
}

/** The places of [from, to) that a lane shows in a pass. */
export function placesOf(pass: Pass, segment: Segment, from: number, to: number): readonly [number, number] {
  return [
    Math.max(from, Math.ceil(pass.start + segment.from)),
    Math.min(to, Math.ceil(pass.start + segment.to)),
  ] as const;
}
