import { describe, expect, it } from "vitest";
import { FilterBank, type FilterPlan, planFilter } from "./filters";
import { bandOf, mayCallDiagnostic, mayJudgeSt, viewFilterRecord, viewFilterText } from "./filterText";
import { parseMessage, type WaveformFrame } from "./frame";
import { LeadBuffer } from "./leadBuffer";
import { makeFrame } from "./testFrames";
import { WORDS } from "./words";

const RATE_HZ = 500;
const N = 50;

function frame(seq: number, values: readonly number[]): WaveformFrame {
  const made = makeFrame({ seq, t0Us: 1e15, firstSample: 0, rateHz: RATE_HZ, rows: [values] });
  const result = parseMessage(made);
  if (!result.ok) throw new Error(result.error);
  return result.frame;
}

function bufferOf(values: readonly number[], without: readonly number[] = []): LeadBuffer {
  const buffer = new LeadBuffer(1, 1000 * RATE_HZ);
  for (let seq = 0; seq * N < values.length; seq += 1) if (!without.includes(seq)) put(buffer, values, seq);
  return buffer;
}

function put(buffer: LeadBuffer, values: readonly number[], seq: number): void {
  const at = { position: seq * N, session: 0, late: false, restart: false };
  buffer.store(frame(seq, values.slice(seq * N, (seq + 1) * N)), at);
}

const plan = (...wish: Parameters<typeof planFilter>): FilterPlan => {
  const made = planFilter(...wish);
  if (made === null) throw new Error("no filter");
  return made;
};

/** Gain of a sine once it has settled. */
function gainAt(hz: number, filter: FilterPlan): number {
  const sine = Array.from({ length: 20 * RATE_HZ }, (_, i) =>
    Math.round(10_000 * Math.sin((2 * Math.PI * hz * i) / RATE_HZ)),
  );
  const bank = new FilterBank(bufferOf(sine), 1, filter);
  bank.update();
  let peak = 0;
  for (let p = 15 * RATE_HZ; p < 20 * RATE_HZ; p += 1) peak = Math.max(peak, Math.abs(bank.value(0, p)));
  return peak / 10_000;
}

describe("filters of the view", () => {
  it("[W29] pass what their names say", () => {
    const monitor = plan("monitor", 0, RATE_HZ);
    expect(gainAt(10, monitor)).toBeCloseTo(1, 1);
    expect(gainAt(0.5, monitor)).toBeCloseTo(Math.SQRT1_2, 1);
    expect(gainAt(40, monitor)).toBeCloseTo(Math.SQRT1_2, 1);
    expect(gainAt(100, monitor)).toBeLessThan(0.2);
    const diagnostic = plan("diagnostic", 50, RATE_HZ);
    expect(gainAt(0.5, diagnostic)).toBeGreaterThan(0.98);
    expect(gainAt(120, diagnostic)).toBeGreaterThan(0.7);
    expect(gainAt(50, diagnostic)).toBeLessThan(0.05);
    expect(gainAt(50, plan("off", 60, RATE_HZ))).toBeGreaterThan(0.9);
    expect(gainAt(60, plan("off", 60, RATE_HZ))).toBeLessThan(0.05);
    expect(planFilter("off", 0, RATE_HZ)).toBeNull();
  });

  it("promise no limit that the sample rate cannot hold", () => {
    expect(plan("diagnostic", 60, 125)).toMatchObject({ lowPassHz: null, notchHz: null, highPassHz: 0.05 });
    const slow = { filter: "", sample_rate_mhz: 125_000 };
    expect(viewFilterText(slow, "diagnostic", 0, WORDS.en)).toBe("view > 0.05 Hz");
  });

  it("give after a repair what they would have given without the loss, and say how far it reaches", () => {
    const values = Array.from({ length: 40 * N }, (_, i) => Math.round(900 * Math.sin(i / 9) + 3 * i));
    const whole = new FilterBank(bufferOf(values), 1, plan("monitor", 50, RATE_HZ));
    whole.update();
    const buffer = bufferOf(values.slice(0, 30 * N), [6]);
    const bank = new FilterBank(buffer, 1, plan("monitor", 50, RATE_HZ));
    bank.update();
    expect(bank.value(0, 7 * N)).not.toBeCloseTo(whole.value(0, 7 * N), 3);
    put(buffer, values, 6);
    expect(bank.repaired(6 * N, 7 * N)).toBe(30 * N);
    for (let seq = 30; seq < 40; seq += 1) put(buffer, values, seq);
    bank.update();
    for (let p = 0; p < 40 * N; p += 1) expect(bank.value(0, p)).toBeCloseTo(whole.value(0, p), 3);
  });

  it("keep their state at the live end when a repair far behind does not reach it", () => {
    const values = Array.from({ length: 20 * N }, (_, i) => Math.round(700 * Math.sin(i / 7)));
    const lossy = bufferOf(values.slice(0, 15 * N), [3, 8]);
    const bank = new FilterBank(lossy, 1, plan("monitor", 0, RATE_HZ));
    bank.update();
    put(lossy, values, 3);
    expect(bank.repaired(3 * N, 4 * N)).toBe(8 * N);
    for (let seq = 15; seq < 20; seq += 1) put(lossy, values, seq);
    bank.update();
    const other = new FilterBank(bufferOf(values, [8]), 1, plan("monitor", 0, RATE_HZ));
    other.update();
    for (let p = 9 * N; p < 20 * N; p += 1) expect(bank.value(0, p)).toBeCloseTo(other.value(0, p), 3);
  });
});

describe("words about bandwidth", () => {
  it("[W30] call nothing diagnostic below 500 Hz, or from a source that filters more or does not say", () => {
    const stream = { filter: "0.05-150 Hz", sample_rate_mhz: 500_000 };
    expect(viewFilterText(stream, "diagnostic", 50, WORDS.en)).toBe("view diagnostic 0.05–150 Hz notch 50 Hz");
    expect(mayCallDiagnostic({ ...stream, sample_rate_mhz: 499_999 })).toBe(false);
    expect(mayCallDiagnostic({ ...stream, filter: "0.5-40 Hz" })).toBe(false);
    expect(viewFilterText({ ...stream, filter: "" }, "diagnostic", 0, WORDS.en)).toBe("view 0.05–150 Hz");
    expect(viewFilterText(stream, "monitor", 0, WORDS.zh)).toBe("显示 监护 0.5–40 Hz");
    // A strip's settings name the view's filter alone, and none as none.
    expect(viewFilterRecord(stream, "st", 50)).toBe("ST 0.05–40 Hz notch 50 Hz");
    expect(viewFilterRecord(stream, "off", 0)).toBe("");
  });

  it("[W29] allow ST to be judged only where nothing above 0.05 Hz is cut away", () => {
    const stream = { filter: "Diagnostic 0.05–150 Hz", sample_rate_mhz: 500_000 };
    expect(bandOf(stream.filter)).toEqual([0.05, 150]);
    expect([mayJudgeSt(stream, "off"), mayJudgeSt(stream, "st"), mayJudgeSt(stream, "monitor")]).toEqual([
      true,
      true,
      false,
    ]);
    expect(mayJudgeSt({ ...stream, filter: "0.5-40 Hz" }, "off")).toBe(false);
    expect(mayJudgeSt({ ...stream, filter: "" }, "off")).toBe(false);
  });
});
