/** Pages that stand still: where their samples come from, where their lanes are, what a caliper reads. */
import { encode } from "@msgpack/msgpack";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { WaveformStream } from "../protocol/messages";
import { UNCALIBRATED } from "./calibration";
import { EcgEngine } from "./engine";
import { asCanvas, FakeCanvas, SETTINGS } from "./fakeCanvas";
import { PALETTES } from "./palette";
import { RecordingView } from "./recordingView";
import type { EcgSettings, StillLane, StillMap } from "./settings";
import { makeFrame, TWELVE_LEADS } from "./testFrames";
import { WORDS } from "./words";

const LEADS = ["I", "II", "V1", "V2", "V3", "V4"];
const STREAM: WaveformStream = {
  stream_id: 7,
  leads: LEADS,
  sample_rate_mhz: 500_000,
  lsb_nv: 2_000,
  device: "monitor",
  filter: "",
  simulated: false,
  patient: "p",
};
const SECOND_US = 1_000_000;
const FRAME_US = 100_000;
const N = 50;
const T0_US = 1_763_712_000_000_000;

/** Every sample of every lead says where it is from. */
const value = (lead: number, index: number): number => 100 * lead + (index % 37);

function frame(seq: number, context = 1, leads = LEADS.length, lsbNv = 0): Uint8Array {
  const rows = Array.from({ length: leads }, (_, lead) =>
    Array.from({ length: N }, (_x, i) => value(lead, seq * N + i)),
  );
  return makeFrame({
    seq,
    contextVersion: context,
    t0Us: T0_US + seq * FRAME_US,
    firstSample: seq * N,
    rateHz: 500,
    lsbNv,
    rows,
  });
}

interface Desk {
  readonly ecg: EcgEngine;
  readonly trace: FakeCanvas;
  readonly text: FakeCanvas;
  readonly maps: (StillMap | null)[];
  readonly asked: { fromUs: number; toUs: number }[];
  play(fromS: number, toS: number, without?: readonly number[]): void;
  /** The same without painting, where only what is received matters. */
  receive(fromS: number, toS: number): void;
}

function desk(settings: Partial<EcgSettings> = {}, hasArchive = true): Desk {
  const [trace, text] = [new FakeCanvas(), new FakeCanvas()];
  const maps: (StillMap | null)[] = [];
  const asked: { fromUs: number; toUs: number }[] = [];
  const ecg = new EcgEngine(
    asCanvas(trace),
    asCanvas(text),
    STREAM,
    { version: 1, first: 1 },
    { ...SETTINGS, layout: "12x1", ...settings },
    {
      send: () => undefined,
      still: (map) => maps.push(map),
      ...(hasArchive ? { history: (fromUs: number, toUs: number) => asked.push({ fromUs, toUs }) } : {}),
    },
  );
  ecg.setSize({ width: 2000, height: 1800, dpr: 2, calibration: UNCALIBRATED }, 0);
  ecg.setOpen(true, 0);
  const play = (fromS: number, toS: number, without: readonly number[] = []): void => {
    for (let nowUs = fromS * SECOND_US; nowUs < toS * SECOND_US; nowUs += FRAME_US) {
      ecg.poll(nowUs);
      ecg.onControl(encode({ t: "pong", c: nowUs, s: T0_US + nowUs }), nowUs);
      const seq = nowUs / FRAME_US - 1;
      if (seq >= 0 && !without.includes(seq)) ecg.onFrame(frame(seq), nowUs);
      ecg.tick(nowUs);
    }
  };
  const receive = (fromS: number, toS: number): void => {
    for (let nowUs = fromS * SECOND_US; nowUs < toS * SECOND_US; nowUs += FRAME_US) {
      ecg.onFrame(frame(nowUs / FRAME_US - 1), nowUs);
    }
  };
  return { ecg, trace, text, maps, asked, play, receive };
}

