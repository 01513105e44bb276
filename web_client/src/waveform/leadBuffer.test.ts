import { describe, expect, it } from "vitest";
import type { WaveformFrame } from "./frame";
import { Cell, LeadBuffer } from "./leadBuffer";

function frame(seq: number, samples: number[], more: Partial<WaveformFrame> = {}): WaveformFrame {
  return {
    streamId: 1,
    seq,
    flags: 0,
    contextVersion: 1,
    t0Us: 0,
    firstSample: 0,
    numbering: 0,
    sampleRateMhz: 100_000,
    n: samples.length,
    leadMask: 1,
    leadOffMask: 0,
    saturatedMask: 0,
    lsbNv: 1000,
    invalidRuns: [],
    paceOffsets: [],
    leads: [0],
    samples: Int16Array.from(samples),
    ...more,
  };
}

const at = (position: number, late = false, restart = false) => ({ position, session: 0, late, restart });

describe("LeadBuffer", () => {
  it("[W2] leaves a hole of exactly the missing samples and never joins across it", () => {
    const buffer = new LeadBuffer(1, 100_000);
    buffer.store(frame(0, [1, 2]), at(0, false, true));
    buffer.store(frame(2, [5, 6]), at(4));
    expect([0, 1, 2, 3, 4, 5].map((p) => buffer.cell(0, p))).toEqual([1, 1, 0, 0, 1, 1]);
    expect([0, 1, 2, 3, 4, 5].map((p) => buffer.joined(0, p))).toEqual([false, true, false, false, false, true]);
    buffer.store(frame(1, [3, 4]), at(2, true));
    expect([0, 1, 2, 3, 4, 5].map((p) => buffer.joined(0, p))).toEqual([false, true, true, true, true, true]);
    expect([0, 1, 2, 3, 4, 5].map((p) => buffer.value(0, p))).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("[W5] fills a cell once and does not join sessions", () => {
    const buffer = new LeadBuffer(1, 100_000);
    buffer.store(frame(0, [1, 2]), at(0));
    expect(buffer.store(frame(9, [7, 8]), at(1))).toBe("overlap");
    expect(buffer.value(0, 1)).toBe(2);
    buffer.store(frame(1, [3]), at(2, false, true));
    expect(buffer.joined(0, 2)).toBe(false);
  });

  it("[W2] joins neighbouring places only when their frames are the same or successive", () => {
    const buffer = new LeadBuffer(1, 100_000);
    buffer.store(frame(0, [1, 2]), at(0));
    buffer.store(frame(2, [3, 4]), at(2));
    expect([1, 2, 3].map((p) => buffer.joined(0, p))).toEqual([true, false, true]);
  });

  it("keeps a part as it is, and takes repairs of it over", () => {
    const buffer = new LeadBuffer(2, 100_000, 1);
    buffer.store(frame(0, [1, 2, 3], { saturatedMask: 1, paceOffsets: [1] }), at(10, false, true));
    const copy = buffer.slice(11, 20);
    expect([10, 11, 12, 13].map((p) => copy.cell(0, p))).toEqual([Cell.blank, Cell.saturated, Cell.saturated, 0]);
    expect([copy.paced(11), copy.value(0, 12), copy.seqAt(12), copy.cell(1, 11)]).toEqual([true, 3, 0, Cell.blank]);
    buffer.store(frame(1, [4, 5, 6]), at(13));
    expect(copy.received(13)).toBe(false);
    copy.absorb(buffer, 13, 16);
    expect([13, 14, 15, 16].map((p) => copy.value(0, p))).toEqual([4, 5, 6, 0]);
    buffer.clear();
    expect(copy.value(0, 14)).toBe(5);
  });

  it("[W4] counts what comes after its place has left the ring", () => {
    const buffer = new LeadBuffer(1, 100_000, 1);
    buffer.store(frame(0, [1]), at(0));
    buffer.store(frame(5, [9]), at(500));
    expect(buffer.store(frame(1, [2, 3]), at(1, true))).toBe("late");
    expect(buffer.lateLost).toBe(2);
    expect(buffer.cell(0, 401)).toBe(Cell.blank);
  });

  it("[W6] marks lead-off, invalid and saturated samples as such", () => {
    const buffer = new LeadBuffer(3, 100_000);
    const runs = [
      { lead: 0, reason: 4, first: 1, count: 1 },
      { lead: 0, reason: 2, first: 2, count: 1 },
    ];
    const more = { leadMask: 0b101, leads: [0, 2], leadOffMask: 0b010, saturatedMask: 0b100, n: 3, invalidRuns: runs };
    buffer.store(frame(0, [1, 2, 3, 4, 5, 6], more), at(0));
    expect([0, 1, 2].map((p) => buffer.cell(0, p))).toEqual([Cell.valid, Cell.artefact, Cell.leadOff]);
    expect(buffer.cell(1, 0)).toBe(Cell.leadOff);
    expect(buffer.cell(2, 0)).toBe(Cell.saturated);
    expect(buffer.joined(0, 1)).toBe(false);
  });

  it("[W24] keeps nothing after clear", () => {
    const buffer = new LeadBuffer(1, 100_000);
    buffer.store(frame(0, [1, 2, 3]), at(0));
    buffer.clear();
    expect([0, 1, 2].map((p) => buffer.cell(0, p))).toEqual([0, 0, 0]);
    expect(buffer.empty).toBe(true);
  });
});
