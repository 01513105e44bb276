/**
 * Puts the drawing side into an element: canvases, worker, size, wire.
 *
 * Where canvases cannot be handed to a worker the same driver runs on the main thread.
 */

import type { WaveformStream } from "../protocol/messages";
import { isSame, onCalibrationChange, readCalibration, thisDisplay } from "./calibration";
import type { Dispose, EcgChannel } from "./channel";
import { type DrawnSample, isRecording } from "./drawn";
import { EcgDriver, type FromEcg, type ToEcg } from "./driver";
import type { EcgSize, OpenContext } from "./engine";
import type { EcgSample, EcgSettings, EcgStatus, StillAt, StillMap, VideoDelayMs } from "./settings";
import type { Span } from "./stills";
import type { SeqRange } from "./tracker";

/** Stored frames of a time, as sent; empty where there are none. */
export type History = (fromUs: number, toUs: number) => Promise<readonly Uint8Array[]>;

/** Stored frames by number, as sent; fails where the store cannot be asked. */
export type Repair = (first: number, last: number) => Promise<readonly Uint8Array[]>;

export interface EcgMount {
  readonly stream: WaveformStream;
  readonly channel: EcgChannel;
  readonly context: OpenContext;
  readonly settings: EcgSettings;
  onStatus(status: EcgStatus): void;
  onStill?(map: StillMap | null): void;
  readonly history?: History | undefined;
  readonly repair?: Repair | undefined;
}

export interface EcgHandle {
  setSettings(settings: EcgSettings): void;
  setContext(context: OpenContext): void;
  setBound(bound: boolean): void;
  setVideoDelay(delayMs: VideoDelayMs): void;
  setStill(still: StillAt | null): void;
  /** The real sample nearest to a time; null for a lead nobody sends, or when the display does not answer. */
  sample(lead: string, atUs: number): Promise<EcgSample | null>;
  /** [test hook] */
  drawn(): Promise<readonly DrawnSample[]>;
  dispose: Dispose;
}

interface DrawingSide {
  post(message: ToEcg, transfer?: Transferable[]): void;
  dispose: Dispose;
}

export function mountEcg(element: HTMLElement, mount: EcgMount): EcgHandle {
  const { channel } = mount;
  const trace = document.createElement("canvas");
  const text = document.createElement("canvas");
  element.replaceChildren(trace, text);
  const questions = new Questions();
  const onMessage = (message: FromEcg): void => {
    if (message.type === "control") channel.sendControl(message.message);
    else if (message.type === "status") mount.onStatus(message.status);
    else if (message.type === "still") mount.onStill?.(message.map);
    else if (message.type === "repair") void fetchRepair(mount.repair, message.range, side);
    else if (message.type === "history") void fetchHistory(mount.history, message.span, side);
    else questions.answer(message);
  };
  const side = canUseWorker() ? workerSide(onMessage) : mainSide(onMessage);
  const { stream, context, settings } = mount;
  const offscreen = canUseWorker();
  const canvases = offscreen
    ? { trace: trace.transferControlToOffscreen(), text: text.transferControlToOffscreen() }
    : { trace, text };
  side.post(
    {
      ...{ type: "start", ...canvases, stream, context, settings },
      hasHistory: mount.history !== undefined,
      hasRepair: mount.repair !== undefined,
    },
    offscreen ? [canvases.trace as OffscreenCanvas, canvases.text as OffscreenCanvas] : [],
  );
  const disposals = [
    watchSize(element, (size) => side.post({ type: "size", size })),
    channel.onFrame((message) => side.post({ type: "frame", message }, [message])),
    channel.onControl((message) => side.post({ type: "control", message })),
    channel.onOpenChange((open) => side.post({ type: "open", open })),
    watchVisibility(side),
  ];
  side.post({ type: "open", open: channel.open });
  return {
    setSettings: (next) => side.post({ type: "settings", settings: next }),
    setBound: (bound) => side.post({ type: "bound", bound }),
    setContext: (context) => side.post({ type: "context", context }),
    setVideoDelay: (delayMs) => side.post({ type: "video", delayMs }),
    setStill: (still) => side.post({ type: "still", still }),
    sample: (lead, atUs) => questions.sample((id) => side.post({ type: "sample", id, lead, atUs })),
    drawn: () => (isRecording ? questions.drawn((id) => side.post({ type: "drawn", id })) : Promise.resolve([])),
    dispose: () => {
      for (const dispose of disposals) dispose();
      side.dispose();
      element.replaceChildren();
    },
  };
}

const ANSWER_WITHIN_MS = 2_000;
const LOOK_EVERY_MS = 1_000;

/** Questions to the drawing side and who waits for the answers; one that is not answered in time is answered "nothing". */
class Questions {
  private readonly waiting = new Map<number, (message: FromEcg) => void>();
  private last = 0;

