/**
 * The trace layer: ECG paper and a sweep that redraws only what is new.
 *
 * The grid is painted once into its own canvas; each tick copies a slice of it over the
 * columns just ahead of the pen and strokes the new samples in one path. A full repaint
 * happens on resize, gain, speed, layout and after a jump. Each sample is a vertex of
 * the line, so a one-sample spike keeps its height (W10); a line only ever leads from a
 * sample to the next of the same signal (W2), and where nothing was received the paper
 * is hatched over exactly that width.
 */

import { columnOf, type Page, type Row, type Segment, xOfColumn } from "./geometry";
import { Cell, drawable, type LeadBuffer } from "./leadBuffer";
import type { Palette } from "./palette";

export type Context2d = OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D;

/** Part of the sweep kept blank ahead of the pen. */
const ERASE_SHARE = 0.025;
const DASH_PX = 9;

export class Sweep {
  /** Samples stroked as the pen passed them, over all leads. */
  samplesDrawn = 0;
  private page: Page | null = null;
  private palette: Palette | null = null;
  private grid: OffscreenCanvas | HTMLCanvasElement | null = null;
  private hatch: CanvasPattern | null = null;
  private drawnTo: number | null = null;

  constructor(
    private readonly context: Context2d,
    private readonly buffer: LeadBuffer,
    private readonly nvPerStep: number,
  ) {}

  /** Position after the newest one drawn; null while nothing is. */
  get pen(): number | null {
    return this.drawnTo;
  }

  /** Take a new page: paper is made anew, and what was drawn is drawn again. */
  configure(page: Page, palette: Palette): void {
    this.page = page;
    this.palette = palette;
    this.grid = paintGrid(page, palette);
    this.hatch = makeHatch(this.context, palette, page.unit);
    this.repaint();
  }

  /** Nothing but paper. */
  clear(): void {
    this.drawnTo = null;
    this.repaint();
  }

  /** Nothing at all, not even paper. */
  blank(): void {
    this.drawnTo = null;
    if (this.page === null || this.palette === null) return;
    this.context.fillStyle = this.palette.band;
    this.context.fillRect(0, 0, this.page.width, this.page.height);
  }

  /** Move the pen forward; a jump repaints from the buffer. */
  advance(to: number): void {
    const { page } = this;
    if (page === null || (this.drawnTo !== null && to <= this.drawnTo)) return;
    const from = this.drawnTo;
    this.drawnTo = to;
    if (from === null || to - from > page.sweepSamples / 2) {
      this.repaint();
      return;
    }
    this.erase(page, from + this.bar(page), to + this.bar(page));
    this.samplesDrawn += this.stroke(page, from, to);
  }

  /** Put the pen somewhere, forward or back, and paint what belongs on screen. */
  jump(to: number): void {
    this.drawnTo = to;
    this.repaint();
  }

  /** Draw again what was filled in late, if it is on screen. */
  redraw(from: number, to: number): void {
    const { page, drawnTo } = this;
    if (page === null || drawnTo === null) return;
    const start = Math.max(from, this.oldest(page, drawnTo));
    const stop = Math.min(to, drawnTo);
    for (const [a, b] of withinSweeps(page, start, stop)) this.patch(page, a, b);
  }

  /** Holes now on screen: blank runs between received samples. */
  gapsOnScreen(): number {
    const { page, drawnTo, buffer } = this;
    if (page === null || drawnTo === null || buffer.empty) return 0;
    let gaps = 0;
    let inGap = true;
    const stop = Math.min(drawnTo, buffer.end);
    for (let p = Math.max(this.oldest(page, drawnTo), buffer.begin); p < stop; p += 1) {
      const received = buffer.received(p);
      if (!received && !inGap) gaps += 1;
      inGap = !received;
    }
    return gaps;
  }

  private repaint(): void {
    const { page, grid, drawnTo } = this;
    if (page === null || grid === null) return;
    this.context.drawImage(grid, 0, 0);
    if (drawnTo !== null) this.stroke(page, this.oldest(page, drawnTo), drawnTo);
  }

  private bar(page: Page): number {
    return Math.ceil(page.sweepSamples * ERASE_SHARE);
  }

  private oldest(page: Page, drawnTo: number): number {
    return drawnTo - page.sweepSamples + this.bar(page);
  }

  private erase(page: Page, from: number, to: number): void {
    for (const [a, b] of withinSweeps(page, from, to)) {
      const column = columnOf(page, a);
      const last = column + (b - a) >= page.sweepSamples;
      const left = column === 0 ? page.sweepX - Math.ceil(page.lineWidth) : Math.floor(xOfColumn(page, column));
      const right = last ? page.width : Math.floor(xOfColumn(page, column + (b - a)));
      this.copyPaper(left, right);
    }
  }

  private copyPaper(left: number, right: number): void {
    if (this.page === null || this.grid === null || right <= left) return;
    const { height } = this.page;
    this.context.drawImage(this.grid, left, 0, right - left, height, left, 0, right - left, height);
  }

