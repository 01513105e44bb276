/**
 * Server time as this browser knows it, from pings on the control channel.
 *
 * The offset of the fastest of the recent answers is the best one: its half round trip
 * bounds the error, however slow the others were (NTP's clock filter). Pings go out
 * five times a second at first, then every 5 s (WAVEFORM.md section 5b).
 *
 * Two answers that cannot both be true mean that a clock stepped between them: the relay
 * was replaced, or this computer slept and its clock with it. Then only the newer counts,
 * or samples of before would be dated as if they were of now (W11, W14).
 */

const FAST_PINGS = 10;
const FAST_EVERY_US = 200_000;
const SLOW_EVERY_US = 5_000_000;
/** Answers are compared over this time; drift of 100 ppm makes 6 ms in it. */
const WINDOW_US = 60_000_000;
const MAX_RTT_US = 10_000_000;
/** Two sound clocks drift apart no faster. */
const DRIFT = 500e-6;
const SLACK_US = 2_000;

interface Answer {
  readonly atUs: number;
  readonly rttUs: number;
  readonly offsetUs: number;
}

export class ServerClock {
  private answers: Answer[] = [];
  private sent = 0;
  private nextPingUs = Number.NEGATIVE_INFINITY;

  /** Whether a ping is due; the caller sends `{t: "ping", c: nowUs}`. */
  pingDue(nowUs: number): boolean {
    if (nowUs < this.nextPingUs) return false;
    const fast = this.sent < FAST_PINGS || this.answers.length === 0;
    this.sent += 1;
    this.nextPingUs = nowUs + (fast ? FAST_EVERY_US : SLOW_EVERY_US);
    return true;
  }

  /** The path is new: measure fast again, keep what is known meanwhile. */
  restart(): void {
    this.sent = 0;
    this.nextPingUs = Number.NEGATIVE_INFINITY;
  }

  /** Nothing measured before may be believed any more. */
  forget(): void {
    this.answers = [];
    this.restart();
  }

  /** Take a pong: `clientUs` is what the ping carried, all in microseconds. */
  onPong(clientUs: number, serverUs: number, nowUs: number): void {
    const rttUs = nowUs - clientUs;
    if (!Number.isFinite(serverUs) || !(rttUs >= 0 && rttUs <= MAX_RTT_US)) return;
    const answer = { atUs: nowUs, rttUs, offsetUs: serverUs - clientUs - rttUs / 2 };
    const isSound = (known: Answer): boolean => nowUs - known.atUs <= WINDOW_US && agree(known, answer);
    this.answers = [...this.answers.filter(isSound), answer].slice(-64);
  }

  /** Server time now; null before the first answer. */
  serverNowUs(nowUs: number): number | null {
    const best = this.best();
    return best === null ? null : nowUs + best.offsetUs;
  }

  /** The error of `serverNowUs` is at most this; null before the first answer. */
  get uncertaintyUs(): number | null {
    const best = this.best();
    return best === null ? null : best.rttUs / 2;
  }

  /** Shortest recent round trip; null before the first answer. */
  get rttUs(): number | null {
    return this.best()?.rttUs ?? null;
  }

  private best(): Answer | null {
    let best: Answer | null = null;
    for (const answer of this.answers) if (best === null || answer.rttUs < best.rttUs) best = answer;
    return best;
  }
}

/** Each answer bounds the offset by half its round trip; the bounds must meet. */
function agree(older: Answer, newer: Answer): boolean {
  const room = (older.rttUs + newer.rttUs) / 2 + SLACK_US + DRIFT * (newer.atUs - older.atUs);
  return Math.abs(older.offsetUs - newer.offsetUs) <= room;
}
