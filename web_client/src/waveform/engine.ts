/**
 * One live ECG: receiver, sweep and text layer under one clock.
 *
 * The pen moves by time, never by how much is queued: it is where the server's clock
 * says, less a delay learnt from how long frames take. When samples are missing it
 * waits a moment, then goes on and leaves a hole; after a stall it jumps to now (W13).
 * Runs in a worker, or on the main thread where there is no OffscreenCanvas.
 */

import type { WaveformStream } from "../protocol/messages";
import type { Calibration } from "./calibration";
import { computePage, type EcgGain, type EcgLayout, type EcgSpeed, type Page, type PageRequest } from "./geometry";
import { type OverlayModel, paintOverlay } from "./overlay";
import { type EcgTheme, PALETTES } from "./palette";
import { Receiver } from "./receiver";
import { type EcgState, stateOf } from "./state";
import { context2d, Sweep } from "./sweep";
import type { EcgLanguage } from "./words";

export interface EcgSettings {
  readonly layout: EcgLayout;
  readonly speedMmS: EcgSpeed;
  readonly gainMmMv: EcgGain;
  readonly theme: EcgTheme;
  readonly language: EcgLanguage;
}

export interface EcgSize {
  /** Device pixels. */
  readonly width: number;
  readonly height: number;
  readonly dpr: number;
  readonly calibration: Calibration;
}

export interface EcgStatus {
  readonly state: EcgState;
  readonly ageMs: number | null;
  readonly samplesDrawn: number;
  /** Context version on screen; null when nothing of a patient is. */
  readonly context: number | null;
  readonly gaps: number;
  readonly sync: OverlayModel["sync"];
  readonly clockErrorMs: number | null;
}

export type EcgCanvas = OffscreenCanvas | HTMLCanvasElement;

const MIN_DELAY_US = 150_000;
/** Room above the typical lag for jitter. */
const MARGIN_US = 60_000;
const STEP_ABOVE_US = 250_000;
const SLEW = 0.01;
/** Missing samples are waited for this long; then the pen goes on and leaves a hole. */
const WAIT_US = 300_000;
/** With nothing new at all the pen stops here, so that what was received stays visible, greyed, while it ages. */
const HOLE_US = 1_000_000;

export class EcgEngine {
  private readonly receiver: Receiver;
  private readonly sweep: Sweep;
  private readonly overlay: ReturnType<typeof context2d>;
  private request: PageRequest | null = null;
  private page: Page | null = null;
  private settings: EcgSettings;
  private size: EcgSize | null = null;
  private delayUs: number | null = null;
  private lastTickUs: number | null = null;
  private pathGoneUs: number | null = null;
  private lostSinceUs: number | null = null;
  private painted = "";
  private blanked = false;

  constructor(
    private readonly trace: EcgCanvas,
    private readonly text: EcgCanvas,
    private readonly stream: WaveformStream,
    contextVersion: number | null,
    settings: EcgSettings,
    send: (message: Uint8Array) => void,
  ) {
    this.settings = settings;
    this.receiver = new Receiver(stream, contextVersion, {
      send,
      stored: (from, to) => this.sweep.redraw(from, to),
      cleared: () => this.wipe(),
    });
    this.sweep = new Sweep(
      context2d(trace, { alpha: false, desynchronized: true }),
      this.receiver.buffer,
      stream.lsb_nv,
    );
    this.overlay = context2d(text);
    // The graphics system may drop what was painted, SIMULATED and the state with it (W9).
    for (const canvas of [trace, text]) {
      canvas.addEventListener("contextrestored", () => this.layOut(this.lastTickUs ?? 0));
    }
  }

  onFrame(message: Uint8Array, nowUs: number): void {
    this.receiver.onMessage(message, nowUs);
  }

  onControl(message: Uint8Array, nowUs: number): void {
    this.receiver.onControl(message, nowUs);
  }

  setOpen(open: boolean, nowUs: number): void {
    if (!open) {
      this.pathGoneUs ??= nowUs;
      return;
    }
    this.pathGoneUs = null;
    this.receiver.onOpen();
  }

  /** [W24] Old samples are gone from memory and screen before this returns. */
  setContext(version: number | null, nowUs: number): void {
    this.receiver.setContext(version);
    this.tick(nowUs);
  }