  /** Redraw [from, to), which lies within one sweep, without touching its neighbours' columns. */
  private patch(page: Page, from: number, to: number): void {
    const margin = page.lineWidth + 1;
    const left = Math.floor(xOfColumn(page, columnOf(page, from) - 1) - margin);
    const right = Math.ceil(xOfColumn(page, columnOf(page, to - 1) + 1) + margin);
    const extra = Math.ceil((2 * margin) / page.pxPerSample) + 2;
    this.context.save();
    this.context.beginPath();
    this.context.rect(left, 0, right - left, page.height);
    this.context.clip();
    this.copyPaper(left, right);
    const start = from - Math.min(extra, columnOf(page, from));
    const stop = Math.min(to + extra, this.drawnTo ?? to, to - 1 - columnOf(page, to - 1) + page.sweepSamples);
    this.stroke(page, start, stop);
    this.context.restore();
  }

  /** Draw [from, to); answers how many samples that were. */
  private stroke(page: Page, from: number, to: number): number {
    const { context, palette } = this;
    if (palette === null) return 0;
    this.hatchGaps(page, from, to);
    context.lineWidth = page.lineWidth;
    context.lineJoin = "round";
    context.lineCap = "butt";
    let drawn = 0;
    for (const [kind, colour] of [
      [Cell.valid, palette.trace],
      [Cell.saturated, palette.saturated],
    ] as const) {
      context.beginPath();
      for (const row of page.rows) {
        for (const segment of row.segments) drawn += this.trace(page, row, segment, kind, from, to);
      }
      context.strokeStyle = colour;
      context.stroke();
    }
    this.marks(page, palette, from, to);
    return drawn;
  }

  private trace(page: Page, row: Row, segment: Segment, kind: number, from: number, to: number): number {
    const { context, buffer } = this;
    const { lead } = segment;
    if (lead === null) return 0;
    const scale = (this.nvPerStep / 1e6) * page.pxPerMv;
    let drawn = 0;
    let penAt: number | null = null;
    for (const p of positionsIn(page, segment, from, to)) {
      if (buffer.cell(lead, p) !== kind) continue;
      const column = columnOf(page, p);
      const x = xOfColumn(page, column);
      const y = row.baseline - buffer.value(lead, p) * scale;
      if (column > segment.from && buffer.joined(lead, p)) {
        if (penAt !== p - 1) context.moveTo(x - page.pxPerSample, row.baseline - buffer.value(lead, p - 1) * scale);
        context.lineTo(x, y);
      } else if (!drawable(buffer.cell(lead, p + 1)) || !buffer.joined(lead, p + 1)) {
        // A sample without neighbours: a dot, no wider than its own place.
        context.moveTo(x - page.lineWidth / 2, y);
        context.lineTo(x + page.lineWidth / 2, y);
      } else {
        context.moveTo(x, y);
      }
      penAt = p;
      drawn += 1;
    }
    return drawn;
  }

  private hatchGaps(page: Page, from: number, to: number): void {
    const { buffer, hatch, context } = this;
    if (hatch === null || buffer.empty) return;
    context.fillStyle = hatch;
    let start: number | null = null;
    const flush = (x: number): void => {
      if (start !== null && x > start) {
        context.fillRect(start, page.bandTop, x - start, page.height - page.bandTop - page.bandBottom);
      }
      start = null;
    };
    for (let p = Math.max(from, buffer.begin + 1); p < to; p += 1) {
      const column = columnOf(page, p);
      const right = Math.round(xOfColumn(page, column));
      if (column === 0) flush(Math.round(xOfColumn(page, page.sweepSamples)));
      const open = !buffer.received(p) || !buffer.received(p - 1);
      if (open && start === null) start = Math.round(xOfColumn(page, Math.max(0, column - 1)));
      if (!open) flush(Math.round(xOfColumn(page, Math.max(0, column - 1))));
      if (p === to - 1) flush(right);
    }
  }

  /** Lead-off dashes, pacemaker pulses and beginnings of sessions: drawn as what they are (W5, W6). */
  private marks(page: Page, palette: Palette, from: number, to: number): void {
    const { context, buffer } = this;
    context.fillStyle = palette.session;
    const height = 1.5 * page.lineWidth;
    for (const row of page.rows) {
      for (const segment of row.segments) {
        const { lead } = segment;
        if (lead === null) continue;
        for (const p of positionsIn(page, segment, from, to)) {
          if (buffer.cell(lead, p) !== Cell.leadOff) continue;
          const x = xOfColumn(page, columnOf(page, p));
          if (Math.floor(x / (DASH_PX * page.unit)) % 2 === 0) {
            context.fillRect(x, row.baseline - height / 2, Math.max(1, page.pxPerSample), height);
          }
        }
      }
    }
    for (let p = from; p < to; p += 1) {
      const x = Math.round(xOfColumn(page, columnOf(page, p)));
      if (buffer.startsSession(p) && p > buffer.begin) this.verticalMark(page, x, palette.session, 3);
      if (buffer.paced(p)) this.verticalMark(page, x, palette.pace, 5);
    }
  }

