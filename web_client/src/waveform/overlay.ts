/**
 * The text layer: state and age, what the scales are, lead names, and the safety texts.
 *
 * It is painted by the same thread as the trace, above it and opaque to nothing but
 * itself, and only when something on it changed. SIMULATED and the use warning are part
 * of the picture, so no style sheet and no window can take them away (W9, W15).
 */

import type { WaveformStream } from "../protocol/messages";
import { type Page, type PageRequest, type Row, type Segment, xOfColumn } from "./geometry";
import { type EcgTheme, PALETTES, type Palette } from "./palette";
import type { EcgState } from "./state";
import type { Context2d } from "./sweep";
import { type EcgLanguage, type EcgWords, WORDS } from "./words";

const FONT = 'system-ui, -apple-system, "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif';
/** A shape for each state: colour is never the only cue (W12). */
const SIGNS: Readonly<Record<EcgState, string>> = { LIVE: "●", DELAYED: "▲", STALE: "■", LOST: "✕" };

/** A clock that may be wrong by more than this is named (W11). */
const DOUBTFUL_MS = 200;

/** What is known at this moment; the layer is painted anew when any of it changes. */
export interface OverlayModel {
  readonly state: EcgState;
  readonly ageMs: number | null;
  readonly lostMs: number | null;
  readonly sync: "in_sync" | "waiting" | "not_in_sync";
  readonly hasClock: boolean;
  readonly clockErrorMs: number | null;
  /** The source says that it does not know server time well. */
  readonly clockUnsynced: boolean;
  readonly leadOffMask: number;
}

export interface OverlayStyle {
  readonly page: Page;
  readonly request: PageRequest;
  readonly stream: WaveformStream;
  readonly language: EcgLanguage;
  readonly theme: EcgTheme;
}

export function paintOverlay(context: Context2d, style: OverlayStyle, model: OverlayModel): void {
  const painter = new Painter(context, style);
  context.clearRect(0, 0, style.page.width, style.page.height);
  if (model.sync === "not_in_sync") {
    painter.notInSync();
  } else {
    painter.leads(model.leadOffMask);
    painter.liveness(model);
  }
  painter.topBand(model);
  painter.bottomBand();
}

class Painter {
  private readonly palette: Palette;
  private readonly words: EcgWords;
  private readonly page: Page;

  constructor(
    private readonly context: Context2d,
    private readonly style: OverlayStyle,
  ) {
    this.palette = PALETTES[style.theme];
    this.words = WORDS[style.language];
    this.page = style.page;
    context.textBaseline = "middle";
    context.textAlign = "left";
  }

  notInSync(): void {
    this.context.fillStyle = this.palette.band;
    this.context.fillRect(0, 0, this.page.width, this.page.height);
    this.centred(this.words.notInSync, this.size(44, 64), this.palette.cross);
  }

  private watermark(): void {
    if (!this.style.stream.simulated) return;
    const { page, context } = this;
    const height = page.height - page.bandTop - page.bandBottom;
    const size = Math.min(page.width / 9, height / 4);
    this.font(size, 800);
    context.fillStyle = this.palette.watermark;
    context.textAlign = "center";
    const lines = page.narrow ? [0.2, 0.5, 0.8] : [0.27, 0.73];
    for (const share of lines) context.fillText(this.words.simulated, page.width / 2, page.bandTop + height * share);
    context.textAlign = "left";
  }

  leads(leadOffMask: number): void {
    for (const row of this.page.rows) {
      for (const segment of row.segments) this.lead(row, segment, leadOffMask);
    }
  }

  liveness({ state, sync, hasClock, lostMs }: OverlayModel): void {
    const { page, context, palette } = this;
    const bottom = page.height - page.bandBottom;
    if (state === "STALE" || state === "LOST") {
      context.fillStyle = palette.wash;
      context.fillRect(0, page.bandTop, page.width, bottom - page.bandTop);
    }
    // Above the grey: a stale simulated trace is no less simulated.
    this.watermark();
    if (state !== "LOST") return;
    if (sync === "waiting" || !hasClock) {
      this.centred(sync === "waiting" ? this.words.waiting : this.words.noClock, this.size(26, 44), palette.text);
      return;
    }
    context.strokeStyle = palette.cross;
    context.lineWidth = 3 * page.unit;
    context.beginPath();
    context.moveTo(0, page.bandTop);
    context.lineTo(page.width, bottom);
    context.moveTo(page.width, page.bandTop);
    context.lineTo(0, bottom);
    context.stroke();
    const since = lostMs === null ? "" : ` ${clockText(lostMs)}`;
    this.centred(`${this.words.states.LOST}${since}`, this.size(34, 56), palette.cross, this.words.frozen);
  }

