import { decode, encode } from "@msgpack/msgpack";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { WaveformStream } from "../protocol/messages";
import { UNCALIBRATED } from "./calibration";
import { crc32 } from "./crc32";
import { EcgEngine } from "./engine";
import { asCanvas, FakeCanvas, SETTINGS } from "./fakeCanvas";
import { PALETTES } from "./palette";
import { bytesOf, readVectors } from "./vectors";
import { WORDS } from "./words";

const LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"];
const STREAM: WaveformStream = {
  stream_id: 7,
  leads: LEADS,
  sample_rate_mhz: 1_000_000,
  lsb_nv: 1250,
  device: "monitor",
  filter: "",
  simulated: true,
  patient: "p",
};
const SECOND_US = 1_000_000;
const FRAME_US = 50_000;
const T0_US = 1_763_712_000_000_000;
const SESSION_RESTART = 128;

const FIRST = readVectors().good.find(({ name }) => name.startsWith("dicom"))?.message ?? "";

/** The first real frame of the record under another number: 50 ms from `t0Us`. */
function frame(seq: number, t0Us: number): Uint8Array {
  const bytes = bytesOf(FIRST);
  const view = new DataView(bytes.buffer);
  if (seq > 0) view.setUint8(3, view.getUint8(3) & ~SESSION_RESTART);
  view.setUint32(8, seq, true);
  view.setBigInt64(16, BigInt(t0Us) * 1000n, true);
  view.setBigUint64(24, BigInt(50 * seq), true);
  view.setUint32(48, crc32(bytes.subarray(52), crc32(bytes.subarray(0, 48))), true);
  return bytes;
}

function setUp() {
  const text = new FakeCanvas();
  const trace = new FakeCanvas();
  const asked: Record<string, unknown>[] = [];
  const ecg = new EcgEngine(
    asCanvas(trace),
    asCanvas(text),
    STREAM,
    { version: 3, first: 3 },
    { ...SETTINGS, layout: "12x1" },
    {
      send: (message) => asked.push(decode(message) as Record<string, unknown>),
      still: () => undefined,
    },
  );
  ecg.setSize({ width: 1600, height: 900, dpr: 1, calibration: UNCALIBRATED }, 0);
  ecg.setOpen(true, 0);
  return { ecg, text, trace, asked };
}

/** Run for a while: each frame arrives when its last sample was taken; the source's clock is `aheadUs` ahead. */
function run(
  ecg: EcgEngine,
  fromUs: number,
  untilUs: number,
  aheadUs: number,
  serverAtZeroUs = T0_US,
  lost: readonly number[] = [],
): void {
  for (let nowUs = fromUs; nowUs < untilUs; nowUs += FRAME_US) {
    ecg.poll(nowUs);
    ecg.onControl(encode({ t: "pong", c: nowUs, s: serverAtZeroUs + nowUs }), nowUs);
    if (nowUs > 0) {
      const seq = nowUs / FRAME_US - 1;
      if (!lost.includes(seq)) ecg.onFrame(frame(seq, T0_US + seq * FRAME_US + aheadUs), nowUs);
    }
    ecg.tick(nowUs);
  }
}

beforeEach(() => vi.stubGlobal("OffscreenCanvas", FakeCanvas));
afterEach(() => vi.unstubAllGlobals());

describe("EcgEngine", () => {
  it("draws a sound stream as live", () => {
    const { ecg, text } = setUp();
    run(ecg, 0, 8 * SECOND_US, 0);
    const { state, ageMs, samplesDrawn } = ecg.status(8 * SECOND_US);
    expect(state).toBe("LIVE");
    expect(ageMs).toBeLessThan(400);
    expect(samplesDrawn).toBeGreaterThan(LEADS.length * 7_500);
    expect(text.words.join()).not.toContain(WORDS.en.clockUnsynced);
    expect(text.words.filter((word) => word.startsWith("● LIVE")).at(-1)).toMatch(/ s$/);
  });

  it("[W11] does not call old samples live when the source's clock runs ahead, and says so", () => {
    const { ecg, text } = setUp();
    run(ecg, 0, 8 * SECOND_US, 5 * SECOND_US);
    const { state, samplesDrawn } = ecg.status(8 * SECOND_US);
    expect(state).toBe("LIVE");
    // All but the newest moment of the eight seconds: what is called live is what came in just now.
    expect(samplesDrawn).toBeGreaterThan(LEADS.length * 7_500);
    expect(text.words.join()).toContain(WORDS.en.clockUnsynced);
  });

  it("[W11] doubts the age in the state itself: on a phone there is no room for more", () => {
    const { ecg, text } = setUp();
    ecg.setSize({ width: 360, height: 500, dpr: 1, calibration: UNCALIBRATED }, 0);
    run(ecg, 0, 2 * SECOND_US, 5 * SECOND_US);
    expect(text.words.filter((word) => word.startsWith("● LIVE")).at(-1)).toMatch(/ s \?$/);
  });

  it("[W14] knows no server time after a sleep until it is measured again", () => {
    const { ecg, asked } = setUp();
    run(ecg, 0, 4 * SECOND_US, 0);
    asked.length = 0;
    ecg.wake(4 * SECOND_US);
    expect(ecg.status(4 * SECOND_US).state).toBe("LOST");
    ecg.onFrame(frame(79, T0_US + 79 * FRAME_US), 4 * SECOND_US);
    expect(ecg.status(4 * SECOND_US).state).toBe("LOST");
    ecg.poll(4 * SECOND_US);
    expect(asked.filter(({ t }) => t === "ping")).toHaveLength(1);
  });

  it("[W2] turns a hole from grey to hatched when the relay says that it will never be filled", () => {
    const { ecg, trace } = setUp();
    const hatched = (): number =>
      trace.fills.filter(({ style, height }) => typeof style === "object" && height > 300).length;
    const lost = [40, 41, 42, 43, 44, 45];
    const nowUs = 2.6 * SECOND_US;
    run(ecg, 0, nowUs, 0, T0_US, lost);
    expect(trace.fills.some(({ style, height }) => style === PALETTES.light.recovering && height > 300)).toBe(true);
    expect(hatched()).toBe(0);
    ecg.onControl(encode({ t: "gone", stream: 7, first: 40, last: 45 }), nowUs);
    ecg.poll(nowUs);
    expect(hatched()).toBeGreaterThan(0);
    trace.forget();
    ecg.poll(nowUs + 50_000);
    expect(trace.fills).toEqual([]);
  });

  it("[W9] paints everything again when the graphics system lost the canvases", () => {
    const { ecg, text, trace } = setUp();
    run(ecg, 0, 2 * SECOND_US, 0);
    text.words = [];
    trace.forget();
    text.dispatchEvent(new Event("contextrestored"));
    ecg.tick(2 * SECOND_US);
    expect(text.words).toContain(WORDS.en.simulated);
    expect(trace.strokes.length).toBeGreaterThan(0);
  });
});