  sample(ask: (id: number) => void): Promise<EcgSample | null> {
    return this.ask(ask, null, (message) => (message.type === "sample" ? message.sample : null));
  }

  drawn(ask: (id: number) => void): Promise<readonly DrawnSample[]> {
    return this.ask(ask, [], (message) => (message.type === "drawn" ? message.drawn : []));
  }

  answer(message: FromEcg & { readonly id: number }): void {
    this.waiting.get(message.id)?.(message);
  }

  private ask<T>(ask: (id: number) => void, nothing: T, read: (message: FromEcg) => T): Promise<T> {
    this.last += 1;
    const id = this.last;
    return new Promise((resolve) => {
      const finish = (value: T): void => {
        clearTimeout(timer);
        this.waiting.delete(id);
        resolve(value);
      };
      const timer = setTimeout(() => finish(nothing), ANSWER_WITHIN_MS);
      this.waiting.set(id, (message) => finish(read(message)));
      ask(id);
    });
  }
}

/** What cannot be fetched stays a hole on the page; who fetches says why. */
async function fetchHistory(history: History | undefined, span: Span, side: DrawingSide): Promise<void> {
  let frames: readonly Uint8Array[] = [];
  try {
    frames = (await history?.(span.fromUs, span.toUs)) ?? [];
  } catch {
    // The page around this fetched them and tells the user; here the place stays a hole.
  }
  side.post({ type: "history", span, frames });
}

/** What could not be asked is told as such: the drawing side asks again, later. */
async function fetchRepair(repair: Repair | undefined, range: SeqRange, side: DrawingSide): Promise<void> {
  let frames: readonly Uint8Array[] | null = null;
  try {
    frames = (await repair?.(range[0], range[1])) ?? null;
  } catch {
    // Told by `frames`.
  }
  side.post({ type: "repair", range, frames });
}

function canUseWorker(): boolean {
  return (
    typeof Worker !== "undefined" &&
    typeof OffscreenCanvas !== "undefined" &&
    typeof HTMLCanvasElement.prototype.transferControlToOffscreen === "function"
  );
}

function workerSide(onMessage: (message: FromEcg) => void): DrawingSide {
  const worker = new Worker(new URL("./ecgWorker.ts", import.meta.url), { type: "module" });
  worker.addEventListener("message", (event: MessageEvent<FromEcg>) => onMessage(event.data));
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer),
    dispose: () => worker.terminate(),
  };
}

function mainSide(onMessage: (message: FromEcg) => void): DrawingSide {
  const driver = new EcgDriver(onMessage);
  return { post: (message) => driver.handle(message), dispose: () => driver.handle({ type: "stop" }) };
}

/**
 * Backing store in device pixels, exact where the browser says so; followed through zoom and resize.
 *
 * The calibration is read each time: zoom or another screen makes it void (W27, W34). A window
 * that is moved to another screen of the same ratio gets no event, so that is looked at.
 */
export function watchSize(element: HTMLElement, onSize: (size: EcgSize) => void): Dispose {
  let display = thisDisplay();
  const report = (entry?: ResizeObserverEntry): void => {
    display = thisDisplay();
    const { dpr } = display;
    const exact = entry?.devicePixelContentBoxSize?.[0];
    const rect = element.getBoundingClientRect();
    const width = pixels(rect.width * dpr, exact?.inlineSize);
    const height = pixels(rect.height * dpr, exact?.blockSize);
    if (width > 0 && height > 0) onSize({ width, height, dpr, calibration: readCalibration() });
  };
  const observer = new ResizeObserver((entries) => report(entries.at(-1)));
  try {
    observer.observe(element, { box: "device-pixel-content-box" });
  } catch {
    // Safari does not know this box; CSS pixels times the ratio are close.
    observer.observe(element);
  }
  const onWindow = (): void => report();
  window.addEventListener("resize", onWindow);
  const forget = onCalibrationChange(onWindow);
  const look = setInterval(() => {
    if (!isSame(display, thisDisplay())) report();
  }, LOOK_EVERY_MS);
  return () => {
    observer.disconnect();
    window.removeEventListener("resize", onWindow);
    forget();
    clearInterval(look);
  };
}

/** The browser's exact count where it fits the ratio we scale by: under an emulated ratio it does not. */
function pixels(computed: number, exact: number | undefined): number {
  return exact !== undefined && Math.abs(exact - computed) <= 1 ? exact : Math.round(computed);
}

function watchVisibility(side: DrawingSide): Dispose {
  const onChange = (): void => {
    if (document.visibilityState === "visible") side.post({ type: "wake" });
  };
  document.addEventListener("visibilitychange", onChange);
  return () => document.removeEventListener("visibilitychange", onChange);
}
