/** What is stroked and filled, lane by lane: the rules of an honest picture, on a canvas that remembers. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { UNCALIBRATED } from "./calibration";
import { DrawnRecorder } from "./drawn";
import { asCanvas, FakeCanvas, type FakePoint } from "./fakeCanvas";
import { FilterBank, planFilter } from "./filters";
import { Flag, parseMessage } from "./frame";
import { columnOf, computePage, type Page, type PageRequest, type Row, type Segment, xOfColumn } from "./geometry";
import { LeadBuffer } from "./leadBuffer";
import { PALETTES } from "./palette";
import { context2d } from "./paper";
import { Scroll } from "./scroll";
import { type Hope, Signal } from "./signal";
import { type LiveSurface, makeSheet } from "./surface";
import { Sweep } from "./sweep";
import { type MadeFrame, makeFrame, TWELVE_LEADS } from "./testFrames";
import { GapTracker } from "./tracker";
import { WORDS } from "./words";

const RATE_HZ = 500;
const N = 50;
const T0_US = 1_700_000_000_000_000;
const LSB_NV = 1000;
const INK = PALETTES.light;

type Made = Partial<MadeFrame> & Pick<MadeFrame, "rows">;

interface Rig {
  readonly canvas: FakeCanvas;
  readonly page: Page;
  readonly surface: LiveSurface;
  readonly recorder: DrawnRecorder;
  /** Put a frame where it belongs; what is left out is regular. */
  send(seq: number, made: Made): void;
  segment(label: string): readonly [Row, Segment];
  /** Everything stroked as trace of one lane, as (place, millivolt), pieces of line apart. */
  lines(label: string, style?: unknown): (readonly [position: number, mv: number])[][];
}

interface Wish extends Partial<PageRequest> {
  readonly width?: number;
  readonly mode?: "sweep" | "scroll";
  readonly hope?: Hope;
  readonly filter?: "monitor";
  readonly rateHz?: number;
}

function rig(wish: Wish = {}): Rig {
  const { width = 1200, mode = "sweep", hope = () => false, rateHz = RATE_HZ, leads = TWELVE_LEADS } = wish;
  const canvas = new FakeCanvas();
  const page = computePage({
    surface: { width, height: 900, dpr: 1, calibration: UNCALIBRATED, theme: "light" },
    leads,
    sampleRateMhz: 1000 * rateHz,
    layout: "12x1",
    speedMmS: 25,
    gainMmMv: 10,
    ...wish,
  });
  const buffer = new LeadBuffer(leads.length, 1000 * rateHz);
  const tracker = new GapTracker(1000 * rateHz);
  const plan = wish.filter === undefined ? null : planFilter(wish.filter, 0, rateHz);
  const signal = new Signal(buffer, plan === null ? null : new FilterBank(buffer, leads.length, plan), hope);
  const recorder = new DrawnRecorder(
    (position) => tracker.axis().timeOf(position),
    () => 1,
  );
  const context = context2d(asCanvas(canvas));
  const sheet = makeSheet(context, page, { palette: INK, words: WORDS.en, nvPerStep: LSB_NV, recorder });
  const surface = mode === "scroll" ? new Scroll(context, recorder) : new Sweep(context, recorder);
  surface.configure(sheet, signal);
  const segment = (label: string): readonly [Row, Segment] => {
    for (const row of page.rows) {
      for (const found of row.segments) if (found.label === label) return [row, found];
    }
    throw new Error(`no lane ${label}`);
  };
  return {
    canvas,
    page,
    surface,
    recorder,
    segment,
    send: (seq, made) => {
      const n = made.rows[0]?.length ?? N;
      const at = { seq, t0Us: T0_US + (seq * n * 1e6) / rateHz, firstSample: seq * n, rateHz };
      const result = parseMessage(makeFrame({ ...at, ...made }));
      if (!result.ok) throw new Error(result.error);
      const placement = tracker.offer(result.frame);
      if (placement === null) throw new Error("not placed");
      buffer.store(result.frame, placement);
      const { position } = placement;
      const reach = signal.filter?.repaired(position, position + n) ?? position + n;
      if (placement.late) surface.redraw(position, reach);
    },
    lines: (label, style = INK.trace) => {
      const [row, lane] = segment(label);
      const [px, pen] = [page.pxPerSample, surface.pen ?? 0];
      const start = mode === "sweep" ? 0 : (Math.floor(pen * px) - Math.floor(page.sweepSamples * px)) / px;
      const from = xOfColumn(page, lane.from) - 1e-6;
      const to = xOfColumn(page, lane.to) - 1e-6;
      // Lanes lie apart by more than these signals are high.
      const isOurs = ({ x, y }: FakePoint): boolean =>
        x >= from && x < to && Math.abs(y - row.baseline) < (row.bottom - row.top) / 2;
      return canvas.linesIn(style).flatMap((line) => {
        const mine = line.filter(isOurs);
        if (mine.length === 0) return [];
        return [
          mine.map(
            ({ x, y }) =>
              [
                Math.round(start + (x - page.sweepX) / page.pxPerSample),
                Math.round((1000 * (row.baseline - y)) / page.pxPerMv) / 1000,
              ] as const,
          ),
        ];
      });
    },
  };
}

