/**
 * One live ECG: receiver, trace and text layer under one clock.
 *
 * The pen moves by time, never by how much is queued: it is where the server's clock
 * says, less a delay learnt from how long frames take. When samples are missing it
 * waits a moment, then goes on and leaves a hole; after a stall it jumps to now (W13).
 * A still page covers the live trace, which goes on beneath it: state and age stay true.
 * Runs in a worker, or on the main thread where there is no OffscreenCanvas.
 */

import type { WaveformStream } from "../protocol/messages";
import type { Calibration } from "./calibration";
import { DrawnRecorder, type DrawnSample, isRecording } from "./drawn";
import { FilterBank, type FilterPlan, planFilter } from "./filters";
import { computePage, type PageRequest } from "./geometry";
import { laneOf } from "./lanes";
import { filterText, type OverlayModel, type OverlayStyle, paintOverlay, scaleText } from "./overlay";
import { PALETTES } from "./palette";
import { context2d } from "./paper";
import { MIN_DELAY_US, PenDelay } from "./pen";
import { Receiver } from "./receiver";
import { Scroll } from "./scroll";
import type { EcgSample, EcgSettings, EcgStatus, StillAt, StillMap, VideoDelayMs } from "./settings";
import { type GapKind, Signal } from "./signal";
import { stateOf } from "./state";
import { StillPage, sampleAt } from "./stillPage";
import { type Span, Stills } from "./stills";
import { blankPage, type LiveSurface, makeSheet, type Sheet } from "./surface";
import { Sweep } from "./sweep";
import type { SeqRange } from "./tracker";
import { WORDS } from "./words";

export type { EcgSettings, EcgStatus } from "./settings";

export interface EcgSize {
  /** Device pixels. */
  readonly width: number;
  readonly height: number;
  readonly dpr: number;
  readonly calibration: Calibration;
}

export type EcgCanvas = OffscreenCanvas | HTMLCanvasElement;

/** What the engine asks of the page around it. */
export interface EcgOutlets {
  /** To the relay. */
  send(message: Uint8Array): void;
  /** Where a still page's lanes are; null when there is none. */
  still(map: StillMap | null): void;
  /** Ask for stored frames of a time; absent where there is no archive. */
  history?(fromUs: number, toUs: number): void;
  /** Ask for frames that the live view lacks; absent where there is no archive. */
  repair?(range: SeqRange): void;
}

/** Missing samples are waited for this long; then the pen goes on and leaves a hole. */
const WAIT_US = 300_000;
/** With nothing new at all the pen stops here, so that what was received stays visible, greyed, while it ages. */
const HOLE_US = 1_000_000;
/** How long a contradiction of the limb leads stays on screen. */
const LIMB_ERROR_US = 10_000_000;

/** The open patient as the page around the trace shows it. */
export interface OpenContext {
  /** Null: nobody is open, or the page is not in step. */
  readonly version: number | null;
  /** The version under which the patient was opened; null: only `version` is known to be of this opening. */
  readonly first: number | null;
}

export class EcgEngine {
  private readonly receiver: Receiver;
  private readonly overlay: ReturnType<typeof context2d>;
  private readonly recorder: DrawnRecorder | null;
  private readonly pen = new PenDelay();
  private readonly stills: Stills;
  private surface: LiveSurface;
  private signal: Signal;
  private sheet: Sheet | null = null;
  private style: OverlayStyle | null = null;
  private size: EcgSize | null = null;
  private still: { readonly at: StillAt; readonly sinceUs: number } | null = null;
  private stillPage: StillPage | null = null;
  /** Samples of the still page came in since it was painted. */
  private isStillOld = false;
  private videoDelayUs: number | null = null;
  private lastTickUs: number | null = null;
  private pathGoneUs: number | null = null;
  private lostSinceUs: number | null = null;
  private painted = "";
  private blanked = false;
  private isBound = true;
  private gapsShown = new Map<number, GapKind>();

