import { describe, expect, it } from "vitest";
import { parseMessage, type WaveformFrame } from "./frame";
import { bytesOf, type FrameVector, readVectors } from "./vectors";

const vectors = readVectors();

function expectSame(frame: WaveformFrame | null, vector: FrameVector | null): void {
  if (vector === null || frame === null) {
    expect(frame).toBe(vector);
    return;
  }
  expect({
    stream_id: frame.streamId,
    seq: frame.seq,
    flags: frame.flags,
    context_version: frame.contextVersion,
    t0_us: frame.t0Us,
    first_sample: frame.firstSample,
    numbering: frame.numbering,
    sample_rate_mhz: frame.sampleRateMhz,
    n: frame.n,
    lead_mask: frame.leadMask,
    lead_off_mask: frame.leadOffMask,
    saturated_mask: frame.saturatedMask,
    lsb_nv: frame.lsbNv,
    invalid_runs: frame.invalidRuns.map((run) => [run.lead, run.reason, run.first, run.count]),
    pace_offsets: frame.paceOffsets,
    samples: Buffer.from(frame.samples.buffer).toString("base64"),
  }).toEqual({ ...vector, codec: undefined });
}

describe("wire frame", () => {
  it.each(vectors.good)("decodes as Python does: $name", ({ message, frame, previous }) => {
    const result = parseMessage(bytesOf(message));
    expect(result.ok).toBe(true);
    if (!result.ok) return;
    expectSame(result.frame, frame);
    expectSame(result.previous, previous);
  });

  it.each(vectors.broken)("[WF1] [WF4] refuses: $name", ({ message, error }) => {
    expect(parseMessage(bytesOf(message))).toEqual({ ok: false, error });
  });

  it("[W1] notices any flipped bit of a real message", () => {
    const message = bytesOf(vectors.good[1]?.message ?? "");
    for (let bit = 0; bit < message.length * 8; bit += 5) {
      const damaged = message.slice();
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(parseMessage(damaged).ok).toBe(false);
    }
  });

  it("reads a message that is a view into a larger buffer", () => {
    const message = bytesOf(vectors.good[1]?.message ?? "");
    const larger = new Uint8Array(message.length + 7);
    larger.set(message, 3);
    expect(parseMessage(larger.subarray(3, 3 + message.length))).toEqual(parseMessage(message));
  });
});
