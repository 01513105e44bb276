/**
 * A sweep: standing paper, and a pen that runs over it and begins anew at the left.
 *
 * Each tick copies a slice of paper over the columns just ahead of the pen and strokes the
 * new samples. A full repaint happens on resize, gain, speed, layout and after a jump.
 */

import { columnOf, type Page, xOfColumn } from "./geometry";
import { Running, type Sheet } from "./surface";

/** Part of the sweep kept blank ahead of the pen. */
const ERASE_SHARE = 0.025;

export class Sweep extends Running {
  advance(to: number): void {
    const { sheet } = this;
    if (sheet === null || (this.drawnTo !== null && to <= this.drawnTo)) return;
    const { page } = sheet;
    const from = this.drawnTo;
    this.drawnTo = to;
    if (this.covered) return;
    if (from === null || to - from > page.sweepSamples / 2) {
      this.repaint();
      return;
    }
    this.erase(sheet, from + bar(page), to + bar(page));
    this.samplesDrawn += this.paint(sheet, from, to);
  }

  redraw(from: number, to: number): void {
    const { sheet, drawnTo } = this;
    if (sheet === null || drawnTo === null || this.covered) return;
    const start = Math.max(from, this.oldest(sheet.page, drawnTo));
    const stop = Math.min(to, drawnTo);
    this.repainting(() => {
      for (const [a, b] of withinSweeps(sheet.page, start, stop)) this.patch(sheet, drawnTo, a, b);
    });
  }

  protected oldest(page: Page, drawnTo: number): number {
    return drawnTo - page.sweepSamples + bar(page);
  }

  protected paintAll(sheet: Sheet, drawnTo: number): void {
    this.paint(sheet, this.oldest(sheet.page, drawnTo), drawnTo);
  }

  private paint({ page, ink }: Sheet, from: number, to: number): number {
    const { signal } = this;
    if (signal === null) return 0;
    let drawn = 0;
    for (const [a, b] of withinSweeps(page, from, to)) {
      drawn += ink.paint(signal, { start: a - columnOf(page, a) }, a, b);
    }
    ink.finish();
    return drawn;
  }

  private erase({ page, paper }: Sheet, from: number, to: number): void {
    for (const [a, b] of withinSweeps(page, from, to)) {
      const column = columnOf(page, a);
      const last = column + (b - a) >= page.sweepSamples;
      const left = column === 0 ? page.sweepX - Math.ceil(page.lineWidth) : Math.floor(xOfColumn(page, column));
      const right = last ? page.width : Math.ceil(xOfColumn(page, column + (b - a)));
      paper.copy(this.context, left, right);
    }
  }

  /** Redraw [from, to), which lies within one sweep, without touching its neighbours' columns. */
  private patch({ page, paper, ink }: Sheet, drawnTo: number, from: number, to: number): void {
    const { signal, context } = this;
    if (signal === null) return;
    const margin = page.lineWidth + 1;
    const left = Math.floor(xOfColumn(page, columnOf(page, from) - 1) - margin);
    const right = Math.ceil(xOfColumn(page, columnOf(page, to - 1) + 1) + margin);
    const extra = Math.ceil((2 * margin) / page.pxPerSample) + 2;
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, page.height);
    context.clip();
    paper.copy(context, left, right);
    const sweepStart = from - columnOf(page, from);
    const start = Math.max(from - extra, sweepStart);
    const stop = Math.min(to + extra, drawnTo, sweepStart + page.sweepSamples);
    ink.paint(signal, { start: sweepStart }, start, stop, drawnTo);
    context.restore();
    ink.finish();
  }
}

const bar = (page: Page): number => Math.ceil(page.sweepSamples * ERASE_SHARE);

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