  topBand(model: OverlayModel): void {
    const { page, context, palette } = this;
    context.fillStyle = palette.band;
    context.fillRect(0, 0, page.width, page.bandTop);
    const lines = page.narrow ? 2 : 1;
    const y = page.bandTop / (2 * lines);
    let x = this.pad(1);
    if (model.sync === "not_in_sync") x = this.pill(x, y, `✕ ${this.words.notInSync}`, palette.state.LOST);
    else x = this.pill(x, y, this.stateText(model), palette.state[model.state]);
    const free = this.simulatedBadge(x + this.pad(1), y);
    this.scales(model, free, lines === 1 ? y : 3 * y, lines === 1);
  }

  bottomBand(): void {
    const { page, context, palette } = this;
    const top = page.height - page.bandBottom;
    context.fillStyle = palette.band;
    context.fillRect(0, top, page.width, page.bandBottom);
    const room = page.width - this.pad(2);
    let size = this.size(13, 28);
    this.font(size, 600);
    let lines = this.wrap(this.words.warning, room);
    while (lines.length * size * 1.3 > page.bandBottom && size > 8 * page.unit) {
      size *= 0.93;
      this.font(size, 600);
      lines = this.wrap(this.words.warning, room);
    }
    context.fillStyle = palette.text;
    context.textAlign = "center";
    lines.forEach((line, i) => {
      const y = top + page.bandBottom / 2 + (i - (lines.length - 1) / 2) * size * 1.25;
      context.fillText(line, page.width / 2, y);
    });
    context.textAlign = "left";
  }

  private lead(row: Row, segment: Segment, leadOffMask: number): void {
    const { page, context, palette, words } = this;
    const off = segment.lead !== null && ((leadOffMask >> segment.lead) & 1) === 1;
    const note = segment.lead === null ? ` ${words.notSent}` : off ? ` ${words.leadOff}` : "";
    const size = Math.min(this.size(15, 34), (row.bottom - row.top) * 0.42);
    this.font(size, 700);
    const x = xOfColumn(page, segment.from) + 0.35 * size;
    const y = row.top + 0.75 * size;
    // A halo and no box: the trace under the name must stay readable.
    context.strokeStyle = palette.labelBack;
    context.lineWidth = 0.22 * size;
    context.lineJoin = "round";
    context.strokeText(segment.name + note, x, y);
    context.fillStyle = palette.label;
    context.fillText(segment.name, x, y);
    if (note === "") return;
    context.fillStyle = off ? palette.cross : palette.soft;
    context.fillText(note, x + context.measureText(segment.name).width, y);
  }

  /** An age by a doubtful clock carries a question mark; what is wrong with the clock stands beside the scales (W11). */
  private stateText({ state, ageMs, clockUnsynced, clockErrorMs }: OverlayModel): string {
    const name = `${SIGNS[state]} ${this.words.states[state]}`;
    if (ageMs === null || state === "LOST") return name;
    const age = state === "LIVE" ? (ageMs / 1000).toFixed(1) : Math.floor(ageMs / 1000);
    const doubt = clockUnsynced || (clockErrorMs ?? 0) > DOUBTFUL_MS ? " ?" : "";
    return `${name} ${age} ${this.words.seconds}${doubt}`;
  }

  private simulatedBadge(x: number, y: number): number {
    if (!this.style.stream.simulated) return x;
    return this.pill(x, y, this.words.simulated, this.palette.simulated) + this.pad(1);
  }

  /** Speed, gain, bandwidth, rate, device: at the right, or on the second line where it is narrow. */
  private scales(model: OverlayModel, from: number, y: number, right: boolean): void {
    const { page, context, palette } = this;
    const left = right ? from : this.pad(1);
    const room = page.width - left - this.pad(1);
    const texts = this.scaleTexts(model);
    let size = this.size(14, 28);
    this.font(size, 600);
    while (context.measureText(texts.join("  ·  ")).width > room && (texts.length > 4 || size > 9 * page.unit)) {
      if (texts.length > 4) texts.pop();
      else size *= 0.95;
      this.font(size, 600);
    }
    const text = texts.join("  ·  ");
    context.fillStyle = palette.text;
    context.fillText(text, right ? page.width - this.pad(1) - context.measureText(text).width : left, y);
  }

