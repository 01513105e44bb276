import { describe, expect, it } from "vitest";
import { readBreaks } from "./api";
import { breaksOf, FrameHistory, MalformedHistory, mergeBreaks, PIECE_US, splitFrames } from "./history";

const frame = (value: number): Uint8Array => new Uint8Array([value]);

/** A server with one frame a second and pages of four seconds. */
function recorded(nowUs = 1e12) {
  const asked: [number, number][] = [];
  const history = new FrameHistory(
    async (fromUs, toUs, next) => {
      const from = next === null ? fromUs / 1e6 : Number(next.slice(1));
      asked.push([from, toUs / 1e6]);
      const until = Math.min(from + 4, toUs / 1e6);
      const frames = Array.from({ length: until - from }, (_, k) => frame((from + k) % 256));
      return { frames, next: until < toUs / 1e6 ? `p${until}` : null };
    },
    () => nowUs,
  );
  return { asked, history };
}

describe("recorded frames", () => {
  it("come whole, in order, over page borders", async () => {
    const { history, asked } = recorded();
    const frames = await history.range(12e6, 25e6);
    expect(frames.map(([value]) => value)).toEqual(Array.from({ length: 20 }, (_, k) => 10 + k));
    expect(asked.toSorted(([a], [b]) => a - b).map(([from]) => from)).toEqual([10, 14, 18, 20, 24, 28]);
  });

  it("are asked for once, also while they are under way", async () => {
    const { history, asked } = recorded();
    await Promise.all([history.range(0, 5e6), history.range(2e6, 9e6)]);
    await history.range(0, 9e6);
    expect(asked).toHaveLength(3);
  });

  it("are asked for again while they may still grow", async () => {
    const { history, asked } = recorded(20e6);
    await history.range(0, 9e6);
    await history.range(0, 9e6);
    expect([asked.length, history.kept]).toEqual([6, 0]);
  });

  it("stay within a bound, the least used going first", async () => {
    const { history, asked } = recorded();
    for (let k = 0; k < 40; k += 1) {
      await history.range(0, 1);
      await history.range(k * PIECE_US, k * PIECE_US + 1);
    }
    expect(history.kept).toBe(36);
    const before = asked.length;
    await history.range(0, 1);
    expect(asked.length).toBe(before);
    await history.range(PIECE_US, PIECE_US + 1);
    expect(asked.length).toBe(before + 3);
  });

  it("are asked for again after a failure, which is the caller's to tell", async () => {
    let fails = true;
    const history = new FrameHistory(
      async () => {
        if (fails) throw new Error("503");
        return { frames: [frame(1)], next: null };
      },
      () => 1e12,
    );
    await expect(history.range(0, 1)).rejects.toThrow("503");
    fails = false;
    expect(await history.range(0, 1)).toEqual([frame(1)]);
  });

  it("[W3] go on by the server's word, never by time: a page may end before a clock was set back", async () => {
    const asked: (readonly [number, number, string | null])[] = [];
    const history = new FrameHistory(
      async (fromUs, toUs, next) => {
        asked.push([fromUs, toUs, next]);
        return { frames: [frame(asked.length)], next: ["a", "b", null][asked.length - 1] ?? null };
      },
      () => 1e12,
    );
    expect(await history.range(0, 1)).toEqual([frame(1), frame(2), frame(3)]);
    expect(asked.map(([fromUs, , next]) => [fromUs, next])).toEqual([
      [0, null],
      [0, "a"],
      [0, "b"],
    ]);
  });

  it("end where a server's pages do not get on", async () => {
    let asked = 0;
    const history = new FrameHistory(
      async () => {
        asked += 1;
        return { frames: asked === 1 ? [frame(1)] : [frame(2)], next: "same" };
      },
      () => 1e12,
    );
    await history.range(0, 1);
    expect(asked).toBe(2);
  });
});

describe("an answer of frames", () => {
  it("is cut at its lengths", () => {
    expect(splitFrames(new Uint8Array([2, 0, 0, 0, 7, 8, 1, 0, 0, 0, 9]))).toEqual([new Uint8Array([7, 8]), frame(9)]);
    expect(splitFrames(new Uint8Array())).toEqual([]);
  });

  it.each([[[1]], [[2, 0, 0, 0, 7]], [[0, 0, 0, 0]], [[255, 255, 255, 255, 1]]])("is refused whole: %j", (bytes) => {
    expect(() => splitFrames(new Uint8Array(bytes))).toThrow(MalformedHistory);
  });
});

describe("breaks of a recording", () => {
  /** A header of 50 samples at 500 Hz: 100 ms. */
  const header = (atMs: number, flags = 0): Uint8Array => {
    const bytes = new Uint8Array(52);
    bytes.set([0x45, 0x43]);
    const view = new DataView(bytes.buffer);
    view.setUint8(3, flags);
    view.setBigInt64(16, BigInt(atMs) * 1_000_000n, true);
    view.setUint32(32, 500_000, true);
    view.setUint16(36, 50, true);
    return bytes;
  };

  it("(W2) are where frames do not follow each other, whatever order they are stored in", () => {
    const frames = [header(0), header(100), header(400), header(300), header(600, 128)];
    expect(breaksOf(frames)).toEqual([
      { kind: "gap", fromUs: 200_000, toUs: 300_000 },
      { kind: "gap", fromUs: 500_000, toUs: 600_000 },
      { kind: "session", fromUs: 600_000, toUs: 600_000 },
    ]);
  });

  it("of the whole recording and of a page are told once, however their times were rounded", () => {
    const whole = readBreaks({
      breaks: [
        { kind: "gap", from_us: 200_000, to_us: 300_000 },
        { kind: "session", from_us: 900_000, to_us: 900_000 },
        { kind: "gap", from_us: 5, to_us: 4 },
        { kind: "gap", from_us: "5" },
      ],
    });
    expect(whole).toHaveLength(2);
    const page = [
      { kind: "gap", fromUs: 200_000.4, toUs: 300_000 },
      { kind: "gap", fromUs: 900_000, toUs: 950_000 },
    ] as const;
    expect(mergeBreaks(whole, page)).toEqual([...whole, page[1]]);
  });

  it("are none in a whole recording, or in what is no frame", () => {
    expect(breaksOf([header(0, 128), header(100), header(100), header(200)])).toEqual([]);
    expect(breaksOf([new Uint8Array(52), frame(1), new Uint8Array()])).toEqual([]);
  });
});
