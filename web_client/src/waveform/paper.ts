/** ECG paper: grid, calibration marks and the patterns of what is not signal. */

import type { Page } from "./geometry";
import type { Palette } from "./palette";

export type Context2d = OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D;
type Canvas = OffscreenCanvas | HTMLCanvasElement;

/** A canvas that is not in the page. */
export function makeCanvas(width: number, height: number): Canvas {
  if (typeof OffscreenCanvas !== "undefined") return new OffscreenCanvas(Math.max(1, width), Math.max(1, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, width);
  canvas.height = Math.max(1, height);
  return canvas;
}

/** A 2d context, or an error: without one there is no display at all. */
export function context2d(canvas: Canvas, options?: CanvasRenderingContext2DSettings): Context2d {
  const context = canvas.getContext("2d", options) as Context2d | null;
  if (context === null) throw new Error("no 2d context");
  return context;
}

/** Paper painted once, copied slice by slice: standing under a sweep, or running with the trace. */
export class Paper {
  private readonly standing: Canvas;
  /** Horizontal lines only: the vertical ones of running paper are drawn where they are at the moment. */
  private readonly plain: Canvas;

  constructor(
    private readonly page: Page,
    private readonly palette: Palette,
  ) {
    this.plain = this.blankPaper((context) => this.horizontals(context));
    this.standing = this.blankPaper((context) => {
      context.drawImage(this.plain, 0, 0);
      this.verticals(context, 0, page.width, page.sweepX);
      for (const row of page.rows) calibrationMark(context, page, row.baseline, palette.trace);
    });
  }

  /** Copy the standing paper of [left, right). */
  copy(context: Context2d, left: number, right: number): void {
    copyColumns(context, this.standing, left, right, this.page.height);
  }

  /** Paper of [left, right) whose first bold line is at `originX`, wherever that is. */
  copyRunning(context: Context2d, left: number, right: number, originX: number): void {
    copyColumns(context, this.plain, left, right, this.page.height);
    this.verticals(context, left, right, originX);
  }

  private blankPaper(paint: (context: Context2d) => void): Canvas {
    const canvas = makeCanvas(this.page.width, this.page.height);
    const context = context2d(canvas, { alpha: false });
    context.fillStyle = this.palette.paper;
    context.fillRect(0, 0, this.page.width, this.page.height);
    paint(context);
    return canvas;
  }

  /** Millimetre lines closer than 3 px would be a grey wash: only the 5 mm grid remains. */
  private steps(): readonly (readonly [stepMm: number, colour: string, width: number])[] {
    const { pxPerMmX, pxPerMmY, unit } = this.page;
    const bold = [5, this.palette.gridBold, Math.max(1, Math.round(unit * 0.9))] as const;
    return pxPerMmX >= 3 && pxPerMmY >= 3 ? [[1, this.palette.gridFine, 1], bold] : [bold];
  }

  private horizontals(context: Context2d): void {
    const { page } = this;
    const originY = page.rows[0]?.baseline ?? 0;
    for (const [stepMm, colour, width] of this.steps()) {
      context.fillStyle = colour;
      for (const y of linesIn(0, page.height, originY, stepMm * page.pxPerMmY, width)) {
        context.fillRect(0, y, page.width, width);
      }
    }
  }

  private verticals(context: Context2d, left: number, right: number, originX: number): void {
    const { page } = this;
    for (const [stepMm, colour, width] of this.steps()) {
      context.fillStyle = colour;
      for (const x of linesIn(left, right, originX, stepMm * page.pxPerMmX, width)) {
        const from = Math.max(x, left);
        context.fillRect(from, 0, Math.min(x + width, right) - from, page.height);
      }
    }
  }
}

/** Lines touching [from, to), each snapped to whole pixels on its own so that errors never add up. */
function* linesIn(from: number, to: number, origin: number, step: number, width: number): Generator<number> {
  for (let i = Math.floor((from - origin - width) / step); ; i += 1) {
    const at = Math.round(origin + i * step - width / 2);
    if (at >= to) return;
    if (at + width > from) yield at;
  }
}

function copyColumns(context: Context2d, from: Canvas, left: number, right: number, height: number): void {
  if (right <= left) return;
  context.drawImage(from, left, 0, right - left, height, left, 0, right - left, height);
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

export interface Patterns {
  /** Lost for good. */
  readonly lost: CanvasPattern | null;
  readonly clipped: CanvasPattern | null;
  readonly artefact: CanvasPattern | null;
}

/** Device px after which every pattern repeats. */
export const patternSize = (unit: number): number => Math.max(6, Math.round(7 * unit));

/** Each pattern differs in shape, so that none depends on colour. */
export function makePatterns(context: Context2d, palette: Palette, unit: number): Patterns {
  const size = patternSize(unit);
  const tile = (colour: string, paint: (pen: Context2d) => void): CanvasPattern | null => {
    const canvas = makeCanvas(size, size);
    const pen = context2d(canvas);
    pen.strokeStyle = colour;
    pen.fillStyle = colour;
    pen.lineWidth = Math.max(1, unit);
    paint(pen);
    return context.createPattern(canvas, "repeat");
  };
  const diagonal = (pen: Context2d, rising: boolean): void => {
    for (const shift of [-size, 0, size]) {
      pen.beginPath();
      pen.moveTo(shift, rising ? size : 0);
      pen.lineTo(shift + size, rising ? 0 : size);
      pen.stroke();
    }
  };
  return {
    lost: tile(palette.hatch, (pen) => diagonal(pen, true)),
    clipped: tile(palette.clip, (pen) => {
      diagonal(pen, true);
      diagonal(pen, false);
    }),
    artefact: tile(palette.hatch, (pen) => pen.fillRect(size / 4, size / 4, size / 3, size / 3)),
  };
}
