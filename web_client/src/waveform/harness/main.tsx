/**
 * One EcgView with a wire that the browser test holds in its hands.
 *
 * Server time is this page's own clock; pings are answered at once. The test makes real
 * frames in Python and pushes them as bytes.
 */

import { decode, encode } from "@msgpack/msgpack";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import type { EcgChannel } from "../channel";
import { EcgView, type EcgViewProps } from "../EcgView";

type Settings = Omit<EcgViewProps, "channel">;

class TestChannel implements EcgChannel {
  open = true;
  readonly asked: unknown[] = [];
  answerPings = true;
  private readonly frames = new Set<(message: ArrayBuffer) => void>();
  private readonly controls = new Set<(message: Uint8Array) => void>();
  private readonly opens = new Set<(open: boolean) => void>();

  onFrame(callback: (message: ArrayBuffer) => void): () => void {
    this.frames.add(callback);
    return () => this.frames.delete(callback);
  }

  onControl(callback: (message: Uint8Array) => void): () => void {
    this.controls.add(callback);
    return () => this.controls.delete(callback);
  }

  onOpenChange(callback: (open: boolean) => void): () => void {
    this.opens.add(callback);
    return () => this.opens.delete(callback);
  }

  sendControl(message: Uint8Array): void {
    const asked = decode(message) as { t: string; c?: number };
    if (asked.t === "ping") {
      if (this.answerPings) this.control({ t: "pong", c: asked.c, s: nowUs() });
      return;
    }
    this.asked.push(asked);
  }

  control(message: unknown): void {
    for (const callback of this.controls) callback(encode(message));
  }

  push(base64: string): void {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    for (const callback of this.frames) callback(bytes.slice().buffer);
  }

  /** Push each frame when its time has come, as a device would. */
  play(frames: readonly { readonly atUs: number; readonly message: string }[]): void {
    for (const { atUs, message } of frames) {
      setTimeout(() => this.push(message), Math.max(0, (atUs - nowUs()) / 1000));
    }
  }

  setOpen(open: boolean): void {
    this.open = open;
    for (const callback of this.opens) callback(open);
  }
}

function nowUs(): number {
  return Math.round((performance.timeOrigin + performance.now()) * 1000);
}

const channel = new TestChannel();
const root = createRoot(document.getElementById("root") as HTMLElement);
let settings: Settings | null = null;

const harness = {
  channel,
  nowUs,
  show(next: Settings): void {
    settings = next;
    root.render(
      <StrictMode>
        <EcgView {...next} channel={channel} />
      </StrictMode>,
    );
  },
  change(part: Partial<Settings>): void {
    if (settings !== null) harness.show({ ...settings, ...part });
  },
};

declare global {
  interface Window {
    harness: typeof harness;
  }
}
window.harness = harness;