  constructor(
    private readonly trace: EcgCanvas,
    private readonly text: EcgCanvas,
    private readonly stream: WaveformStream,
    context: OpenContext,
    private settings: EcgSettings,
    private readonly outlets: EcgOutlets,
  ) {
    const events = {
      send: (message: Uint8Array) => outlets.send(message),
      stored: (from: number, to: number) => this.onStored(from, to),
      cleared: () => this.wipe(),
      hidden: () => this.hide(),
      ...(outlets.repair === undefined ? {} : { fetch: (range: SeqRange) => outlets.repair?.(range) }),
    };
    this.receiver = new Receiver(stream, context.version, events, context.first);
    const timeOf = (position: number): number => this.shownAxis().timeOf(position);
    this.recorder = isRecording ? new DrawnRecorder(timeOf, () => this.receiver.contextVersion ?? -1) : null;
    this.signal = this.makeSignal();
    this.surface = this.makeSurface();
    this.stills = new Stills(stream, this.receiver, outlets.history === undefined ? null : outlets.history);
    this.overlay = context2d(text);
    // The graphics system may drop what was painted, SIMULATED and the state with it (W9).
    for (const canvas of [trace, text]) {
      canvas.addEventListener("contextrestored", () => this.layOut(this.lastTickUs ?? 0));
    }
  }

  onFrame(message: Uint8Array, nowUs: number): void {
    if (this.isBound) this.receiver.onMessage(message, nowUs);
  }

  onControl(message: Uint8Array, nowUs: number): void {
    this.receiver.onControl(message, nowUs);
  }

  /** Frames from the archive for a still page; empty when they could not be had. */
  onHistory(span: Span, messages: readonly Uint8Array[], nowUs: number): void {
    this.stills.onHistory(span, messages);
    this.paintStill();
    this.tick(nowUs);
  }

  /** Frames from the archive for a hole in the live trace; null when they could not be had. */
  onRepair(range: SeqRange, messages: readonly Uint8Array[] | null, nowUs: number): void {
    this.receiver.onFetched(range, this.isBound ? messages : null, nowUs);
  }

  setOpen(open: boolean, nowUs: number): void {
    if (!open) {
      this.pathGoneUs ??= nowUs;
      return;
    }
    this.pathGoneUs = null;
    this.receiver.onOpen();
  }

  /**
   * [W24] Samples of another opening are gone from memory and screen before this returns; of the same opening the
   * trace goes on, and a page that stands still stands.
   */
  setContext({ version, first }: OpenContext, nowUs: number): void {
    const wasHidden = this.receiver.context === "not_in_sync";
    this.receiver.setContext(version, first, nowUs);
    if (wasHidden && this.still !== null) this.paintStill();
    this.tick(nowUs);
  }

  /**
   * [W20] Whether the device is bound to the open patient. While it is not, nothing live is drawn or kept; a page that
   * stands still was taken under the binding and stays.
   */
  setBound(bound: boolean, nowUs: number): void {
    if (bound === this.isBound) return;
    this.isBound = bound;
    if (!bound) {
      this.receiver.release();
      this.pen.reset();
      this.gapsShown.clear();
      this.signal.filter?.clear();
    }
    this.painted = "";
    this.tick(nowUs);
  }

  setSettings(settings: EcgSettings, nowUs: number): void {
    const before = this.settings;
    this.settings = settings;
    if (before.mode !== settings.mode) this.surface = this.makeSurface(this.surface);
    if (before.filter !== settings.filter || before.notch !== settings.notch) this.signal = this.makeSignal();
    this.layOut(nowUs);
  }

  setSize(size: EcgSize, nowUs: number): void {
    this.size = size;
    for (const canvas of [this.trace, this.text]) {
      canvas.width = Math.max(1, size.width);
      canvas.height = Math.max(1, size.height);
    }
    this.layOut(nowUs);
  }

  /** How long the picture beside the trace takes from capture to screen (WAVEFORM 5b). */
  setVideoDelay(delayMs: VideoDelayMs): void {
    this.videoDelayUs = delayMs === null ? null : 1000 * delayMs;
  }

  /** Stand still at a time, go back to another, or go on (null). */
  setStill(still: StillAt | null, nowUs: number): void {
    this.still = still === null ? null : { at: still, sinceUs: this.still?.sinceUs ?? nowUs };
    this.surface.covered = still !== null;
    if (still === null) this.letGo();
    else this.paintStill();
    this.tick(nowUs);
  }

  /** The real sample nearest to a time, of the still page or else of what is live. [W32] */
  sample(lead: string, atUs: number): EcgSample | null {
    // A page of the record can be measured although nothing live has come yet; `wipe` ends it with its context.
    const { context } = this.receiver;
    if (context === "not_in_sync" || (context !== "in_sync" && this.stillPage === null)) return null;
    const lane = laneOf(lead, this.stream.leads);
    const signal = this.stillPage?.signal ?? this.signal;
    return sampleAt(signal, this.shownAxis(), lane, this.stream.lsb_nv, atUs);
  }

