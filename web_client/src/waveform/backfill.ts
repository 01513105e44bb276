/**
 * Asks the store for what the relay no longer has (W4).
 *
 * The relay keeps 30 s; the store keeps everything that reached it. What was asked for in vain, or is called gone, is
 * fetched from there by number: one request at a time, newest first since that is on screen, in bounded pieces with a
 * pause in between, and ever more seldom while it fails. The store itself may still be repairing, so a frame that it
 * lacks is asked for again for a while; only then is the hole lost. Late frames are placed behind the pen, never live.
 */

import type { SeqRange } from "./tracker";

/** Frames asked for at once: ten seconds of a sane stream. */
const MAX_PIECE = 100;
const PAUSE_US = 250_000;
const FIRST_BACKOFF_US = 1_000_000;
const MAX_BACKOFF_US = 30_000_000;
/** An answer that does not come by then is none. */
const ANSWER_WITHIN_US = 25_000_000;
/** After this the store has what it will ever have: it writes each second and repairs within the relay's memory. */
const SETTLED_US = 15_000_000;
/** Older than the display's own memory: nobody could place it any more. */
const USELESS_US = 60_000_000;

interface Wait {
  readonly sinceUs: number;
  tries: number;
  nextUs: number;
}

export class Backfill {
  private readonly waiting = new Map<number, Wait>();
  private readonly lost = new Set<number>();
  private asked: { readonly range: SeqRange; readonly atUs: number } | null = null;
  private failures = 0;
  private pauseUntilUs = Number.NEGATIVE_INFINITY;

  /**
   * What to ask for now; null while nothing is due.
   *
   * @param givenUp numbers that are missing and that the relay will not send
   */
  due(givenUp: ReadonlySet<number>, nowUs: number): SeqRange | null {
    this.follow(givenUp, nowUs);
    if (this.asked !== null) {
      if (nowUs - this.asked.atUs < ANSWER_WITHIN_US) return null;
      this.failed(nowUs);
    }
    if (nowUs < this.pauseUntilUs) return null;
    const range = newestRun([...this.waiting].filter(([, { nextUs }]) => nextUs <= nowUs).map(([seq]) => seq));
    if (range !== null) this.asked = { range, atUs: nowUs };
    return range;
  }

  /** Whether this is the answer that is waited for; a late one is thrown away. */
  isAsked([first, last]: SeqRange): boolean {
    const range = this.asked?.range;
    return range !== undefined && range[0] === first && range[1] === last;
  }

  /** The store answered, and what it had has been placed. */
  answered(isMissing: (seq: number) => boolean, nowUs: number): void {
    const { asked } = this;
    if (asked === null) return;
    this.asked = null;
    this.failures = 0;
    this.pauseUntilUs = nowUs + PAUSE_US;
    for (const [seq, wait] of this.waiting) {
      if (seq < asked.range[0] || seq > asked.range[1]) continue;
      if (!isMissing(seq)) this.waiting.delete(seq);
      else if (nowUs - wait.sinceUs >= SETTLED_US) this.giveUp(seq);
      else {
        wait.nextUs = nowUs + FIRST_BACKOFF_US * 2 ** Math.min(wait.tries, 3);
        wait.tries += 1;
      }
    }
  }

  /** The store could not be asked. */
  failed(nowUs: number): void {
    this.asked = null;
    this.pauseUntilUs = nowUs + Math.min(MAX_BACKOFF_US, FIRST_BACKOFF_US * 2 ** Math.min(this.failures, 5));
    this.failures += 1;
  }

  /** Whether a frame that the relay will not send may still come from the store. */
  hopes(seq: number): boolean {
    return !this.lost.has(seq);
  }

  private giveUp(seq: number): void {
    this.waiting.delete(seq);
    this.lost.add(seq);
  }

  private follow(givenUp: ReadonlySet<number>, nowUs: number): void {
    for (const seq of this.waiting.keys()) if (!givenUp.has(seq)) this.waiting.delete(seq);
    for (const seq of this.lost) if (!givenUp.has(seq)) this.lost.delete(seq);
    for (const seq of givenUp) {
      if (!this.waiting.has(seq) && !this.lost.has(seq))
        this.waiting.set(seq, { sinceUs: nowUs, tries: 0, nextUs: nowUs });
    }
    for (const [seq, { sinceUs }] of this.waiting) if (nowUs - sinceUs > USELESS_US) this.giveUp(seq);
  }
}

/** The newest numbers that follow each other, at most a piece of them. */
function newestRun(seqs: readonly number[]): SeqRange | null {
  const sorted = [...seqs].sort((a, b) => b - a);
  const [last] = sorted;
  if (last === undefined) return null;
  let first = last;
  for (const seq of sorted.slice(1)) {
    if (seq !== first - 1 || last - seq >= MAX_PIECE) break;
    first = seq;
  }
  return [first, last];
}