/** All twelve leads at one height each, so that each lane is known by it. */
const level = (i: number): number => 40 * (i + 1);
const levels = (n = N): number[][] => TWELVE_LEADS.map((_, i) => new Array<number>(n).fill(level(i)));
const rowsOf = (values: readonly number[], lead: number): number[][] =>
  TWELVE_LEADS.map((_, i) => (i === lead ? [...values] : new Array<number>(values.length).fill(0)));
const flat = (value: number): number[][] => [new Array<number>(N).fill(value)];

beforeEach(() => vi.stubGlobal("OffscreenCanvas", FakeCanvas));
afterEach(() => vi.unstubAllGlobals());

/** Every step along a piece of line leads to the next place. */
function expectUnbroken(lines: readonly (readonly (readonly [number, number])[])[]): void {
  for (const line of lines) {
    line.slice(1).forEach(([position], i) => {
      expect(position - (line[i]?.[0] ?? 0)).toBeLessThanOrEqual(1);
    });
  }
}

describe.each(["sweep", "scroll"] as const)("the %s", (mode) => {
  it("[W31] draws each lead in the lane that bears its name, in every layout and order", () => {
    for (const layout of ["3x4+1", "3x4", "6x2", "12x1"] as const) {
      for (const order of ["standard", "cabrera"] as const) {
        const { send, surface, page, lines } = rig({ mode, layout, order, width: 700 });
        const frames = Math.ceil(page.sweepSamples / N);
        for (let seq = 0; seq < frames; seq += 1) send(seq, { rows: levels() });
        surface.jump(page.sweepSamples);
        for (const [i, lead] of TWELVE_LEADS.entries()) {
          const label = order === "cabrera" && lead === "aVR" ? "-aVR" : lead;
          const sign = label === "-aVR" ? -1 : 1;
          const heights = new Set(
            lines(label)
              .flat()
              .map(([, mv]) => mv),
          );
          expect([label, ...heights]).toEqual([label, (sign * level(i)) / 1000]);
        }
      }
    }
  });

  it("[W1] [W2] strokes nothing in a hole and no line across it", () => {
    const { send, surface, canvas, lines, page } = rig({ mode, leads: ["II"] });
    for (const seq of [0, 1, 4, 5]) send(seq, { rows: flat(seq < 2 ? 0 : 900) });
    canvas.forget();
    for (let pen = 10; pen <= 300; pen += 7) surface.advance(pen);
    // What a scroll drew before has moved since; how it came there is read back further below.
    canvas.forget();
    surface.jump(300);
    const drawn = lines("II");
    expectUnbroken(drawn);
    const places = new Set(drawn.flat().map(([position]) => position));
    expect([...places].filter((p) => p >= 100 && p < 200)).toEqual([]);
    expect([99, 200, 299].every((p) => places.has(p))).toBe(true);
    // No point between the two levels: nothing leads from one to the other.
    expect(new Set(drawn.flat().map(([, mv]) => mv))).toEqual(new Set([0, 0.9]));
    const hole = canvas.fills.filter(({ style, width }) => style === INK.recovering && width > 0);
    const widest = Math.max(...hole.map(({ width }) => width));
    expect(Math.abs(widest - 101 * page.pxPerSample)).toBeLessThanOrEqual(1.5);
  });

  it("[W10] keeps the height of a spike of one sample, drawn once or column by column", () => {
    for (const rateHz of [RATE_HZ, 4000]) {
      const { send, surface, lines, page } = rig({ mode, rateHz, leads: ["II"], width: 700 });
      expect(1 / page.pxPerSample > 12).toBe(rateHz === 4000);
      const spike = new Array<number>(400).fill(0);
      spike[223] = 800;
      spike[224] = -700;
      send(0, { rows: [spike] });
      for (let pen = 5; pen <= 400; pen += 5) surface.advance(pen);
      surface.jump(400);
      const heights = lines("II")
        .flat()
        .map(([, mv]) => mv);
      expect([Math.max(...heights), Math.min(...heights)]).toEqual([0.8, -0.7]);
    }
  });

  it("[W7] computes the leads that are not sent, and nothing where one of their parts is missing", () => {
    const { send, surface, lines } = rig({ mode, leads: ["I", "II", "V1", "V2", "V3", "V4"], order: "cabrera" });
    const rows = [300, 500, 0, 0, 0, 0].map((value) => new Array<number>(N).fill(value));
    send(0, { rows });
    send(1, { rows, runs: [[1, 4, 10, 20]] });
    send(2, { rows: rows.slice(1), leadMask: 0b111110, leadOffMask: 1 });
    surface.jump(150);
    const heights = (label: string): Set<number> =>
      new Set(
        lines(label)
          .flat()
          .map(([, mv]) => mv),
      );
    expect(heights("III")).toEqual(new Set([0.2]));
    expect(heights("-aVR")).toEqual(new Set([0.4]));
    expect(heights("aVL")).toEqual(new Set([0.05]));
    expect(heights("aVF")).toEqual(new Set([0.35]));
    for (const label of ["III", "-aVR", "aVL", "aVF"]) {
      const places = lines(label)
        .flat()
        .map(([position]) => position);
      expect(places.filter((p) => p >= 60 && p < 80)).toEqual([]);
      expect(Math.max(...places)).toBe(99);
      expectUnbroken(lines(label));
    }
    expect(
      lines("II")
        .flat()
        .some(([position]) => position > 120),
    ).toBe(true);
  });

  it("[W5] does not join sessions and marks where one begins", () => {
    const { send, surface, canvas, lines } = rig({ mode, leads: ["II"] });
    send(0, { rows: flat(0) });
    send(1, { rows: flat(700), flags: Flag.sessionRestart, firstSample: 0, t0Us: T0_US + 100_000 });
    canvas.forget();
    surface.jump(100);
    expect(lines("II").map((line) => new Set(line.map(([, mv]) => mv)))).toEqual([new Set([0]), new Set([0.7])]);
    expect(canvas.fills.filter(({ style }) => style === INK.session).length).toBeGreaterThan(10);
  });

  it("[W6] draws what is no signal as what it is, in words and without a line", () => {
    const reasons = { 1: "MISSING", 2: "LEAD OFF", 3: "OUT OF RANGE", 4: "ARTEFACT", 5: "CALIBRATION", 99: "INVALID" };
    for (const [reason, word] of Object.entries(reasons)) {
      const { send, surface, canvas, lines } = rig({ mode, leads: ["II"], width: 2000 });
      for (let seq = 0; seq < 20; seq += 1) {
        send(seq, { rows: flat(500), ...(seq < 2 ? {} : { runs: [[0, Number(reason), 0, N] as const] }) });
      }
      canvas.forget();
      for (let pen = 1; pen <= 1000; pen += 9) surface.advance(pen);
      expect(canvas.words).toContain(word);
      canvas.forget();
      surface.repaint();
      expect(
        lines("II")
          .flat()
          .every(([position]) => position < 100),
      ).toBe(true);
    }
  });

  it("[W6] has a short word for a short run", () => {
    const { send, surface, canvas } = rig({ mode, leads: ["II"], width: 2000 });
    for (let seq = 0; seq < 12; seq += 1) {
      send(seq, { rows: flat(500), ...(seq < 2 || seq > 6 ? {} : { runs: [[0, 2, 0, N] as const] }) });
    }
    canvas.forget();
    for (let pen = 1; pen <= 600; pen += 9) surface.advance(pen);
    expect(canvas.words).toContain("OFF");
    expect(canvas.words).not.toContain("LEAD OFF");
  });

  it("[W6] says SATURATED beside the trace, not in colour alone", () => {
    const { send, surface, canvas, lines } = rig({ mode, leads: ["II"], width: 2000 });
    for (let seq = 0; seq < 20; seq += 1) send(seq, { rows: flat(500), saturatedMask: 1 });
    canvas.forget();
    for (let pen = 1; pen <= 1000; pen += 9) surface.advance(pen);
    expect(canvas.words).toContain("SATURATED");
    expect(lines("II", INK.saturated).flat().length).toBeGreaterThan(900);
    expect(lines("II").flat()).toEqual([]);
  });

  it("[W2] leads no line past what is stroked otherwise", () => {
    const { send, surface, canvas, lines } = rig({ mode, leads: ["II"] });
    for (let seq = 0; seq < 6; seq += 1) send(seq, { rows: flat(100 * seq), saturatedMask: seq === 2 ? 1 : 0 });
    canvas.forget();
    surface.jump(300);
    expectUnbroken([...lines("II"), ...lines("II", INK.saturated)]);
    expect(lines("II").length).toBe(2);
  });

  it("[W2] is grey where samples may still come and hatched for good where not", () => {
    for (const hopes of [true, false]) {
      const { send, surface, canvas } = rig({ mode, leads: ["II"], hope: () => hopes });
      for (const seq of [0, 2]) send(seq, { rows: flat(0) });
      canvas.forget();
      surface.jump(150);
      const hatched = canvas.fills.filter(({ style, width }) => typeof style === "object" && width > 8);
      expect(hatched.length > 0).toBe(!hopes);
    }
  });

  it("[W4] draws a repair in its place and joins it on both sides", () => {
    const { send, surface, canvas, lines } = rig({ mode, leads: ["II"], width: 2000 });
    for (const seq of [0, 2]) send(seq, { rows: flat(0) });
    surface.jump(150);
    canvas.forget();
    send(1, { rows: flat(600) });
    const drawn = lines("II");
    const repaired = drawn
      .flat()
      .filter(([, mv]) => mv === 0.6)
      .map(([position]) => position);
    expect([Math.min(...repaired), Math.max(...repaired)]).toEqual([50, 99]);
    expectUnbroken(drawn);
    expect(drawn.some((line) => line.some(([p]) => p === 49) && line.some(([p]) => p === 50))).toBe(true);
  });

  it("[W1] [W3] puts every sample at its own time and value, read back from where it was stroked", () => {
    const { send, surface, recorder } = rig({ mode, order: "cabrera", layout: "6x2", width: 500 });
    const value = (lead: number, position: number): number => 10 * lead + ((7 * position) % 40) - 20;
    const lost = new Set([7, 8, 20]);
    for (let seq = 0; seq < 60; seq += 1) {
      if (lost.has(seq)) continue;
      const rows = TWELVE_LEADS.map((_, lead) => Array.from({ length: N }, (_x, i) => value(lead, seq * N + i)));
      send(seq, { rows });
    }
    recorder.take();
    for (let pen = 3; pen <= 60 * N; pen += 3) surface.advance(pen);
    const drawn = recorder.take();
    const seen = new Set<number>();
    let wrong = 0;
    for (const { lead, us, value: steps, context } of drawn) {
      const position = (us - T0_US) / 2000;
      const row = TWELVE_LEADS.indexOf(lead === "-aVR" ? "aVR" : lead);
      const sign = lead === "-aVR" ? -1 : 1;
      const inHole = lost.has(Math.floor(position / N));
      if (!Number.isInteger(position) || inHole || context !== 1 || steps !== sign * value(row, position)) wrong += 1;
      seen.add(position);
    }
    expect(wrong).toBe(0);
    expect(drawn.some(({ lead }) => lead === "aVR")).toBe(false);
    // Running paper waits for two whole pixels: the newest few samples come with the next.
    const waiting = mode === "scroll" ? Math.ceil(3 / 0.18) : 0;
    expect(seen.size).toBeGreaterThanOrEqual(57 * N - waiting);
    expect(Math.max(...seen)).toBeGreaterThanOrEqual(60 * N - 1 - waiting);
  });

  it("starts a filter anew behind a hole: nothing of one side reaches the other", () => {
    const drawnAfter = (before: number): (readonly [number, number])[] => {
      const { send, surface, lines } = rig({ mode, leads: ["II"], filter: "monitor", width: 2000 });
      const ramp = Array.from({ length: N }, (_, i) => 5 * i);
      send(0, { rows: flat(before) });
      send(2, { rows: [ramp] });
      surface.jump(150);
      return [...lines("II", INK.settling).flat(), ...lines("II").flat()].filter(([position]) => position >= 100);
    };
    const [quiet, loud] = [drawnAfter(0), drawnAfter(20_000)];
    expect(quiet.length).toBe(N);
    expect(loud).toEqual(quiet);
    // Settled at its first sample: no step to ring from.
    expect(quiet[0]?.[1]).toBe(0);
  });

  it("[W5] starts a filter anew with a session, and behind what is no signal", () => {
    const after = (before: number, how: Partial<MadeFrame>, between: Partial<MadeFrame>): unknown => {
      const { send, surface, lines } = rig({ mode, leads: ["II"], filter: "monitor", width: 2000 });
      send(0, { rows: flat(before), ...between });
      send(1, { rows: [Array.from({ length: N }, (_, i) => 5 * i)], ...how });
      surface.jump(100);
      const drawn = [...lines("II", INK.settling).flat(), ...lines("II").flat()];
      return drawn.filter(([position]) => position >= 50);
    };
    const restart = { flags: Flag.sessionRestart, firstSample: 0, t0Us: T0_US + 100_000 };
    expect(after(20_000, restart, {})).toEqual(after(0, restart, {}));
    const artefact = { runs: [[0, 4, 40, 10] as const] };
    expect(after(20_000, {}, artefact)).toEqual(after(0, {}, artefact));
    expect(after(20_000, {}, {})).not.toEqual(after(0, {}, {}));
  });

  it("draws a trace that has not settled otherwise, and says how long", () => {
    const { send, surface, canvas, lines } = rig({ mode, leads: ["II"], filter: "monitor", width: 2000 });
    for (let seq = 0; seq < 20; seq += 1) send(seq, { rows: flat(100) });
    surface.jump(1000);
    const settling = lines("II", INK.settling)
      .flat()
      .map(([position]) => position);
    expect(Math.max(...settling)).toBe(477);
    expect(
      Math.min(
        ...lines("II")
          .flat()
          .slice(1)
          .map(([position]) => position),
      ),
    ).toBeGreaterThanOrEqual(477);
    expect(canvas.fills.some(({ style, y }) => style === INK.session && y < 60)).toBe(true);
  });

  it("points at a spike that leaves the paper", () => {
    const { send, surface, canvas } = rig({ mode, leads: ["II"] });
    send(0, { rows: [Array.from({ length: N }, (_, i) => (i === 20 ? 30_000 : 0))] });
    surface.jump(50);
    expect(canvas.words).toContain("▲");
  });
});

