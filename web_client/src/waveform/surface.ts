/** What the sweep and the scroll have in common: a live trace on one canvas, drawn piece by piece. */

import type { DrawnRecorder } from "./drawn";
import type { Page } from "./geometry";
import { Ink } from "./ink";
import type { Palette } from "./palette";
import { type Context2d, context2d, Paper } from "./paper";
import type { Signal } from "./signal";
import type { EcgWords } from "./words";

/** What a page is drawn with; made anew when size, scale, layout, theme or language change. */
export interface Sheet {
  readonly page: Page;
  readonly palette: Palette;
  readonly paper: Paper;
  readonly ink: Ink;
}

export interface SheetStyle {
  readonly palette: Palette;
  readonly words: EcgWords;
  readonly nvPerStep: number;
  readonly recorder: DrawnRecorder | null;
}

export function makeSheet(context: Context2d, page: Page, style: SheetStyle): Sheet {
  const { palette, nvPerStep, words, recorder } = style;
  const paper = new Paper(page, palette);
  return { page, palette, paper, ink: new Ink(context, page, palette, nvPerStep, words, recorder) };
}

export interface LiveSurface {
  /** Samples stroked as the pen passed them, over all lanes. */
  readonly samplesDrawn: number;
  /** Place after the newest one drawn; null while nothing is. */
  readonly pen: number | null;
  /** While true the pen moves on but nothing is painted: a still page lies on the canvas. */
  covered: boolean;
  /** Take a new sheet: what was drawn is drawn again. */
  configure(sheet: Sheet, signal: Signal): void;
  /** The same sheet, other values: a filter was switched. */
  setSignal(signal: Signal): void;
  /** Nothing but paper. */
  clear(): void;
  /** Nothing at all, not even paper. */
  blank(): void;
  /** Move the pen forward; a long way repaints. */
  advance(to: number): void;
  /** Put the pen somewhere, forward or back, and paint what belongs on screen. */
  jump(to: number): void;
  /** Draw again what was filled in late, if it is on screen. */
  redraw(from: number, to: number): void;
  repaint(): void;
  /** The first place on screen and the one after the last; null while nothing is. */
  visible(): readonly [from: number, to: number] | null;
}

/** What sweep and scroll do alike: which sheet and signal they are on, where the pen is, when all is painted anew. */
export abstract class Running implements LiveSurface {
  samplesDrawn = 0;
  covered = false;
  protected sheet: Sheet | null = null;
  protected signal: Signal | null = null;
  protected drawnTo: number | null = null;

  constructor(
    protected readonly context: Context2d,
    private readonly recorder: DrawnRecorder | null = null,
  ) {}

  get pen(): number | null {
    return this.drawnTo;
  }

  configure(sheet: Sheet, signal: Signal): void {
    this.sheet = sheet;
    this.setSignal(signal);
  }

  setSignal(signal: Signal): void {
    this.signal = signal;
    this.repaint();
  }

  clear(): void {
    this.drawnTo = null;
    this.repaint();
  }

  blank(): void {
    this.drawnTo = null;
    if (this.sheet !== null) blankPage(this.context, this.sheet);
  }

  jump(to: number): void {
    this.drawnTo = to;
    this.repaint();
  }

  visible(): readonly [from: number, to: number] | null {
    const { sheet, drawnTo } = this;
    return sheet === null || drawnTo === null ? null : [this.oldest(sheet.page, drawnTo), drawnTo];
  }

  repaint(): void {
    const { sheet, drawnTo } = this;
    if (sheet === null || this.covered) return;
    sheet.paper.copy(this.context, 0, sheet.page.width);
    if (drawnTo !== null) this.repainting(() => this.paintAll(sheet, drawnTo));
  }

  abstract advance(to: number): void;
  abstract redraw(from: number, to: number): void;

  /** The first place on a page at whose end the pen is. */
  protected abstract oldest(page: Page, drawnTo: number): number;
  /** Stroke everything that belongs on fresh paper. */
  protected abstract paintAll(sheet: Sheet, drawnTo: number): void;

  protected repainting(paint: () => void): void {
    if (this.recorder !== null) this.recorder.isRepaint = true;
    paint();
    if (this.recorder !== null) this.recorder.isRepaint = false;
  }
}

/** Cover everything with one colour: nothing of a patient is left. */
export function blankPage(context: Context2d, { page, palette }: Sheet): void {
  context.fillStyle = palette.band;
  context.fillRect(0, 0, page.width, page.height);
}

export { type Context2d, context2d };
