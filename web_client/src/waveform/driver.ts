/** What the page tells the drawing side, what it hears back, and the loop that keeps the engine going. */

import type { WaveformStream } from "../protocol/messages";
import type { DrawnSample } from "./drawn";
import { type EcgCanvas, EcgEngine, type EcgSize, type OpenContext } from "./engine";
import type { EcgSample, EcgSettings, EcgStatus, StillAt, StillMap, VideoDelayMs } from "./settings";
import type { Span } from "./stills";
import type { SeqRange } from "./tracker";

export type ToEcg =
  | {
      readonly type: "start";
      readonly trace: EcgCanvas;
      readonly text: EcgCanvas;
      readonly stream: WaveformStream;
      readonly context: OpenContext;
      readonly settings: EcgSettings;
      /** Whether stored frames can be asked for. */
      readonly hasHistory: boolean;
      /** Whether holes of the live trace can be asked for. */
      readonly hasRepair: boolean;
    }
  | { readonly type: "frame"; readonly message: ArrayBuffer }
  | { readonly type: "control"; readonly message: Uint8Array }
  | { readonly type: "open"; readonly open: boolean }
  | { readonly type: "context"; readonly context: OpenContext }
  | { readonly type: "bound"; readonly bound: boolean }
  | { readonly type: "settings"; readonly settings: EcgSettings }
  | { readonly type: "size"; readonly size: EcgSize }
  | { readonly type: "video"; readonly delayMs: VideoDelayMs }
  | { readonly type: "still"; readonly still: StillAt | null }
  | { readonly type: "history"; readonly span: Span; readonly frames: readonly Uint8Array[] }
  | { readonly type: "repair"; readonly range: SeqRange; readonly frames: readonly Uint8Array[] | null }
  | { readonly type: "sample"; readonly id: number; readonly lead: string; readonly atUs: number }
  | { readonly type: "drawn"; readonly id: number }
  | { readonly type: "wake" }
  | { readonly type: "stop" };

export type FromEcg =
  | { readonly type: "control"; readonly message: Uint8Array }
  | { readonly type: "status"; readonly status: EcgStatus }
  | { readonly type: "still"; readonly map: StillMap | null }
  | { readonly type: "history"; readonly span: Span }
  | { readonly type: "repair"; readonly range: SeqRange }
  | { readonly type: "sample"; readonly id: number; readonly sample: EcgSample | null }
  | { readonly type: "drawn"; readonly id: number; readonly drawn: readonly DrawnSample[] };

const POLL_MS = 50;
const STATUS_EVERY_POLLS = 5;
/** Without a GPU a 4K page costs twice as much at 60 frames per second for no gain anyone sees. */
const LARGE_PX = 6_000_000;
/** Not painted for this long: whatever is on screen must not be vouched for. */
const PAINT_WITHIN_US = 1_000_000;
/** Time missing in between two polls: the thread stood still, or the computer slept. */
const SLEPT_US = 2_000_000;

/** Feeds an engine from messages and time; the same in a worker and on the main thread. */
export class EcgDriver {
  private engine: EcgEngine | null = null;
  private poller: ReturnType<typeof setInterval> | null = null;
  private polls = 0;
  private everyOther = false;
  private skip = false;
  private paintedUs: number | null = null;
  private polledUs: number | null = null;
  private polledWallUs = 0;
  private frames = 0;
  private paintedMs = 0;
  private reportedUs: number | null = null;

  constructor(private readonly post: (message: FromEcg) => void) {}