  /** [W14] The page was hidden or frozen: lost until something live comes in. */
  wake(nowUs: number): void {
    this.receiver.wake();
    this.pen.reset();
    this.tick(nowUs);
  }

  /** Regular work that does not depend on painting. */
  poll(nowUs: number): void {
    this.receiver.poll(nowUs);
    this.followGaps();
  }

  /** Paint what is due. */
  tick(nowUs: number): void {
    if (this.sheet === null) return;
    if (this.isBlank) {
      if (!this.blanked) this.surface.blank();
      this.blanked = true;
    } else {
      if (this.blanked) this.surface.clear();
      this.blanked = false;
      this.movePen(nowUs);
    }
    if (this.isStillOld) this.paintStill();
    this.lastTickUs = nowUs;
    this.paintText(nowUs);
  }

  status(nowUs: number): Omit<EcgStatus, "framesPerSecond" | "paintMs"> {
    const { sync, state, ageMs, clockErrorMs } = this.model(nowUs);
    const lanes = this.sheet?.page.rows.flatMap(({ segments }) => segments) ?? [];
    const isTimed = this.videoDelayUs !== null && ageMs !== null && state !== "LOST";
    return {
      state,
      ageMs,
      samplesDrawn: this.surface.samplesDrawn,
      context: sync === "in_sync" ? this.receiver.contextVersion : null,
      gaps: this.gapsOnScreen().length,
      sync,
      clockErrorMs,
      derived: lanes.filter(({ derived }) => derived).map(({ label }) => label),
      filter: this.style === null ? "" : filterText(this.style),
      scale: this.style === null ? "" : scaleText(this.style),
      limbError: this.receiver.limb.violations,
      isStill: this.stillPage !== null,
      penDelayMs: this.pen.us === null ? null : this.pen.us / 1000,
      skewMs: isTimed ? (this.videoDelayUs ?? 0) / 1000 - ageMs : null,
    };
  }

  /** [test hook] What was stroked since the last call; empty in builds without the hook. */
  drawn(): DrawnSample[] {
    return this.recorder?.take() ?? [];
  }

  /** Nothing at all may be seen. */
  private get isBlank(): boolean {
    return this.receiver.context === "not_in_sync" || (!this.isBound && this.still === null);
  }

  private layOut(nowUs: number): void {
    if (this.size === null) return;
    const { settings, stream } = this;
    const { theme, language, filter, notch } = settings;
    const request: PageRequest = {
      surface: { ...this.size, theme },
      leads: stream.leads,
      sampleRateMhz: stream.sample_rate_mhz,
      layout: settings.layout,
      order: settings.order,
      rhythm: settings.rhythm,
      speedMmS: settings.speedMmS,
      gainMmMv: settings.gainMmMv,
      ...(settings.zoom === null ? {} : { zoom: settings.zoom }),
    };
    const page = computePage(request);
    this.style = { page, request, stream, language, theme, filter, notch };
    const style = { palette: PALETTES[theme], words: WORDS[language], nvPerStep: stream.lsb_nv };
    this.sheet = makeSheet(this.traceContext(), page, { ...style, recorder: this.recorder });
    this.surface.configure(this.sheet, this.signal);
    this.blanked = false;
    this.painted = "";
    this.gapsShown.clear();
    if (this.still !== null) this.paintStill();
    this.tick(nowUs);
  }

  private traceContext(): ReturnType<typeof context2d> {
    return context2d(this.trace, { alpha: false, desynchronized: true });
  }

  private makeSurface(before?: LiveSurface): LiveSurface {
    const context = this.traceContext();
    const surface =
      this.settings.mode === "scroll" ? new Scroll(context, this.recorder) : new Sweep(context, this.recorder);
    surface.covered = before?.covered ?? false;
    surface.samplesDrawn = before?.samplesDrawn ?? 0;
    if (before !== undefined && before.pen !== null) surface.jump(before.pen);
    return surface;
  }

  private plan(): FilterPlan | null {
    const { filter, notch } = this.settings;
    return planFilter(filter, notch, this.stream.sample_rate_mhz / 1000);
  }

  private makeSignal(): Signal {
    const { buffer } = this.receiver;
    const plan = this.plan();
    const bank = plan === null ? null : new FilterBank(buffer, this.stream.leads.length, plan);
    return new Signal(buffer, bank, (before, after) => this.receiver.mayCome(before, after));
  }

