import { describe, expect, it } from "vitest";
import type { Consult, EcgMark } from "../protocol";
import { draftOf, endsOf, lastOwn, marksOf, textOf } from "./marks";

const T0 = 1_790_000_000_000_000;
const place = { streamId: 7, version: 3 };
const point = (atUs: number, uv = 0) => ({ lead: "II", atUs: T0 + atUs, uv });
const mark = (id: string, by: string, at_ms: number, changes: Partial<EcgMark> = {}): EcgMark => ({
  ...draftOf(id, "marker", place, point(0), null, id),
  by,
  at_ms,
  ...changes,
});

describe("marks", () => {
  it("(W24) are those of the stream and context on screen, oldest first", () => {
    const consult = {
      context: { version: 3 },
      ecg_marks: {
        b: mark("b", "me", 2),
        a: mark("a", "other", 1),
        old: mark("old", "me", 3, { context_version: 2 }),
        elsewhere: mark("elsewhere", "me", 4, { stream_id: 8 }),
      },
    } as unknown as Consult;
    expect(marksOf(consult, 7).map(({ id }) => id)).toEqual(["a", "b"]);
    expect(marksOf({ ...consult, context: null }, 7)).toEqual([]);
  });

  it("can be taken back by their author only, the newest first", () => {
    const marks = [mark("a", "me", 1), mark("b", "other", 2)];
    expect([lastOwn(marks, "me")?.id, lastOwn(marks, "nobody")]).toEqual(["a", null]);
  });

  it("(W32) carry times and voltages of samples, early end first, in whole units", () => {
    const draft = draftOf("c", "caliper", place, point(820_000.2, 980.4), point(0, -120.6));
    expect(draft).toMatchObject({ from_us: T0, from_uv: -121, to_us: T0 + 820_000, to_uv: 980 });
    expect(textOf(draft)).toBe("820 ms, 1.10 mV, 73/min");
    expect(endsOf(draft).to).toEqual({ lead: "II", atUs: T0 + 820_000, uv: 980 });
  });

  it("print no QTc without its formula and RR", () => {
    const qt = (text: string) => textOf(draftOf("q", "qt", place, point(0), point(386_000), text));
    const whole = "QTc 414 ms (Fridericia), QT 386 ms, RR 812 ms, n 3";
    expect([qt(whole), qt("QTc 414 ms"), qt("")]).toEqual([whole, "QT 386 ms", "QT 386 ms"]);
  });

  it("hold no more text than the wire", () => {
    expect(draftOf("n", "note", place, point(0), null, ` ${"x".repeat(300)}`).text).toHaveLength(200);
  });
});
