/**
 * The text layer: state and age, what the scales are, lead names, and the safety texts.
 *
 * It is painted by the same thread as the trace, above it and opaque to nothing but
 * itself, and only when something on it changed. SIMULATED and the use warning are part
 * of the picture, so no style sheet and no window can take them away (W9, W15).
 */

import type { WaveformStream } from "../protocol/messages";
import { sourceFilterText, viewFilterText } from "./filterText";
import { type Page, type PageRequest, type Row, type Segment, xOfColumn } from "./geometry";
import { Cell } from "./leadBuffer";
import { type EcgTheme, PALETTES, type Palette } from "./palette";
import type { Context2d } from "./paper";
import type { EcgFilter, EcgNotch } from "./settings";
import type { EcgState } from "./state";
import { type EcgLanguage, type EcgWords, FONT, WORDS } from "./words";

/** A shape for each state: colour is never the only cue (W12). */
const SIGNS: Readonly<Record<EcgState, string>> = { LIVE: "●", DELAYED: "▲", STALE: "■", LOST: "✕" };

/** A clock that may be wrong by more than this is named (W11). */
const DOUBTFUL_MS = 200;

/** What is known at this moment; the layer is painted anew when any of it changes. */
export interface OverlayModel {
  readonly state: EcgState;
  readonly ageMs: number | null;
  readonly lostMs: number | null;
  readonly sync: "in_sync" | "waiting" | "not_in_sync" | "unbound";
  readonly hasClock: boolean;
  readonly clockErrorMs: number | null;
  /** The source says that it does not know server time well. */
  readonly clockUnsynced: boolean;
  readonly leadOffMask: number;
  readonly saturatedMask: number;
  /** Measured limb leads contradict I and II at the moment (W7). */
  readonly limbError: boolean;
  readonly settling: boolean;
  /** A page that stands still lies over the live trace, which goes on. */
  readonly still: StillModel | null;
  /** Server time of the newest sample, printed where asked for. */
  readonly dateUs: number | null;
}

export interface StillModel {
  readonly atUs: number;
  readonly sinceMs: number;
  readonly isLoading: boolean;
}

export interface OverlayStyle {
  readonly page: Page;
  readonly request: PageRequest;
  readonly stream: WaveformStream;
  readonly language: EcgLanguage;
  readonly theme: EcgTheme;
  readonly filter: EcgFilter;
  readonly notch: EcgNotch;
}

export function paintOverlay(context: Context2d, style: OverlayStyle, model: OverlayModel): void {
  const painter = new Painter(context, style);
  context.clearRect(0, 0, style.page.width, style.page.height);
  if (model.sync === "not_in_sync") {
    painter.nothing(painter.words.notInSync);
  } else if (model.sync === "unbound" && model.still === null) {
    painter.nothing(painter.words.unbound);
  } else {
    painter.leads(model);
    if (model.still === null) painter.liveness(model);
    else painter.standing(model.still);
    painter.factor();
  }
  painter.topBand(model);
  painter.bottomBand();
}

/** A recording that is shown by itself: an imported ECG, or a prior one beside the present one. */
export function paintRecordingOverlay(
  context: Context2d,
  style: OverlayStyle,
  recording: { readonly title: string; readonly atUs: number },
): void {
  const painter = new Painter(context, style);
  context.clearRect(0, 0, style.page.width, style.page.height);
  painter.leads(null);
  painter.watermark();
  painter.factor();
  painter.recordingBand(recording.title, recording.atUs);
  painter.bottomBand();
}

/** Speed, gain and truth of scale as printed (W26, W27). */
export function scaleText({ page, request, language }: OverlayStyle): string {
  const words = WORDS[language];
  const far = page.zoom === 1 ? "" : ` ×${page.zoom}`;
  const { calibrated } = request.surface.calibration;
  const speed = calibrated ? `${request.speedMmS} mm/s` : `${request.speedMmS} mm/s ${words.equivalent}`;
  const parts = [`${speed}${far}`, `${request.gainMmMv} mm/mV${far}`];
  return (calibrated ? parts : [...parts, words.notToScale]).join("  ·  ");
}