const lane = (map: StillMap | null | undefined, lead: string): StillLane => {
  const found = map?.lanes.find((candidate) => candidate.lead === lead);
  if (found === undefined) throw new Error(`no lane ${lead}`);
  return found;
};

beforeEach(() => vi.stubGlobal("OffscreenCanvas", FakeCanvas));
afterEach(() => vi.unstubAllGlobals());

describe("a frozen page", () => {
  it("[W32] says where each lane is in time, px and uV, so that a place on it is a sample", () => {
    const { ecg, maps, play } = desk({ order: "cabrera" });
    play(0, 6);
    const atUs = T0_US + 5 * SECOND_US;
    ecg.setStill({ atUs }, 6 * SECOND_US);
    const map = maps.at(-1);
    expect(map?.lanes.map(({ lead }) => lead)).toContain("aVR");
    const two = lane(map, "II");
    expect(two.fromUs + two.wPx * two.usPerPx).toBeCloseTo(atUs + 2_000, -3);
    expect(two.usPerPx).toBeCloseTo(1e6 / (25 * (96 / 25.4)), 6);
    expect(Math.abs(1000 / two.uvPerPx)).toBeCloseTo(10 * (96 / 25.4), 6);
    // What is drawn turned over is measured turned over: a mark at +uv of aVR stands below the middle.
    expect(lane(map, "aVR")).toMatchObject({ derived: true, uvPerPx: -two.uvPerPx });
    expect(two.midPx).toBeLessThan(450);
  });

  it("[W32] reads the nearest real sample, raw whatever the filter, computed leads too, and says where there is none", () => {
    const { ecg, play } = desk({ filter: "monitor", notch: 50 });
    play(0, 6, [20, 21, 22, 23]);
    ecg.setStill({ atUs: T0_US + 5 * SECOND_US }, 6 * SECOND_US);
    const at = (index: number): number => T0_US + index * 2_000;
    expect(ecg.sample("II", at(777) + 700)).toEqual({ atUs: at(777), uv: 2 * value(1, 777), valid: true });
    expect(ecg.sample("aVR", at(777))).toMatchObject({ uv: -(value(0, 777) + value(1, 777)), valid: true });
    // Within 40 ms of the hole's edge it snaps to the edge; in its middle there is nothing.
    expect(ecg.sample("II", at(1003))).toMatchObject({ atUs: at(999), valid: true });
    expect(ecg.sample("II", at(1100))).toEqual({ atUs: at(1100), uv: null, valid: false });
    expect(ecg.sample("V9", at(777))).toBeNull();
  });

  it("[W20] stays while no device is bound; the live trace is gone, and begins anew with the next binding", () => {
    const { ecg, trace, text, play } = desk();
    play(0, 6);
    ecg.setStill({ atUs: T0_US + 5 * SECOND_US }, 6 * SECOND_US);
    ecg.setBound(false, 6 * SECOND_US);
    expect(ecg.sample("II", T0_US + 4 * SECOND_US)).toMatchObject({ valid: true });
    play(6, 7);
    expect(ecg.status(7 * SECOND_US)).toMatchObject({ isStill: true, state: "LOST", sync: "unbound" });
    trace.forget();
    text.forget();
    ecg.setStill(null, 7 * SECOND_US);
    expect(text.words.join()).toContain(WORDS.en.unbound);
    expect(trace.strokes.flatMap(({ lines }) => lines)).toEqual([]);
    expect(trace.fills).toContainEqual({ style: PALETTES.light.band, x: 0, y: 0, width: 2000, height: 1800 });
    expect(ecg.sample("II", T0_US + 4 * SECOND_US)).toMatchObject({ valid: false });

    ecg.setBound(true, 7 * SECOND_US);
    play(7, 9);
    expect(ecg.status(9 * SECOND_US)).toMatchObject({ state: "LIVE", sync: "in_sync", gaps: 0 });
    expect(ecg.sample("II", T0_US + 4 * SECOND_US)).toMatchObject({ valid: false });
  });

  it("[W13] [W14] stays while the live state goes on under it, and is live again at once", () => {
    const { ecg, trace, text, maps, play } = desk();
    play(0, 6);
    ecg.setStill({ atUs: T0_US + 5 * SECOND_US }, 6 * SECOND_US);
    trace.forget();
    play(6, 9);
    expect(trace.strokes).toEqual([]);
    expect(text.words.join()).toContain(`${WORDS.en.still} `);
    expect(text.words.some((word) => word.startsWith(`${WORDS.en.liveGoesOn} ● LIVE`))).toBe(true);
    expect(ecg.status(9 * SECOND_US)).toMatchObject({ state: "LIVE", isStill: true });
    ecg.tick(12.5 * SECOND_US);
    expect(text.words.some((word) => word.startsWith(`${WORDS.en.liveGoesOn} ■ STALE`))).toBe(true);
    ecg.setStill(null, 12.5 * SECOND_US);
    expect(maps.at(-1)).toBeNull();
    expect(trace.strokes.length).toBeGreaterThan(0);
    expect(ecg.status(12.5 * SECOND_US).isStill).toBe(false);
  });

  it("takes a repair that comes after the freeze, and nothing of what is newer", () => {
    const { ecg, trace, play } = desk();
    play(0, 6, [40]);
    ecg.setStill({ atUs: T0_US + 5 * SECOND_US }, 6 * SECOND_US);
    expect(ecg.sample("I", T0_US + 4_050_000)).toMatchObject({ valid: false });
    trace.forget();
    ecg.onFrame(frame(40), 6 * SECOND_US);
    ecg.tick(6 * SECOND_US);
    expect(trace.strokes.length).toBeGreaterThan(0);
    expect(ecg.sample("I", T0_US + 4_050_000)).toMatchObject({ valid: true });
    trace.forget();
    play(6, 7);
    expect(trace.strokes).toEqual([]);
  });

  it("keeps its minute when the live ring has run on", () => {
    const { ecg, play, receive } = desk();
    play(0, 1);
    receive(1, 30);
    ecg.setStill({ atUs: T0_US + 25 * SECOND_US }, 30 * SECOND_US);
    receive(30, 95);
    ecg.setStill({ atUs: T0_US + 20 * SECOND_US }, 95 * SECOND_US);
    expect(ecg.sample("V1", T0_US + 18 * SECOND_US)).toMatchObject({ uv: 2 * value(2, 9_000), valid: true });
  });

  it("fetches what is older, once, and never shows another context's", () => {
    const { ecg, asked, play, receive } = desk();
    play(0, 1);
    receive(1, 70);
    const atUs = T0_US + 6 * SECOND_US;
    ecg.setStill({ atUs }, 70 * SECOND_US);
    expect(asked).toHaveLength(1);
    const [span] = asked as [{ fromUs: number; toUs: number }];
    expect(span.fromUs).toBeLessThan(atUs - 5 * SECOND_US);
    const stored = Array.from({ length: 100 }, (_, seq) => frame(seq, seq === 50 ? 2 : 1));
    ecg.onHistory({ fromUs: 0, toUs: 1 }, stored, 70 * SECOND_US);
    expect(ecg.sample("V1", T0_US + 3 * SECOND_US)).not.toMatchObject({ valid: true });
    ecg.onHistory(span, stored, 70 * SECOND_US);
    expect(ecg.sample("V1", T0_US + 3 * SECOND_US)).toMatchObject({ uv: 2 * value(2, 1_500), valid: true });
    expect(ecg.sample("V1", T0_US + 5_050_000)).toMatchObject({ valid: false });
    ecg.setStill({ atUs: atUs + SECOND_US }, 70 * SECOND_US);
    expect(asked).toHaveLength(1);
  });

  it("asks again for an end that was too young to be stored, until it is there", () => {
    const { ecg, asked, play } = desk();
    play(30, 33);
    ecg.setStill({ atUs: T0_US + 32.5 * SECOND_US }, 33 * SECOND_US);
    const stored = (to: number) => Array.from({ length: to - 200 }, (_, k) => frame(200 + k));
    const answer = (to: number, nowS: number) =>
      ecg.onHistory(asked.at(-1) ?? { fromUs: 0, toUs: 0 }, stored(to), nowS * SECOND_US);
    answer(316, 33);
    expect(ecg.sample("V1", T0_US + 25 * SECOND_US)).toMatchObject({ valid: true });
    expect(ecg.sample("V1", T0_US + 32.2 * SECOND_US)).toMatchObject({ valid: false });
    play(33, 34.5);
    expect(asked).toHaveLength(1);
    play(34.5, 35.5);
    expect(asked).toHaveLength(2);
    answer(340, 35.5);
    expect(ecg.sample("V1", T0_US + 32.2 * SECOND_US)).toMatchObject({ uv: 2 * value(2, 16_100), valid: true });
    play(35.5, 40);
    expect(asked).toHaveLength(2);
  });

  it("[W32] can be measured before anything live has come, and tells no lanes while there is no page", () => {
    const { ecg, asked, maps } = desk();
    ecg.setStill({ atUs: T0_US + 6 * SECOND_US }, 70 * SECOND_US);
    expect(ecg.sample("V1", T0_US + 3 * SECOND_US)).toBeNull();
    const stored = Array.from({ length: 100 }, (_, seq) => frame(seq));
    ecg.onHistory(asked[0] ?? { fromUs: 0, toUs: 0 }, stored, 70 * SECOND_US);
    expect(ecg.sample("V1", T0_US + 3 * SECOND_US)).toMatchObject({ uv: 2 * value(2, 1_500), valid: true });
    expect(maps.at(-1)?.lanes).toHaveLength(12);
    ecg.setStill({ atUs: T0_US + 600 * SECOND_US }, 70 * SECOND_US);
    expect(maps.at(-1)).toBeNull();
  });

  it("leaves out what was stored in another scale: it would be drawn at a wrong height", () => {
    const { ecg, asked } = desk();
    ecg.setStill({ atUs: T0_US + 6 * SECOND_US }, 70 * SECOND_US);
    const stored = Array.from({ length: 100 }, (_, seq) => frame(seq, 1, LEADS.length, seq < 50 ? 2_000 : 1_000));
    ecg.onHistory(asked[0] ?? { fromUs: 0, toUs: 0 }, stored, 70 * SECOND_US);
    expect(ecg.sample("V1", T0_US + 3 * SECOND_US)).toMatchObject({ valid: true });
    expect(ecg.sample("V1", T0_US + 5.5 * SECOND_US)).toMatchObject({ valid: false });
  });

  it("[W24] is gone from screen and memory with its patient", () => {
    const { ecg, trace, maps, play } = desk();
    play(0, 6);
    ecg.setStill({ atUs: T0_US + 5 * SECOND_US }, 6 * SECOND_US);
    trace.forget();
    ecg.setContext({ version: 2, first: 2 }, 6 * SECOND_US);
    expect(maps.at(-1)).toBeNull();
    expect(trace.fills.at(-1)).toMatchObject({ style: PALETTES.light.band, x: 0, y: 0, width: 2000, height: 1800 });
    expect(ecg.sample("I", T0_US + 4 * SECOND_US)).toBeNull();
  });

  it("[AN2] stands where it stood when a report is opened beside the same patient, and goes back there", () => {
    const { ecg, maps, play, asked } = desk();
    play(0, 6);
    ecg.setStill({ atUs: T0_US + 5 * SECOND_US }, 6 * SECOND_US);
    const before = ecg.sample("I", T0_US + 4 * SECOND_US);
    expect(before).toMatchObject({ valid: true });
    ecg.setContext({ version: 2, first: 1 }, 6 * SECOND_US);
    expect(maps.at(-1)?.lanes).toHaveLength(12);
    expect(ecg.sample("I", T0_US + 4 * SECOND_US)).toEqual(before);
    // What was stored under the version before is this patient's too.
    ecg.setStill({ atUs: T0_US - 60 * SECOND_US }, 6 * SECOND_US);
    const span = asked.at(-1) ?? { fromUs: 0, toUs: 0 };
    ecg.onHistory(
      span,
      Array.from({ length: 20 }, (_, k) => frame(k - 610)),
      6 * SECOND_US,
    );
    expect(ecg.sample("I", T0_US - 60.5 * SECOND_US)).toMatchObject({ valid: true });
    // Of nobody else, whatever it is called: it is another opening from here on.
    ecg.setContext({ version: 3, first: 3 }, 6 * SECOND_US);
    expect(maps.at(-1)).toBeNull();
    expect(ecg.sample("I", T0_US - 60.5 * SECOND_US)).toBeNull();
  });
});

