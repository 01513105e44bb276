/**
 * A scroll: the newest sample at the right edge, and paper that runs to the left with its trace.
 *
 * The canvas is moved by whole pixels and only the new slice at the right of each column of
 * lanes is painted: at an inner border of a page of several columns the trace goes on as the
 * next column's older lead, so each border gets a slice of its own.
 */

import type { Page } from "./geometry";
import type { Pass } from "./ink";
import { Running, type Sheet } from "./surface";

/**
 * The paper moves by whole pixels, and the whole canvas with it: at usual scales every other frame is smooth
 * enough and half the work. Until then new samples wait, and the age on screen says so.
 */
const MIN_SHIFT_PX = 2;

export class Scroll extends Running {
  advance(to: number): void {
    const { sheet } = this;
    if (sheet === null || (this.drawnTo !== null && to <= this.drawnTo)) return;
    const from = this.drawnTo;
    if (from === null || this.covered) {
      this.drawnTo = to;
      this.repaint();
      return;
    }
    const { page } = sheet;
    const shift = travelled(page, to) - travelled(page, from);
    if (shift < MIN_SHIFT_PX) return;
    this.drawnTo = to;
    if (shift > widthPx(page) / 2) this.repaint();
    else this.shift(sheet, shift, from, to);
  }

  redraw(from: number, to: number): void {
    const { sheet, drawnTo } = this;
    if (sheet === null || drawnTo === null || this.covered) return;
    const { page } = sheet;
    const pass = passAt(page, drawnTo);
    const margin = page.lineWidth + 2 + page.pxPerSample;
    const left = Math.floor(page.sweepX + (from - pass.start) * page.pxPerSample - margin);
    const right = Math.ceil(page.sweepX + (to - pass.start) * page.pxPerSample + margin);
    this.repainting(() => this.slice(sheet, pass, left, right));
  }

  protected oldest(page: Page, drawnTo: number): number {
    return Math.ceil(passAt(page, drawnTo).start);
  }

  protected paintAll(sheet: Sheet, drawnTo: number): void {
    this.slice(sheet, passAt(sheet.page, drawnTo), sheet.page.sweepX, sheet.page.width);
  }

  private shift(sheet: Sheet, by: number, from: number, to: number): void {
    const { page } = sheet;
    const { context } = this;
    const width = page.width - page.sweepX - by;
    context.drawImage(context.canvas, page.sweepX + by, 0, width, page.height, page.sweepX, 0, width, page.height);
    const pass = passAt(page, to);
    const margin = Math.ceil(page.lineWidth + page.pxPerSample) + 1;
    for (const edge of rightEdges(page)) this.slice(sheet, pass, edge - by - margin, edge + margin);
    this.samplesDrawn += this.count(sheet, from, to);
  }

  /** Paint the columns [left, right) of the canvas anew. */
  private slice({ page, paper, ink }: Sheet, pass: Pass, left: number, right: number): void {
    const { signal, context, drawnTo } = this;
    if (signal === null || drawnTo === null) return;
    const from = Math.max(page.sweepX, Math.floor(left));
    const to = Math.min(page.width, Math.ceil(right));
    if (to <= from) return;
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, page.height);
    context.clip();
    paper.copyRunning(context, from, to, page.sweepX - pass.start * page.pxPerSample);
    const extra = Math.ceil((2 * page.lineWidth) / page.pxPerSample) + 2;
    const first = Math.floor(pass.start + (from - page.sweepX) / page.pxPerSample) - extra;
    const last = Math.ceil(pass.start + (to - page.sweepX) / page.pxPerSample) + extra;
    ink.paint(signal, pass, Math.max(first, Math.ceil(pass.start)), Math.min(last, drawnTo), drawnTo);
    context.restore();
    ink.finish();
  }

  /** Samples that came onto the page at the lanes' right edges. */
  private count({ page }: Sheet, from: number, to: number): number {
    const { signal } = this;
    if (signal === null) return 0;
    const lanes = page.rows.reduce((sum, row) => sum + row.segments.filter(({ terms }) => terms.length > 0).length, 0);
    let received = 0;
    for (let p = from; p < to; p += 1) if (signal.buffer.received(p)) received += 1;
    return received * lanes;
  }
}

/** Whole pixels that the paper has run by when the pen is at a place. */
const travelled = (page: Page, pen: number): number => Math.floor(pen * page.pxPerSample);

const widthPx = (page: Page): number => Math.floor(page.sweepSamples * page.pxPerSample);

/** The crossing whose right edge the pen is at. */
function passAt(page: Page, pen: number): Pass {
  return { start: (travelled(page, pen) - widthPx(page)) / page.pxPerSample };
}

/** Where lanes end, device px. */
function rightEdges(page: Page): readonly number[] {
  const ends = page.rows.flatMap((row) => row.segments.map(({ to }) => to));
  return [...new Set(ends)].map((to) => page.sweepX + to * page.pxPerSample);
}