  /** Most important first: where there is no room the last ones go, never the first four. A doubtful clock (W11) comes right after them. */
  private scaleTexts(model: OverlayModel): string[] {
    const { words, page } = this;
    const { request, stream } = this.style;
    const { calibrated } = request.surface.calibration;
    const far = page.zoom === 1 ? "" : ` ×${page.zoom}`;
    const speed = calibrated ? `${request.speedMmS} mm/s` : `${request.speedMmS} mm/s ${words.equivalent}`;
    const texts = [
      `${speed}${far}`,
      `${request.gainMmMv} mm/mV${far}`,
      stream.filter === "" ? words.filterUnknown : stream.filter,
    ];
    texts.push(calibrated ? `${trimmed(stream.sample_rate_mhz)} Hz` : words.notToScale);
    if (model.clockUnsynced) texts.push(words.clockUnsynced);
    if (model.clockErrorMs !== null && model.clockErrorMs > DOUBTFUL_MS) {
      texts.push(`${words.clock}${Math.round(model.clockErrorMs)} ms`);
    }
    if (!calibrated) texts.push(`${trimmed(stream.sample_rate_mhz)} Hz`);
    texts.push(stream.device);
    return texts;
  }

  private pill(x: number, y: number, text: string, [back, ink]: readonly [string, string]): number {
    const { context } = this;
    const size = this.size(16, 36);
    this.font(size, 800);
    const width = context.measureText(text).width + 1.1 * size;
    context.fillStyle = back;
    roundRect(context, x, y - 0.8 * size, width, 1.6 * size, 0.3 * size);
    context.fillStyle = ink;
    context.fillText(text, x + 0.55 * size, y);
    return x + width;
  }

  private centred(text: string, size: number, colour: string, below = ""): void {
    const { page, context, palette } = this;
    this.font(size, 800);
    const fitted = size * Math.min(1, (page.width - this.pad(6)) / context.measureText(text).width);
    this.font(fitted, 800);
    const width = context.measureText(text).width + fitted;
    const height = fitted * (below === "" ? 1.7 : 2.4);
    const y = (page.bandTop + page.height - page.bandBottom) / 2;
    context.fillStyle = palette.band;
    roundRect(context, (page.width - width) / 2, y - height / 2, width, height, 0.25 * fitted);
    context.fillStyle = colour;
    context.textAlign = "center";
    context.fillText(text, page.width / 2, below === "" ? y : y - 0.35 * fitted);
    this.font(0.46 * fitted, 600);
    context.fillStyle = palette.text;
    context.fillText(below, page.width / 2, y + 0.65 * fitted);
    context.textAlign = "left";
  }

  /** Words where there are spaces, characters where there are none (Chinese). */
  private wrap(text: string, room: number): string[] {
    const parts = text.includes(" ") ? text.split(/(?<= )/) : [...text];
    const lines: string[] = [];
    let line = "";
    for (const part of parts) {
      if (line !== "" && this.context.measureText((line + part).trimEnd()).width > room) {
        lines.push(line);
        line = part;
      } else {
        line += part;
      }
    }
    return [...lines, line];
  }

  private font(size: number, weight: number): void {
    this.context.font = `${weight} ${Math.round(size * 10) / 10}px ${FONT}`;
  }

  private size(desk: number, wall: number): number {
    return (this.style.theme === "wall" ? wall : desk) * this.page.unit;
  }

  private pad(times: number): number {
    return times * this.size(10, 22);
  }
}

function roundRect(context: Context2d, x: number, y: number, width: number, height: number, radius: number): void {
  context.beginPath();
  context.roundRect(x, y, width, height, radius);
  context.fill();
}

function clockText(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return `${String(Math.floor(seconds / 60)).padStart(2, "0")}:${String(seconds % 60).padStart(2, "0")}`;
}

function trimmed(milli: number): string {
  return String(Math.round(milli / 10) / 100);
}