describe("a recording", () => {
  const stream = { ...STREAM, leads: [...TWELVE_LEADS] };
  const size = { width: 1600, height: 700, dpr: 1, calibration: UNCALIBRATED };
  const frames = Array.from({ length: 30 }, (_, seq) => frame(seq, 5, 12)).reverse();

  it("shows its date, fills its columns, and is read like a page of the live one", () => {
    const [trace, text] = [new FakeCanvas(), new FakeCanvas()];
    const view = new RecordingView(stream, frames);
    expect(view.span).toEqual({ fromUs: T0_US, toUs: T0_US + 3 * SECOND_US - 2_000 });
    const settings = { ...SETTINGS, layout: "3x4+1" as const, speedMmS: 50 as const };
    const map = view.paint(asCanvas(trace), asCanvas(text), { settings, size, title: "Prior ECG", atUs: null });
    expect(text.words.some((word) => /^Prior ECG {2}2025-11-21 \d\d:00:00$/.test(word))).toBe(true);
    expect(text.words.join()).toContain("50 mm/s");
    expect(text.words.join()).not.toContain("LIVE");
    const [one, six] = [lane(map, "I"), lane(map, "V6")];
    expect(one.fromUs).toBe(T0_US);
    expect(six.fromUs + six.wPx * six.usPerPx).toBeCloseTo(T0_US + 3 * SECOND_US, -4);
    expect(view.sample("V6", T0_US + 2_500_000)).toMatchObject({ uv: 2 * value(11, 1_250), valid: true });
  });

  it("begins a page exactly where it is told to, and says that time", () => {
    const [trace, text] = [new FakeCanvas(), new FakeCanvas()];
    const view = new RecordingView(stream, frames);
    const settings = { ...SETTINGS, layout: "3x4+1" as const, speedMmS: 50 as const };
    const shown = { settings, size, title: "Prior ECG", atUs: null };
    // Frames come in whole pieces of ten seconds: the page is not where they begin.
    const map = view.paint(asCanvas(trace), asCanvas(text), { ...shown, fromUs: T0_US + SECOND_US });
    expect(lane(map, "I").fromUs).toBe(T0_US + SECOND_US);
    expect(text.words.some((word) => /^Prior ECG {2}2025-11-21 \d\d:00:01$/.test(word))).toBe(true);
    const before = view.paint(asCanvas(trace), asCanvas(text), { ...shown, fromUs: T0_US - SECOND_US });
    expect(lane(before, "I").fromUs).toBe(T0_US);
  });

  it("[W9] leaves out frames that are not what the stream says", () => {
    expect(new RecordingView({ ...stream, simulated: true }, frames).span).toBeNull();
    expect(new RecordingView({ ...stream, stream_id: 8 }, frames).span).toBeNull();
    expect(new RecordingView(stream, [new Uint8Array([1, 2, 3])]).span).toBeNull();
  });
});
