/**
 * QT corrected for the heart rate, by four named formulas.
 *
 * A QTc means nothing without its formula and its RR, so neither is ever left out: what is shown, shared and stored is
 * a `QtReading` as a whole, and its text names both. Several beats are told as the mean of each beat's own QTc (in an
 * irregular rhythm the mean of the intervals would hide what each RR did). Pure.
 *
 * Bazett 1920, Fridericia 1920, Sagie et al. 1992 (Framingham), Hodges 1983; the AHA/ACCF/HRS statement of 2009 (part
 * IV) on when Bazett misleads.
 */

export const QT_FORMULAS = ["fridericia", "bazett", "framingham", "hodges"] as const;

export type QtFormula = (typeof QT_FORMULAS)[number];

/** Names of people and places: the same in every language. */
export const FORMULA_NAMES: Readonly<Record<QtFormula, string>> = {
  bazett: "Bazett",
  fridericia: "Fridericia",
  framingham: "Framingham",
  hodges: "Hodges",
};

/** One beat: its QT and the RR before it, in ms. */
export interface QtBeat {
  readonly qtMs: number;
  readonly rrMs: number;
}

/** @returns QTc in ms */
export function correctQt({ qtMs, rrMs }: QtBeat, formula: QtFormula): number {
  const rr = rrMs / 1000;
  switch (formula) {
    case "bazett":
      return qtMs / Math.sqrt(rr);
    case "fridericia":
      return qtMs / Math.cbrt(rr);
    case "framingham":
      return qtMs + 154 * (1 - rr);
    case "hodges":
      return qtMs + 1.75 * (60 / rr - 60);
  }
}

/** Intervals outside are a slip of the hand, not a heart. */
const QT_MS = [150, 800] as const;
const RR_MS = [200, 3_000] as const;

export type QtProblem = "qt_range" | "rr_range" | "qt_beyond_rr";

/** Why this beat cannot be right; `null` when it can. */
export function qtProblem({ qtMs, rrMs }: QtBeat): QtProblem | null {
  if (!(qtMs >= QT_MS[0] && qtMs <= QT_MS[1])) return "qt_range";
  if (!(rrMs >= RR_MS[0] && rrMs <= RR_MS[1])) return "rr_range";
  return qtMs >= rrMs ? "qt_beyond_rr" : null;
}

export interface QtReading {
  readonly formula: QtFormula;
  readonly beats: number;
  /** Means over the beats, ms. */
  readonly qtMs: number;
  readonly rrMs: number;
  readonly qtcMs: number;
}

/** The mean over beats that all make sense; `null` for none. */
export function readQt(beats: readonly QtBeat[], formula: QtFormula): QtReading | null {
  const sound = beats.filter((beat) => qtProblem(beat) === null);
  if (sound.length === 0) return null;
  const mean = (value: (beat: QtBeat) => number): number =>
    sound.reduce((sum, beat) => sum + value(beat), 0) / sound.length;
  return {
    formula,
    beats: sound.length,
    qtMs: mean(({ qtMs }) => qtMs),
    rrMs: mean(({ rrMs }) => rrMs),
    qtcMs: mean((beat) => correctQt(beat, formula)),
  };
}

/** Between 60 and 100 per minute the formulas agree; outside Bazett leads astray, and a linear one is advised. */
export function isBazettDoubtful({ formula, rrMs }: QtReading): boolean {
  return formula === "bazett" && (rrMs < 600 || rrMs > 1000);
}

/** `QTc 412 ms (Fridericia), QT 386 ms, RR 812 ms, n 3`: complete, and `parseQt` reads it back. */
export function qtText(reading: QtReading): string {
  const [qtc, qt, rr] = [reading.qtcMs, reading.qtMs, reading.rrMs].map(Math.round);
  return `QTc ${qtc} ms (${FORMULA_NAMES[reading.formula]}), QT ${qt} ms, RR ${rr} ms, n ${reading.beats}`;
}

const QT_TEXT = /^QTc (\d{2,4}) ms \((\w+)\), QT (\d{2,4}) ms, RR (\d{2,4}) ms, n (\d{1,2})$/;

/** A reading that somebody shared; `null` when it is not complete, and then no QTc may be shown. */
export function parseQt(text: string): QtReading | null {
  const [, qtc, name, qt, rr, beats] = QT_TEXT.exec(text) ?? [];
  const formula = QT_FORMULAS.find((known) => FORMULA_NAMES[known] === name);
  if (formula === undefined) return null;
  return { formula, qtcMs: Number(qtc), qtMs: Number(qt), rrMs: Number(rr), beats: Number(beats) };
}

/** A Q onset lies at most this long before its R peak. */
const Q_TO_R_US = 200_000;

/**
 * The RR interval that ends with the R of the beat whose Q onset is given, from computed R peaks.
 *
 * @param runs R peaks, rising; each run is of one computation. Two computations place the same R a little differently
 *   and each misses what the other was not asked about, so an interval is never taken from one to the other.
 * @returns ms, of the first run that knows; `null` when that R or the one before it is not known
 */
export function rrBefore(qOnsetUs: number, runs: readonly (readonly number[])[]): number | null {
  for (const beatsUs of runs) {
    const at = beatsUs.findIndex((beat) => beat >= qOnsetUs);
    const [before, own] = [beatsUs[at - 1], beatsUs[at]];
    if (at >= 1 && own !== undefined && before !== undefined && own - qOnsetUs <= Q_TO_R_US)
      return (own - before) / 1000;
  }
  return null;
}