describe("the sweep", () => {
  it("paints only what is new", () => {
    const { send, surface, canvas, page } = rig();
    for (let seq = 0; seq < 20; seq += 1) send(seq, { rows: rowsOf(new Array<number>(N).fill(100), 1) });
    surface.jump(400);
    canvas.forget();
    surface.advance(408);
    expect(canvas.copies.every(([, , width]) => (width ?? 0) < 12)).toBe(true);
    const xs = canvas.strokes.flatMap(({ lines }) => lines.flat().map(({ x }) => x));
    expect(Math.min(...xs)).toBeGreaterThanOrEqual(xOfColumn(page, columnOf(page, 399)) - 0.01);
  });
});

describe("the scroll", () => {
  it("moves the paper by whole pixels and goes on at inner borders as the next lead", () => {
    const wish = { mode: "scroll", layout: "3x4", width: 300 } as const;
    const moved = rig(wish);
    for (let seq = 0; seq < 40; seq += 1) moved.send(seq, { rows: levels() });
    moved.surface.jump(1500);
    expect(moved.page.sweepSamples).toBeLessThan(1500);
    moved.canvas.forget();
    for (let pen = 1501; pen <= 2000; pen += 8) moved.surface.advance(pen);
    const shifts = moved.canvas.copies.filter((numbers) => numbers.length === 8 && numbers[0] !== numbers[4]);
    expect(shifts.length).toBeGreaterThan(25);
    expect(shifts.every(([from, , , , to]) => Number.isInteger((from ?? 0.5) - (to ?? 0)))).toBe(true);
    for (const label of ["I", "aVR", "V1", "V4"]) {
      const heights = new Set(
        moved
          .lines(label)
          .flat()
          .map(([, mv]) => mv),
      );
      expect([label, ...heights]).toEqual([label, level(TWELVE_LEADS.indexOf(label)) / 1000]);
    }
  });
});
