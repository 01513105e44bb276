/**
 * Puts the drawing side into an element: canvases, worker, size, wire.
 *
 * Where canvases cannot be handed to a worker the same driver runs on the main thread.
 */

import type { WaveformStream } from "../protocol/messages";
import { readCalibration } from "./calibration";
import type { Dispose, EcgChannel } from "./channel";
import { EcgDriver, type FromEcg, type ToEcg } from "./driver";
import type { EcgSettings, EcgStatus } from "./engine";

export interface EcgMount {
  readonly stream: WaveformStream;
  readonly channel: EcgChannel;
  readonly contextVersion: number | null;
  readonly settings: EcgSettings;
  onStatus(status: EcgStatus): void;
}

export interface EcgHandle {
  setSettings(settings: EcgSettings): void;
  setContext(version: number | null): void;
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
  const onMessage = (message: FromEcg): void => {
    if (message.type === "control") channel.sendControl(message.message);
    else mount.onStatus(message.status);
  };
  const side = canUseWorker() ? workerSide(onMessage) : mainSide(onMessage);
  const { stream, contextVersion, settings } = mount;
  const offscreen = canUseWorker();
  const canvases = offscreen
    ? { trace: trace.transferControlToOffscreen(), text: text.transferControlToOffscreen() }
    : { trace, text };
  side.post(
    { type: "start", ...canvases, stream, contextVersion, settings },
    offscreen ? [canvases.trace as OffscreenCanvas, canvases.text as OffscreenCanvas] : [],
  );
  const disposals = [
    watchSize(element, side),
    channel.onFrame((message) => side.post({ type: "frame", message }, [message])),
    channel.onControl((message) => side.post({ type: "control", message })),
    channel.onOpenChange((open) => side.post({ type: "open", open })),
    watchVisibility(side),
  ];
  side.post({ type: "open", open: channel.open });
  return {
    setSettings: (next) => side.post({ type: "settings", settings: next }),
    setContext: (version) => side.post({ type: "context", version }),
    dispose: () => {
      for (const dispose of disposals) dispose();
      side.dispose();
      element.replaceChildren();
    },
  };
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
 * The calibration is read each time: zoom or another screen makes it void (W27, W34).
 */
function watchSize(element: HTMLElement, side: DrawingSide): Dispose {
  const report = (entry?: ResizeObserverEntry): void => {
    const dpr = window.devicePixelRatio;
    const exact = entry?.devicePixelContentBoxSize?.[0];
    const rect = element.getBoundingClientRect();
    const width = pixels(rect.width * dpr, exact?.inlineSize);
    const height = pixels(rect.height * dpr, exact?.blockSize);
    const calibration = readCalibration();
    if (width > 0 && height > 0) side.post({ type: "size", size: { width, height, dpr, calibration } });
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
  return () => {
    observer.disconnect();
    window.removeEventListener("resize", onWindow);
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
