/**
 * Lines into the current path; with many samples per pixel, columns of lines.
 *
 * Of the samples in one pixel column the first, the lowest, the highest and the last are
 * kept, in their order: the picture is the same and no spike is lost (W10).
 */

/** What a path is written to. */
export interface PathTarget {
  moveTo(x: number, y: number): void;
  lineTo(x: number, y: number): void;
}

/** Hears each sample that becomes a vertex. */
export type VertexListener = (x: number, y: number) => void;

/** From here on columns are drawn, not samples. */
export const COLUMNS_FROM_SAMPLES_PER_PX = 12;

interface Point {
  readonly x: number;
  readonly y: number;
}

export class PathPen {
  private readonly byColumn: boolean;
  private listener: VertexListener | null = null;
  private column = 0;
  private first: Point | null = null;
  private low: Point | null = null;
  private high: Point | null = null;
  private last: Point | null = null;

  constructor(
    private readonly target: PathTarget,
    samplesPerPx: number,
  ) {
    this.byColumn = samplesPerPx > COLUMNS_FROM_SAMPLES_PER_PX;
  }

  begin(listener: VertexListener | null): void {
    this.listener = listener;
    this.first = null;
  }

  move(x: number, y: number): void {
    this.flush();
    this.target.moveTo(x, y);
    this.listener?.(x, y);
  }

  line(x: number, y: number): void {
    if (!this.byColumn) {
      this.emit({ x, y });
      return;
    }
    const column = Math.floor(x);
    if (this.first === null || column !== this.column) {
      this.flush();
      this.column = column;
    }
    const point = { x, y };
    this.first ??= point;
    if (this.low === null || y > this.low.y) this.low = point;
    if (this.high === null || y < this.high.y) this.high = point;
    this.last = point;
  }

  /** A sample that nothing joins. */
  dot(x: number, y: number, halfWidth: number): void {
    this.flush();
    this.target.moveTo(x - halfWidth, y);
    this.target.lineTo(x + halfWidth, y);
    this.listener?.(x, y);
  }

  end(): void {
    this.flush();
  }

  private flush(): void {
    const { first, low, high, last } = this;
    if (first === null || low === null || high === null || last === null) return;
    const [earlier, later] = low.x <= high.x ? [low, high] : [high, low];
    const inOrder = [first, earlier, later, last];
    inOrder.forEach((point, i) => {
      if (i === 0 || point !== inOrder[i - 1]) this.emit(point);
    });
    this.first = null;
    this.low = null;
    this.high = null;
    this.last = null;
  }

  private emit({ x, y }: Point): void {
    this.target.lineTo(x, y);
    this.listener?.(x, y);
  }
}