  handle(message: ToEcg): void {
    const nowUs = now();
    const { engine } = this;
    switch (message.type) {
      case "start":
        this.start(message);
        break;
      case "frame":
        engine?.onFrame(new Uint8Array(message.message), nowUs);
        break;
      case "control":
        engine?.onControl(message.message, nowUs);
        break;
      case "open":
        engine?.setOpen(message.open, nowUs);
        break;
      case "context":
        engine?.setContext(message.context, nowUs);
        this.report();
        break;
      case "bound":
        engine?.setBound(message.bound, nowUs);
        this.report();
        break;
      case "settings":
        engine?.setSettings(message.settings, nowUs);
        break;
      case "size":
        this.everyOther = message.size.width * message.size.height > LARGE_PX;
        engine?.setSize(message.size, nowUs);
        break;
      case "wake":
        engine?.wake(nowUs);
        break;
      case "video":
        engine?.setVideoDelay(message.delayMs);
        break;
      case "still":
        engine?.setStill(message.still, nowUs);
        break;
      case "history":
        engine?.onHistory(message.span, message.frames, nowUs);
        break;
      case "repair":
        engine?.onRepair(message.range, message.frames, nowUs);
        break;
      case "sample":
        this.post({ type: "sample", id: message.id, sample: engine?.sample(message.lead, message.atUs) ?? null });
        break;
      case "drawn":
        this.post({ type: "drawn", id: message.id, drawn: engine?.drawn() ?? [] });
        break;
      case "stop":
        this.stop();
        break;
    }
  }

  private start({ trace, text, stream, context, settings, hasHistory, hasRepair }: ToEcg & { type: "start" }): void {
    this.polledUs = null;
    const history = (fromUs: number, toUs: number): void => this.post({ type: "history", span: { fromUs, toUs } });
    this.engine = new EcgEngine(trace, text, stream, context, settings, {
      send: (message) => this.post({ type: "control", message }),
      still: (map) => this.post({ type: "still", map }),
      ...(hasHistory ? { history } : {}),
      ...(hasRepair ? { repair: (range: SeqRange) => this.post({ type: "repair", range }) } : {}),
    });
    this.engine.setOpen(false, now());
    this.poller = setInterval(() => this.onPoll(), POLL_MS);
    requestAnimationFrame(() => this.onAnimationFrame());
  }

  private stop(): void {
    if (this.poller !== null) clearInterval(this.poller);
    this.poller = null;
    this.engine = null;
  }

  private onPoll(): void {
    const nowUs = now();
    if (this.hasSlept(nowUs)) this.engine?.wake(nowUs);
    this.engine?.poll(nowUs);
    this.polls += 1;
    if (this.polls % STATUS_EVERY_POLLS === 0) this.report();
  }

  /** [W14] Some systems stop the monotonic clock in sleep, so the wall clock is asked as well. */
  private hasSlept(nowUs: number): boolean {
    const wallUs = Date.now() * 1000;
    const missing = this.polledUs === null ? 0 : Math.max(nowUs - this.polledUs, wallUs - this.polledWallUs);
    this.polledUs = nowUs;
    this.polledWallUs = wallUs;
    return missing > SLEPT_US;
  }

  /** [W14] Also the heartbeat that the page listens for: silent while the canvases are not painted. */
  private report(): void {
    const nowUs = now();
    if (this.engine === null || this.paintedUs === null || nowUs - this.paintedUs > PAINT_WITHIN_US) return;
    const elapsedS = (nowUs - (this.reportedUs ?? nowUs)) / 1e6;
    const framesPerSecond = elapsedS > 0 ? this.frames / elapsedS : 0;
    const paintMs = this.frames > 0 ? this.paintedMs / this.frames : 0;
    this.post({ type: "status", status: { ...this.engine.status(nowUs), framesPerSecond, paintMs } });
    this.reportedUs = nowUs;
    this.frames = 0;
    this.paintedMs = 0;
  }

  private onAnimationFrame(): void {
    if (this.engine === null) return;
    this.skip = this.everyOther && !this.skip;
    if (!this.skip) this.paint(this.engine);
    this.paintedUs = now();
    requestAnimationFrame(() => this.onAnimationFrame());
  }

  private paint(engine: EcgEngine): void {
    const before = performance.now();
    engine.tick(now());
    this.paintedMs += performance.now() - before;
    this.frames += 1;
  }
}

/** This thread's clock, integer microseconds; it never steps, unlike the wall clock. */
function now(): number {
  return Math.round((performance.timeOrigin + performance.now()) * 1000);
}