  /** A short tick above every row. */
  private verticalMark(page: Page, x: number, colour: string, lengthMm: number): void {
    this.context.fillStyle = colour;
    for (const row of page.rows) {
      this.context.fillRect(x, row.top, Math.max(1, Math.round(page.unit)), lengthMm * page.pxPerMmY);
    }
  }
}

function* positionsIn(page: Page, segment: Segment, from: number, to: number): Generator<number> {
  for (const [a, b] of withinSweeps(page, from, to)) {
    const start = a - columnOf(page, a);
    const stop = Math.min(b, start + segment.to);
    for (let p = Math.max(a, start + segment.from); p < stop; p += 1) yield p;
  }
}

/** [from, to) cut where the sweep begins anew. */
function withinSweeps(page: Page, from: number, to: number): [number, number][] {
  const parts: [number, number][] = [];
  let a = from;
  while (a < to) {
    const b = Math.min(to, a - columnOf(page, a) + page.sweepSamples);
    parts.push([a, b]);
    a = b;
  }
  return parts;
}

/** A canvas that is not in the page. */
export function makeCanvas(width: number, height: number): OffscreenCanvas | HTMLCanvasElement {
  if (typeof OffscreenCanvas !== "undefined") return new OffscreenCanvas(Math.max(1, width), Math.max(1, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, width);
  canvas.height = Math.max(1, height);
  return canvas;
}

/** A 2d context, or an error: without one there is no display at all. */
export function context2d(
  canvas: OffscreenCanvas | HTMLCanvasElement,
  options?: CanvasRenderingContext2DSettings,
): Context2d {
  const context = canvas.getContext("2d", options) as Context2d | null;
  if (context === null) throw new Error("no 2d context");
  return context;
}

function paintGrid(page: Page, palette: Palette): OffscreenCanvas | HTMLCanvasElement {
  const canvas = makeCanvas(page.width, page.height);
  const context = context2d(canvas, { alpha: false });
  context.fillStyle = palette.paper;
  context.fillRect(0, 0, page.width, page.height);
  // Millimetre lines closer than 3 px would be a grey wash: only the 5 mm grid remains.
  if (page.pxPerMmX >= 3 && page.pxPerMmY >= 3) lines(context, page, 1, palette.gridFine, 1);
  lines(context, page, 5, palette.gridBold, Math.max(1, Math.round(page.unit * 0.9)));
  for (const row of page.rows) calibrationMark(context, page, row.baseline, palette.trace);
  return canvas;
}

/** Grid lines every `stepMm`, each snapped to whole pixels on its own so that errors never add up. */
function lines(context: Context2d, page: Page, stepMm: number, colour: string, width: number): void {
  context.fillStyle = colour;
  const originY = page.rows[0]?.baseline ?? 0;
  const firstX = -Math.floor(page.sweepX / page.pxPerMmX / stepMm);
  for (let i = firstX; ; i += 1) {
    const x = Math.round(page.sweepX + i * stepMm * page.pxPerMmX - width / 2);
    if (x >= page.width) break;
    context.fillRect(x, 0, width, page.height);
  }
  for (let i = -Math.floor(originY / page.pxPerMmY / stepMm); ; i += 1) {
    const y = Math.round(originY + i * stepMm * page.pxPerMmY - width / 2);
    if (y >= page.height) break;
    context.fillRect(0, y, page.width, width);
  }
}

/** 1 mV for 200 ms, before the sweep. [W28] */
function calibrationMark(context: Context2d, page: Page, baseline: number, colour: string): void {
  const margin = 2 * page.pxPerMmX;
  const left = margin;
  const right = page.sweepX - margin;
  context.beginPath();
  context.moveTo(left - 0.75 * margin, baseline);
  context.lineTo(left, baseline);
  context.lineTo(left, baseline - page.pxPerMv);
  context.lineTo(right, baseline - page.pxPerMv);
  context.lineTo(right, baseline);
  context.lineTo(right + 0.5 * margin, baseline);
  context.strokeStyle = colour;
  context.lineWidth = page.lineWidth;
  context.lineJoin = "miter";
  context.stroke();
}

function makeHatch(context: Context2d, palette: Palette, unit: number): CanvasPattern | null {
  const size = Math.max(6, Math.round(7 * unit));
  const tile = makeCanvas(size, size);
  const pen = context2d(tile);
  pen.strokeStyle = palette.hatch;
  pen.lineWidth = Math.max(1, unit);
  for (const shift of [-size, 0, size]) {
    pen.beginPath();
    pen.moveTo(shift, size);
    pen.lineTo(shift + size, 0);
    pen.stroke();
  }
  return context.createPattern(tile, "repeat");
}