  setSettings(settings: EcgSettings, nowUs: number): void {
    this.settings = settings;
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

  /** [W14] The page was hidden or frozen: lost until something live comes in. */
  wake(nowUs: number): void {
    this.receiver.wake();
    this.delayUs = null;
    this.tick(nowUs);
  }

  /** Regular work that does not depend on painting. */
  poll(nowUs: number): void {
    this.receiver.poll(nowUs);
  }

  /** Paint what is due. */
  tick(nowUs: number): void {
    if (this.page === null) return;
    if (this.receiver.context === "not_in_sync") {
      if (!this.blanked) this.sweep.blank();
      this.blanked = true;
    } else {
      if (this.blanked) this.sweep.clear();
      this.blanked = false;
      this.movePen(nowUs);
    }
    this.lastTickUs = nowUs;
    this.paintText(nowUs);
  }

  status(nowUs: number): EcgStatus {
    const { sync, state, ageMs, clockErrorMs } = this.model(nowUs);
    return {
      state,
      ageMs,
      samplesDrawn: this.sweep.samplesDrawn,
      context: sync === "in_sync" ? this.receiver.contextVersion : null,
      gaps: this.sweep.gapsOnScreen(),
      sync,
      clockErrorMs,
    };
  }

  private layOut(nowUs: number): void {
    if (this.size === null) return;
    this.request = {
      surface: { ...this.size, theme: this.settings.theme },
      leads: this.stream.leads,
      sampleRateMhz: this.stream.sample_rate_mhz,
      layout: this.settings.layout,
      speedMmS: this.settings.speedMmS,
      gainMmMv: this.settings.gainMmMv,
    };
    this.page = computePage(this.request);
    this.sweep.configure(this.page, PALETTES[this.settings.theme]);
    this.blanked = false;
    this.painted = "";
    this.tick(nowUs);
  }

  private wipe(): void {
    this.delayUs = null;
    this.painted = "";
    if (this.receiver.context === "not_in_sync") {
      this.sweep.blank();
      this.blanked = true;
    } else {
      this.sweep.clear();
    }
  }

  private movePen(nowUs: number): void {
    const serverUs = this.streamNowUs(nowUs);
    const { buffer, tracker } = this.receiver;
    if (serverUs === null || buffer.empty || this.isLost(nowUs)) return;
    this.followDelay(nowUs);
    const due = tracker.positionAt(serverUs - (this.delayUs ?? MIN_DELAY_US));
    if (due === null) return;
    const perUs = this.stream.sample_rate_mhz / 1e9;
    const ahead = due - buffer.end;
    const beyond = ahead <= WAIT_US * perUs ? 0 : Math.min(ahead, HOLE_US * perUs);
    const target = Math.floor(ahead > 0 ? buffer.end + beyond : due);
    if (this.lostSinceUs !== null) this.sweep.jump(target);
    else this.sweep.advance(target);
  }

  /** Come near to what frames need at 1 % per tick's time; step only when far off (WAVEFORM.md 5b). */
  private followDelay(nowUs: number): void {
    const { lagUs, sourceAheadUs } = this.receiver;
    if (lagUs === null) return;
    const wanted = Math.max(MIN_DELAY_US, lagUs + sourceAheadUs + MARGIN_US);
    if (this.delayUs === null || Math.abs(wanted - this.delayUs) > STEP_ABOVE_US) {
      this.delayUs = wanted;
      return;
    }
    const allowed = SLEW * Math.max(0, nowUs - (this.lastTickUs ?? nowUs));
    this.delayUs += Math.max(-allowed, Math.min(allowed, wanted - this.delayUs));
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

  /** [W11] Now less the capture time of the newest sample drawn. */
  private ageMs(nowUs: number): number | null {
    const serverUs = this.streamNowUs(nowUs);
    const { buffer, tracker } = this.receiver;
    if (serverUs === null || this.sweep.pen === null || buffer.empty) return null;
    let newest = Math.min(this.sweep.pen, buffer.end) - 1;
    while (newest >= buffer.begin && !buffer.received(newest)) newest -= 1;
    const capturedUs = tracker.timeAt(newest);
    return newest < buffer.begin || capturedUs === null ? null : Math.max(0, (serverUs - capturedUs) / 1000);
  }

  private model(nowUs: number): OverlayModel {
    const ageMs = this.ageMs(nowUs);
    const state = stateOf({ ageMs, ...this.silence(nowUs) });
    const { clock, context, leadOffMask, clockUnsynced, sourceAheadUs } = this.receiver;
    return {
      state,
      ageMs,
      lostMs: this.lostSinceUs === null ? null : (nowUs - this.lostSinceUs) / 1000,
      sync: context,
      hasClock: clock.serverNowUs(nowUs) !== null,
      clockErrorMs: clock.uncertaintyUs === null ? null : clock.uncertaintyUs / 1000,
      clockUnsynced: clockUnsynced || sourceAheadUs > 0,
      leadOffMask,
    };
  }

  private paintText(nowUs: number): void {
    if (this.page === null || this.request === null) return;
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
    ]);
    if (shown === this.painted) return;
    this.painted = shown;
    const style = { page: this.page, request: this.request, stream: this.stream, language: this.settings.language };
    paintOverlay(this.overlay, { ...style, theme: this.settings.theme }, model);
  }
}