/** The source's bandwidth and the view's (W29). */
export function filterText({ stream, filter, notch, language }: OverlayStyle): string {
  const words = WORDS[language];
  const view = viewFilterText(stream, filter, notch, words);
  const source = sourceFilterText(stream, words);
  return view === "" ? source : `${source}  ·  ${view}`;
}

/** `2026-11-22 09:05:07` in this computer's time zone: the same in both languages, and sortable by eye. */
export function dateText(us: number): string {
  const at = new Date(us / 1000);
  const two = (n: number): string => String(n).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

type Pill = readonly [text: string, colours: readonly [back: string, ink: string]];

class Painter {
  private readonly palette: Palette;
  readonly words: EcgWords;
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

  /** In place of the trace: why there is none. */
  nothing(why: string): void {
    this.context.fillStyle = this.palette.band;
    this.context.fillRect(0, 0, this.page.width, this.page.height);
    this.centred(why, this.size(44, 64), this.palette.cross);
  }

  watermark(): void {
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

  /** Names and what is wrong with each lead now; of a recording nothing is "now". */
  leads(model: Pick<OverlayModel, "leadOffMask" | "saturatedMask"> | null): void {
    for (const row of this.page.rows) {
      for (const segment of row.segments) this.lead(row, segment, model);
    }
  }

  /** A frame round what does not move, so that it is not taken for the live trace. */
  standing({ isLoading }: StillModel): void {
    const { page, context, palette } = this;
    this.watermark();
    const width = Math.max(2, 3 * page.unit);
    context.strokeStyle = palette.still[0];
    context.lineWidth = width;
    context.strokeRect(
      width / 2,
      page.bandTop + width / 2,
      page.width - width,
      page.height - page.bandTop - page.bandBottom - width,
    );
    if (isLoading) this.centred(this.words.loading, this.size(20, 36), palette.text);
  }

  /** Enlargement in the corner of the strips: 25 mm/s is not 25 mm on this glass (W27). */
  factor(): void {
    const { page, context, palette } = this;
    if (page.zoom === 1) return;
    const size = this.size(15, 30);
    this.font(size, 700);
    const text = `${this.words.farView} ×${page.zoom}`;
    context.fillStyle = palette.soft;
    context.fillText(
      text,
      page.width - this.pad(1) - context.measureText(text).width,
      page.height - page.bandBottom - size,
    );
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
    const { words, palette } = this;
    const pills: Pill[] = [];
    const state: Pill = [this.stateText(model), palette.state[model.state]];
    if (model.sync === "not_in_sync") {
      pills.push([`✕ ${words.notInSync}`, palette.state.LOST]);
    } else if (model.sync === "unbound" && model.still === null) {
      pills.push([`✕ ${words.unbound}`, palette.state.LOST]);
    } else if (model.still === null) {
      pills.push(state);
    } else {
      const live = this.page.narrow ? state[0] : `${words.liveGoesOn} ${state[0]}`;
      pills.push([this.stillText(model.still), palette.still], [live, state[1]]);
    }
    if (model.limbError) pills.push([`! ${words.limbError}`, palette.state.DELAYED]);
    this.band(pills, this.scaleTexts(model));
  }

  recordingBand(title: string, atUs: number): void {
    const { words, palette } = this;
    const name = title === "" ? words.recorded : title;
    this.band([[`${name}  ${dateText(atUs)}`, palette.still]], this.scaleTexts(null));
  }

  /** Pills at the left, the scales at the right; where it is narrow the scales stand below. */
  private band(pills: readonly Pill[], scales: readonly string[]): void {
    const { page, context, palette } = this;
    context.fillStyle = palette.band;
    context.fillRect(0, 0, page.width, page.bandTop);
    const all = this.style.stream.simulated ? [...pills, [this.words.simulated, palette.simulated] as const] : pills;
    const y = page.narrow ? 0.25 * page.bandTop : page.bandTop / 2;
    const share = page.narrow ? 1 : 0.62;
    const end = this.pills(all, y, share * page.width - this.pad(2));
    if (page.narrow) this.scales(scales, this.pad(1), 0.5 * page.bandTop, page.bandTop, false);
    else this.scales(scales, end + this.pad(1), 0, page.bandTop, true);
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

  private lead(row: Row, segment: Segment, model: Pick<OverlayModel, "leadOffMask" | "saturatedMask"> | null): void {
    const { page, palette, words } = this;
    const has = (mask: number): boolean => segment.terms.some(({ lead }) => ((mask >> lead) & 1) === 1);
    const isOff = model !== null && has(model.leadOffMask);
    const isSaturated = model !== null && has(model.saturatedMask);
    const size = Math.min(this.size(15, 34), (row.bottom - row.top) * 0.42);
    const x = xOfColumn(page, segment.from) + 0.35 * size;
    const y = row.top + 0.75 * size;
    if (segment.from > 0) this.columnTick(x - 0.35 * size, row);
    const notes: (readonly [text: string, colour: string])[] = [];
    if (segment.terms.length === 0) notes.push([words.notSent, palette.soft]);
    if (segment.derived) notes.push([words.derived, palette.soft]);
    if (isOff) notes.push([words.leadOff, palette.cross]);
    else if (isSaturated) notes.push([words.reasons[Cell.saturated] ?? "", palette.cross]);
    this.font(size, 700);
    const end = this.haloed(segment.label, x, y, size, palette.label);
    let at = end + 0.3 * size;
    this.font(0.8 * size, 600);
    for (const [text, colour] of notes) at = this.haloed(text, at, y, 0.8 * size, colour) + 0.4 * size;
  }

  /** Where one lead ends and the next begins. */
  private columnTick(x: number, row: Row): void {
    const { context, palette, page } = this;
    const length = Math.min(0.25 * (row.bottom - row.top), this.size(14, 30));
    context.fillStyle = palette.soft;
    context.fillRect(Math.round(x), row.top + 0.1 * length, Math.max(1, Math.round(page.unit)), length);
  }

  /** A faint halo and no box: the trace under the name must stay readable, a spike's top above all. */
  private haloed(text: string, x: number, y: number, size: number, colour: string): number {
    const { context, palette } = this;
    context.strokeStyle = palette.labelBack;
    context.lineWidth = 0.16 * size;
    context.lineJoin = "round";
    context.strokeText(text, x, y);
    context.fillStyle = colour;
    context.fillText(text, x, y);
    return x + context.measureText(text).width;
  }

  private stillText({ atUs, sinceMs }: StillModel): string {
    const at = dateText(atUs);
    // A phone has no room for today's date.
    return `❚❚ ${this.words.still} ${this.page.narrow ? at.slice(-8) : at} (${clockText(sinceMs)})`;
  }

  /** An age by a doubtful clock carries a question mark; what is wrong with the clock stands beside the scales (W11). */
  private stateText({ state, ageMs, clockUnsynced, clockErrorMs }: OverlayModel): string {
    const name = `${SIGNS[state]} ${this.words.states[state]}`;
    if (ageMs === null || state === "LOST") return name;
    const age = state === "LIVE" ? (ageMs / 1000).toFixed(1) : Math.floor(ageMs / 1000);
    const doubt = clockUnsynced || (clockErrorMs ?? 0) > DOUBTFUL_MS ? " ?" : "";
    return `${name} ${age} ${this.words.seconds}${doubt}`;
  }

  /** One beside the other, smaller where there is little room; answers where they end. */
  private pills(pills: readonly Pill[], y: number, room: number): number {
    const { context } = this;
    const full = this.size(16, 36);
    this.font(full, 800);
    const gap = 0.6;
    const wide = pills.reduce((sum, [text]) => sum + context.measureText(text).width + (1.1 + gap) * full, -gap * full);
    const size = full * Math.min(1, room / wide);
    let x = this.pad(1);
    for (const [text, [back, ink]] of pills) {
      this.font(size, 800);
      const width = context.measureText(text).width + 1.1 * size;
      context.fillStyle = back;
      roundRect(context, x, y - 0.8 * size, width, 1.6 * size, 0.3 * size);
      context.fillStyle = ink;
      context.fillText(text, x + 0.55 * size, y);
      x += width + gap * size;
    }
    return x - gap * size;
  }

  /** Speed, gain, bandwidth, rate, device on at most two lines; the last texts go where there is no room. */
  private scales(texts: readonly string[], left: number, top: number, bottom: number, right: boolean): void {
    const { page, context, palette } = this;
    const room = page.width - left - this.pad(1);
    const must = this.mustTexts();
    let kept = [...texts];
    let size = this.size(14, 28);
    const lines = (): string[] => {
      this.font(size, 600);
      return this.fill(kept, room);
    };
    const fits = (made: readonly string[]): boolean => made.length * size * 1.3 <= bottom - top && made.length <= 2;
    let made = lines();
    while (!fits(made) && (kept.length > must || size > 9 * page.unit)) {
      if (size > 0.8 * this.size(14, 28) || kept.length <= must) size *= 0.95;
      else kept = kept.slice(0, -1);
      made = lines();
    }
    context.fillStyle = palette.text;
    made.forEach((line, i) => {
      const y = (top + bottom) / 2 + (i - (made.length - 1) / 2) * size * 1.3;
      context.fillText(line, right ? page.width - this.pad(1) - context.measureText(line).width : left, y);
    });
  }

  /** Texts put together into lines, never cut within one. */
  private fill(texts: readonly string[], room: number): string[] {
    const lines: string[] = [];
    for (const text of texts) {
      const last = lines.at(-1);
      const joined = last === undefined ? text : `${last}  ·  ${text}`;
      if (last !== undefined && this.context.measureText(joined).width <= room) lines[lines.length - 1] = joined;
      else lines.push(text);
    }
    return lines;
  }

  /** How many of the texts are never left out: scales, filters, and that the scale is not true. */
  private mustTexts(): number {
    return 3 + (this.viewFilter() === "" ? 0 : 1) + (this.style.request.surface.calibration.calibrated ? 0 : 1);
  }

  private viewFilter(): string {
    const { stream, filter, notch } = this.style;
    return viewFilterText(stream, filter, notch, this.words);
  }

  /** Most important first. A doubtful clock (W11) comes right after what is never left out. */
  private scaleTexts(model: OverlayModel | null): string[] {
    const { words, page } = this;
    const { request, stream } = this.style;
    const { calibrated } = request.surface.calibration;
    const far = page.zoom === 1 ? "" : ` ×${page.zoom}`;
    const speed = calibrated ? `${request.speedMmS} mm/s` : `${request.speedMmS} mm/s ${words.equivalent}`;
    const texts = [`${speed}${far}`, `${request.gainMmMv} mm/mV${far}`, sourceFilterText(stream, words)];
    const view = this.viewFilter();
    if (view !== "") texts.push(view);
    if (!calibrated) texts.push(words.notToScale);
    if (model?.settling === true) texts.push(words.settling);
    if (model?.clockUnsynced === true) texts.push(words.clockUnsynced);
    if (model !== null && model.clockErrorMs !== null && model.clockErrorMs > DOUBTFUL_MS) {
      texts.push(`${words.clock}${Math.round(model.clockErrorMs)} ms`);
    }
    if (model !== null && model.dateUs !== null) texts.push(dateText(model.dateUs));
    texts.push(`${trimmed(stream.sample_rate_mhz)} Hz`, stream.device);
    return texts;
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
