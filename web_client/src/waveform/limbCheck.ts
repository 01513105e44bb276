/**
 * Whether measured limb leads agree with I and II. [W7]
 *
 * III = II - I, aVR = -(I + II)/2, aVL = I - II/2 and aVF = II - I/2 hold for any body; a
 * difference of more than one step means swapped cables in the device's wiring, unequal
 * filters or a broken source, and is said, not repaired.
 */

import type { WaveformFrame } from "./frame";
import { laneOf, type Term } from "./lanes";

const COMPUTABLE = ["III", "aVR", "aVL", "aVF"] as const;
const TOLERANCE_STEPS = 1;

interface Check {
  /** Row of the stream that was measured. */
  readonly lead: number;
  readonly terms: readonly Term[];
}

export class LimbCheck {
  /** Samples so far that disagree. */
  violations = 0;
  private readonly checks: readonly Check[];

  constructor(leads: readonly string[]) {
    this.checks = COMPUTABLE.flatMap((name) => {
      const [measured] = laneOf(name, leads).terms;
      const without = leads.map((lead) => (lead.toLowerCase() === name.toLowerCase() ? "" : lead));
      const { terms } = laneOf(name, without);
      const isMeasured = !laneOf(name, leads).derived;
      return measured !== undefined && isMeasured && terms.length === 2 ? [{ lead: measured.lead, terms }] : [];
    });
  }

  /** Compare one frame; answers whether it disagrees anywhere. Samples that are no signal are left out. */
  look(frame: WaveformFrame): boolean {
    let found = 0;
    for (const check of this.checks) found += violationsIn(frame, check);
    this.violations += found;
    return found > 0;
  }
}

function violationsIn(frame: WaveformFrame, { lead, terms }: Check): number {
  const [one, two] = terms as readonly [Term, Term];
  const rows = [lead, one.lead, two.lead].map((wanted) => frame.leads.indexOf(wanted));
  const saturated = [lead, one.lead, two.lead].some((bit) => ((frame.saturatedMask >> bit) & 1) === 1);
  if (rows.some((row) => row < 0) || saturated) return 0;
  const [measured, first, second] = rows as [number, number, number];
  const runs = frame.invalidRuns.filter((run) => [lead, one.lead, two.lead].includes(run.lead));
  const isSignal = (i: number): boolean => !runs.some((run) => run.first <= i && i < run.first + run.count);
  const at = (row: number, i: number): number => frame.samples[row * frame.n + i] as number;
  let violations = 0;
  for (let i = 0; i < frame.n; i += 1) {
    const expected = one.weight * at(first, i) + two.weight * at(second, i);
    if (Math.abs(at(measured, i) - expected) > TOLERANCE_STEPS && isSignal(i)) violations += 1;
  }
  return violations;
}