  private onStored(from: number, to: number): void {
    const reach = this.signal.filter?.repaired(from, to) ?? to;
    this.surface.redraw(from, reach);
    if (this.still !== null && this.stills.absorb(from, to)) this.isStillOld = true;
  }

  /** Whose the trace is will be known in a moment: until then nobody sees it, and nothing of it is lost. */
  private hide(): void {
    this.painted = "";
    this.surface.blank();
    this.blanked = true;
  }

  private wipe(): void {
    this.pen.reset();
    this.painted = "";
    this.gapsShown.clear();
    this.signal.filter?.clear();
    this.stills.forget();
    this.still = null;
    this.surface.covered = false;
    if (this.stillPage !== null) this.outlets.still(null);
    this.stillPage = null;
    if (this.receiver.context === "not_in_sync") {
      this.surface.blank();
      this.blanked = true;
    } else {
      this.surface.clear();
    }
  }

  private letGo(): void {
    this.stills.forget();
    if (this.stillPage !== null) this.outlets.still(null);
    this.stillPage = null;
    this.surface.repaint();
  }

  private paintStill(): void {
    const { still, sheet, size } = this;
    this.isStillOld = false;
    if (still === null || sheet === null || size === null || this.receiver.context === "not_in_sync") return;
    const plan = this.plan();
    const recording = this.stills.find(still.at.atUs, sheet.page.sweepSamples + (plan?.settleSamples ?? 0));
    if (recording === null) {
      blankPage(this.traceContext(), sheet);
      // The lanes of the page before are not where those of this one will be.
      if (this.stillPage !== null) this.outlets.still(null);
      this.stillPage = null;
      return;
    }
    this.stillPage = new StillPage(recording, still.at.atUs, this.stream.lsb_nv, this.stream.leads.length, plan);
    this.stillPage.paint(this.traceContext(), sheet);
    this.outlets.still(this.stillPage.map(sheet, size.dpr));
  }

  private shownAxis() {
    return this.stillPage?.recording.axis ?? this.receiver.tracker.axis();
  }

  private movePen(nowUs: number): void {
    const serverUs = this.streamNowUs(nowUs);
    const { buffer, tracker, lagUs, sourceAheadUs } = this.receiver;
    if (serverUs === null || buffer.empty || this.isLost(nowUs)) return;
    const { timing } = this.settings;
    const needs = { lagUs, sourceAheadUs, timing, videoDelayUs: this.videoDelayUs };
    this.pen.follow(needs, nowUs - (this.lastTickUs ?? nowUs));
    const due = tracker.positionAt(serverUs - (this.pen.us ?? MIN_DELAY_US));
    if (due === null) return;
    const perUs = this.stream.sample_rate_mhz / 1e9;
    const ahead = due - buffer.end;
    const beyond = ahead <= WAIT_US * perUs ? 0 : Math.min(ahead, HOLE_US * perUs);
    const target = Math.floor(ahead > 0 ? buffer.end + beyond : due);
    if (this.lostSinceUs !== null) this.surface.jump(target);
    else this.surface.advance(target);
  }

  private isLost(nowUs: number): boolean {
    // Age cannot make it lost: only silence and a closed path can.
    return stateOf({ ageMs: 0, ...this.silence(nowUs) }) === "LOST";
  }

  private silence(nowUs: number): { silentMs: number | null; pathGoneMs: number | null } {
    const { lastFrameUs } = this.receiver;
    return {
      silentMs: lastFrameUs === null ? null : (nowUs - lastFrameUs) / 1000,
      pathGoneMs: this.pathGoneUs === null ? null : (nowUs - this.pathGoneUs) / 1000,
    };
  }

  /** Now, as the source of the stream would date it; null before server time is known. */
  private streamNowUs(nowUs: number): number | null {
    const serverUs = this.receiver.clock.serverNowUs(nowUs);
    return serverUs === null ? null : serverUs + this.receiver.sourceAheadUs;
  }

  /** Place of the newest sample that is drawn, or would be if no still page lay over it; null while there is none. */
  private newest(): number | null {
    const { buffer } = this.receiver;
    if (this.surface.pen === null || buffer.empty) return null;
    let newest = Math.min(this.surface.pen, buffer.end) - 1;
    while (newest >= buffer.oldest && !buffer.received(newest)) newest -= 1;
    return newest < buffer.oldest ? null : newest;
  }

