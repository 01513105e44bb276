/** The browser's fold against what Python folded: tests/vectors/signaling/folds.json. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import type { AnyEvent, Consult } from "../protocol";
import { applyEvent, RevisionGap } from "./apply";

interface Fold {
  seed: number;
  snapshot: Consult;
  events: AnyEvent[];
  states: Record<string, Consult>;
}

const path = resolve(import.meta.dirname, "../../../tests/vectors/signaling/folds.json");
const folds = JSON.parse(readFileSync(path, "utf8")) as Fold[];

describe("applyEvent", () => {
  it.each(folds)("[CO4] folds seed $seed as Python does", ({ snapshot, events, states }) => {
    let checked = 0;
    let consult = snapshot;
    for (const event of events) {
      consult = applyEvent(consult, event);
      const expected = states[String(event.revision)];
      if (expected === undefined) continue;
      expect(consult).toEqual(expected);
      checked += 1;
    }
    expect(checked).toBe(Object.keys(states).length);
    expect(checked).toBeGreaterThan(1);
  });

  it("[CO3] ignores what the snapshot already contains", () => {
    const { snapshot, events } = first();
    const present = events.reduce(applyEvent, snapshot);
    expect(events.reduce(applyEvent, present)).toBe(present);
  });

  it("[CO4] throws at a hole instead of folding over it", () => {
    const { snapshot, events } = first();
    expect(() => events.filter((event) => event.revision !== 3).reduce(applyEvent, snapshot)).toThrow(RevisionGap);
  });
});

function first(): Fold {
  const fold = folds[0];
  if (fold === undefined) throw new Error("no vectors");
  return fold;
}
