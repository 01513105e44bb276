/** A canvas that remembers what was painted on it, and settings to begin with; used by tests only. */
import type { EcgCanvas } from "./engine";
import type { EcgSettings } from "./settings";

export const SETTINGS: EcgSettings = {
  layout: "auto",
  order: "standard",
  mode: "sweep",
  speedMmS: 25,
  gainMmMv: 10,
  filter: "off",
  notch: 0,
  rhythm: [],
  timing: "live",
  dated: false,
  zoom: null,
  theme: "light",
  language: "en",
};

export interface FakePoint {
  readonly x: number;
  readonly y: number;
}

export interface FakeFill {
  readonly style: unknown;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface FakeStroke {
  readonly style: unknown;
  /** Pieces of line: each begins where the pen was put down. */
  readonly lines: readonly (readonly FakePoint[])[];
}

/** What an engine needs of a canvas where there is no browser. */
export class FakeCanvas extends EventTarget {
  width = 1;
  height = 1;
  /** Every text painted since the last look. */
  words: string[] = [];
  strokes: FakeStroke[] = [];
  fills: FakeFill[] = [];
  /** Copies from canvases: where to and how wide. */
  copies: number[][] = [];
  private lines: FakePoint[][] = [];
  private readonly styles: Record<string, unknown> = {};
  private context: unknown = null;

  forget(): void {
    this.words = [];
    this.strokes = [];
    this.fills = [];
    this.copies = [];
  }

  /** All pieces of line stroked in one style. */
  linesIn(style: unknown): readonly (readonly FakePoint[])[] {
    return this.strokes.filter((stroke) => stroke.style === style).flatMap(({ lines }) => lines);
  }

  getContext(): unknown {
    this.context ??= this.makeContext();
    return this.context;
  }

  private makeContext(): unknown {
    const known: Record<string, unknown> = {
      canvas: this,
      measureText: (text: string) => ({ width: 7 * text.length }),
      fillText: (text: string) => this.words.push(text),
      beginPath: () => {
        this.lines = [];
      },
      moveTo: (x: number, y: number) => this.lines.push([{ x, y }]),
      lineTo: (x: number, y: number) => this.lines.at(-1)?.push({ x, y }),
      stroke: () => this.strokes.push({ style: this.styles.strokeStyle, lines: this.lines }),
      fillRect: (x: number, y: number, width: number, height: number) =>
        this.fills.push({ style: this.styles.fillStyle, x, y, width, height }),
      drawImage: (_from: unknown, ...numbers: number[]) => this.copies.push(numbers),
      createPattern: () => ({ setTransform: () => undefined }),
    };
    return new Proxy(known, {
      get: (target, name) => target[String(name)] ?? (() => undefined),
      set: (_target, name, value) => {
        this.styles[String(name)] = value;
        return true;
      },
    });
  }
}

export const asCanvas = (canvas: FakeCanvas): EcgCanvas => canvas as unknown as EcgCanvas;