  /** [W11] Now less the capture time of the newest sample drawn. */
  private ageMs(nowUs: number): number | null {
    const serverUs = this.streamNowUs(nowUs);
    const newest = this.newest();
    const capturedUs = newest === null ? null : this.receiver.tracker.timeAt(newest);
    return serverUs === null || capturedUs === null ? null : Math.max(0, (serverUs - capturedUs) / 1000);
  }

  private model(nowUs: number): OverlayModel {
    const ageMs = this.ageMs(nowUs);
    const state = stateOf({ ageMs, ...this.silence(nowUs) });
    const { clock, context, leadOffMask, saturatedMask, clockUnsynced, sourceAheadUs, limbErrorUs } = this.receiver;
    const newest = this.newest();
    const { filter } = this.signal;
    return {
      state,
      ageMs,
      lostMs: this.lostSinceUs === null ? null : (nowUs - this.lostSinceUs) / 1000,
      sync: this.isBound || context === "not_in_sync" ? context : "unbound",
      hasClock: clock.serverNowUs(nowUs) !== null,
      clockErrorMs: clock.uncertaintyUs === null ? null : clock.uncertaintyUs / 1000,
      clockUnsynced: clockUnsynced || sourceAheadUs > 0,
      leadOffMask,
      saturatedMask,
      limbError: limbErrorUs !== null && nowUs - limbErrorUs < LIMB_ERROR_US,
      settling: filter !== null && newest !== null && this.stream.leads.some((_, i) => filter.isSettling(i, newest)),
      still: this.stillModel(nowUs),
      dateUs: this.settings.dated && newest !== null ? this.receiver.tracker.timeAt(newest) : null,
    };
  }

  private stillModel(nowUs: number): OverlayModel["still"] {
    const { still } = this;
    if (still === null) return null;
    return { atUs: still.at.atUs, sinceMs: (nowUs - still.sinceUs) / 1000, isLoading: this.stills.isLoading };
  }

  /** Holes on screen: blank runs between received samples. */
  private gapsOnScreen(): (readonly [from: number, to: number])[] {
    const { buffer } = this.receiver;
    const visible = this.surface.visible();
    if (visible === null || buffer.empty) return [];
    const gaps: [number, number][] = [];
    let start: number | null = null;
    const stop = Math.min(visible[1], buffer.end);
    for (let p = Math.max(visible[0], buffer.begin); p < stop; p += 1) {
      if (!buffer.received(p)) start ??= p;
      else if (start !== null) {
        if (start > Math.max(visible[0], buffer.begin)) gaps.push([start, p]);
        start = null;
      }
    }
    // A hole at the live end is one as well: what comes after it may be on its way.
    if (start !== null && start > Math.max(visible[0], buffer.begin)) gaps.push([start, stop]);
    return gaps;
  }

  /**
   * What was hoped for and will not come any more is hatched for good.
   *
   * A hole is grey while the pen runs into it, since nothing is known of what comes after; so
   * one that is lost when first looked at is painted once more.
   */
  private followGaps(): void {
    const { sheet, signal } = this;
    if (sheet === null || this.isBlank) return;
    const now = new Map<number, GapKind>();
    for (const [from, to] of this.gapsOnScreen()) {
      const kind = signal.gapKind(...signal.gapAround(from, sheet.page.sweepSamples));
      now.set(from, kind);
      if ((this.gapsShown.get(from) ?? "recovering") !== kind) this.surface.redraw(from, to + 1);
    }
    this.gapsShown = now;
  }

  private paintText(nowUs: number): void {
    if (this.style === null) return;
    const model = this.model(nowUs);
    if (model.state === "LOST") this.lostSinceUs ??= nowUs;
    else this.lostSinceUs = null;
    const shown = JSON.stringify([
      model.state,
      model.state === "LIVE" ? Math.round((model.ageMs ?? 0) / 100) : Math.floor((model.ageMs ?? -1) / 1000),
      Math.floor((model.lostMs ?? -1) / 1000),
      model.sync,
      model.hasClock,
      Math.round((model.clockErrorMs ?? 0) / 50),
      model.clockUnsynced,
      model.leadOffMask,
      model.saturatedMask,
      model.limbError,
      model.settling,
      model.still === null ? null : [model.still.atUs, Math.floor(model.still.sinceMs / 1000), model.still.isLoading],
      model.dateUs === null ? null : Math.floor(model.dateUs / 1e6),
    ]);
    if (shown === this.painted) return;
    this.painted = shown;
    paintOverlay(this.overlay, this.style, model);
  }
}
