import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { EcgDriver, type FromEcg } from "./driver";
import { EcgEngine } from "./engine";
import { asCanvas, FakeCanvas, SETTINGS } from "./fakeCanvas";

const STREAM = {
  stream_id: 7,
  leads: ["II"],
  sample_rate_mhz: 500_000,
  lsb_nv: 1000,
  device: "monitor",
  filter: "",
  simulated: false,
  patient: "p",
};

/** Whether the browser paints: it calls animation frames only then. */
let isPainting = true;
let heard: FromEcg[] = [];
let driver: EcgDriver;

const beats = (): number => heard.filter(({ type }) => type === "status").length;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("OffscreenCanvas", FakeCanvas);
  vi.stubGlobal("requestAnimationFrame", (call: () => void) => {
    const wait = (): void => {
      setTimeout(() => (isPainting ? call() : wait()), 16);
    };
    wait();
    return 0;
  });
  isPainting = true;
  heard = [];
  driver = new EcgDriver((message) => heard.push(message));
  const [trace, text] = [asCanvas(new FakeCanvas()), asCanvas(new FakeCanvas())];
  driver.handle({
    type: "start",
    trace,
    text,
    stream: STREAM,
    context: { version: 1, first: 1 },
    settings: SETTINGS,
    hasHistory: false,
    hasRepair: false,
  });
});

afterEach(() => {
  driver.handle({ type: "stop" });
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe("EcgDriver", () => {
  it("[W14] says that it is alive only while it paints", () => {
    vi.advanceTimersByTime(3_000);
    expect(beats()).toBeGreaterThan(8);
    isPainting = false;
    vi.advanceTimersByTime(1_500);
    heard = [];
    vi.advanceTimersByTime(5_000);
    expect(beats()).toBe(0);
    isPainting = true;
    vi.advanceTimersByTime(1_000);
    expect(beats()).toBeGreaterThan(1);
  });

  it("[W14] falls silent when painting fails", () => {
    vi.spyOn(EcgEngine.prototype, "tick").mockImplementation(() => {
      throw new Error("no memory for a canvas");
    });
    expect(() => vi.advanceTimersByTime(1_500)).toThrow("no memory");
    vi.advanceTimersByTime(1_500);
    heard = [];
    vi.advanceTimersByTime(3_000);
    expect(beats()).toBe(0);
  });

  it("[W14] wakes as lost after a sleep that its own clock did not count", () => {
    const wake = vi.spyOn(EcgEngine.prototype, "wake");
    vi.advanceTimersByTime(5_000);
    expect(wake).not.toHaveBeenCalled();
    vi.setSystemTime(Date.now() + 30_000);
    vi.advanceTimersByTime(100);
    expect(wake).toHaveBeenCalledOnce();
  });

  it("[W14] wakes as lost when its thread stood still", () => {
    const wake = vi.spyOn(EcgEngine.prototype, "wake");
    vi.advanceTimersByTime(1_000);
    const { now } = performance;
    vi.spyOn(performance, "now").mockImplementation(() => now.call(performance) + 10_000);
    vi.advanceTimersByTime(100);
    expect(wake).toHaveBeenCalledOnce();
  });
});
