/**
 * One participant's connection to one consult, kept up as long as that makes sense.
 *
 * Every attempt takes a token, opens a new socket and sends `join`; the answer
 * is a snapshot. A token of which no socket ever came up is used again. Events are passed on in revision order without holes:
 * when one is missing (an event jumps, or a beat names a later revision) the
 * missing ones are fetched with `sync` first. When to try again and what to
 * tell the person is decided in `machine.ts`; folding events is `store/apply.ts`.
 */
import {
  type AnyCommand,
  type AnyEvent,
  type AnySignal,
  type Consult,
  type GoodbyeReason,
  type Joined,
  PROTOCOL_VERSION,
  type RefusalBody,
  type ResultFor,
} from "../protocol";
import {
  delayMs,
  FRESH_FOR_MS,
  INITIAL,
  type Input,
  isActive,
  type Machine,
  type Phase,
  step,
  turnMs,
} from "./machine";
import { BusyError, NotOpenedError, RefusalError, UnansweredError } from "./refusal";
import { type OpenWire, socketIo, type Wire } from "./wire";

export interface ConnectionStatus {
  phase: Phase;
  /** A beat was heard in the last 5 s and more may come. When false, clinical views must blank themselves (W19). */
  fresh: boolean;
  /** `performance.now()` at which the present trouble began. */
  troubleSinceMs: number | null;
  /** Why the server closed the connection, if it said so. */
  goodbye: GoodbyeReason | null;
  /** Why the server would not let us in. */
  refusal: RefusalBody | null;
  /** `performance.now()` at which it is our turn to ask again; the server is busy. [SE16] */
  waitUntilMs: number | null;
}

export interface ConsultSocketOptions {
  /**
   * Fetch a new consult token (POST /api/consults/{id}/token).
   * Throw `RefusalError` when asking again is pointless, `BusyError` when the server says when to; any other error is
   * retried.
   */
  getToken: () => Promise<string>;
  /**
   * Joined; `joined.snapshot` replaces everything known.
   * `resumed` is true when trouble lasted less than 15 s: Transports made before may still work.
   */
  onJoined?: (joined: Joined, resumed: boolean) => void;
  /** Too much was missed: this replaces everything known. */
  onSnapshot?: (consult: Consult) => void;
  /** In revision order, without holes, each once. */
  onEvent?: (event: AnyEvent) => void;
  onSignal?: (signal: AnySignal) => void;
  onStatus?: (status: ConnectionStatus) => void;
  /** For tests. */
  open?: OpenWire;
  now?: () => number;
  random?: () => number;
}

const COMMAND_TIMEOUT_MS = 10_000;
const TOKEN_TIMEOUT_MS = 5_000;
/** A token lives 60 s by the server's clock. */
const TOKEN_KEPT_MS = 45_000;
const TICK_MS = 250;
const MAX_WAITING_EVENTS = 1_000;

export const INITIAL_STATUS: ConnectionStatus = {
  phase: "idle",
  fresh: false,
  troubleSinceMs: null,
  goodbye: null,
  refusal: null,
  waitUntilMs: null,
};

export class ConsultSocket {
  readonly #options: ConsultSocketOptions;
  readonly #open: OpenWire;
  readonly #now: () => number;
  readonly #random: () => number;
  #machine: Machine = INITIAL;
  #status: ConnectionStatus = INITIAL_STATUS;
  #wire: Wire | null = null;
  /** Raised whenever the present attempt or socket is abandoned; callbacks of older ones are ignored. */
  #generation = 0;
  /** When a beat was last heard: by the page's clock, and by the wall clock. */
  #lastBeat: { readonly atMs: number; readonly wallMs: number } | null = null;
  #revision = -1;
  #syncing = false;
  #waiting: AnyEvent[] = [];
  #joinedBefore = false;
  /** Not used yet, as far as can be known. */
  #token: { readonly value: string; readonly atMs: number } | null = null;
  #ticker: ReturnType<typeof setInterval> | null = null;
  #retryTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(options: ConsultSocketOptions) {
    this.#options = options;
    this.#open = options.open ?? socketIo();
    this.#now = options.now ?? (() => performance.now());
    this.#random = options.random ?? Math.random;
  }

  get status(): ConnectionStatus {
    return this.#status;
  }

  /** Join the consult and stay in it. */
  start(): void {
    this.#begin({ type: "start" });
  }

  /** What the Rejoin button does. */
  retry(): void {
    this.#begin({ type: "retry" });
  }

  /** Leave for good: the others see it at once. */
  async leave(): Promise<void> {
    try {
      if (this.#machine.phase === "connected") await this.command({ type: "leave" }, 2_000);
    } catch (error) {
      // The server removes us after its grace time in any case.
      if (!(error instanceof UnansweredError || error instanceof RefusalError)) throw error;
    } finally {
      this.close();
    }
  }

  /** Drop the connection without leaving (page unload): the participant may come back. */
  close(): void {
    this.#input({ type: "leave" });
    this.#abandon();
    this.#joinedBefore = false;
    this.#token = null;
    if (this.#ticker !== null) clearInterval(this.#ticker);
    this.#ticker = null;
    globalThis.document?.removeEventListener("visibilitychange", this.#tick);
    globalThis.window?.removeEventListener("pagehide", this.#putAway);
  }

  /**
   * Ask the server for something.
   *
   * @throws RefusalError when it declines.
   * @throws UnansweredError when there is no connection or no answer in time.
   */
  async command<T extends AnyCommand>(command: T, timeoutMs = COMMAND_TIMEOUT_MS): Promise<ResultFor<T>> {
    if (this.#wire === null || this.#machine.phase !== "connected") {
      throw new UnansweredError(command.type, "not connected");
    }
    return ask(this.#wire, command, timeoutMs);
  }

  #begin(input: Input): void {
    if (isActive(this.#machine)) return;
    this.#input(input);
    if (this.#ticker === null) {
      this.#ticker = setInterval(this.#tick, TICK_MS);
      // A page that slept must learn that it is stale before it paints again (W14).
      globalThis.document?.addEventListener("visibilitychange", this.#tick);
      globalThis.window?.addEventListener("pagehide", this.#putAway);
    }
    this.#attemptAfter(0);
  }

  #input(input: Input): void {
    this.#machine = step(this.#machine, input, this.#now());
    if (!isActive(this.#machine)) this.#abandon();
    this.#publish();
  }

  #publish(): void {
    const { phase, troubleSinceMs, goodbye, refusal, waitUntilMs } = this.#machine;
    const fresh = this.#silentMs() < FRESH_FOR_MS && isActive(this.#machine);
    const next: ConnectionStatus = { phase, fresh, troubleSinceMs, goodbye, refusal, waitUntilMs };
    const keys = Object.keys(next) as (keyof ConnectionStatus)[];
    if (keys.every((key) => next[key] === this.#status[key])) return;
    this.#status = next;
    this.#options.onStatus?.(next);
  }

  readonly #tick = (): void => {
    if (this.#machine.phase === "connected" && this.#silentMs() >= FRESH_FOR_MS) this.#lost();
    else this.#input({ type: "tick" });
  };

  /** The browser may keep the page as it stands and show it again on "back", hours later: it keeps no patient (W19). */
  readonly #putAway = (event: PageTransitionEvent): void => {
    if (!event.persisted) return;
    this.#lastBeat = null;
    if (this.#machine.phase === "connected") this.#lost();
    else this.#publish();
  };

  #beatHeard(): void {
    this.#lastBeat = { atMs: this.#now(), wallMs: Date.now() };
  }

  /** Since the last beat. On some systems the page's clock stands still while the computer sleeps (W14). */
  #silentMs(): number {
    if (this.#lastBeat === null) return Number.POSITIVE_INFINITY;
    return Math.max(this.#now() - this.#lastBeat.atMs, Date.now() - this.#lastBeat.wallMs);
  }

  #lost(): void {
    this.#abandon();
    this.#input({ type: "lost" });
    if (isActive(this.#machine)) this.#attemptAfter(delayMs(0, this.#random()));
  }

  #abandon(): void {
    this.#generation += 1;
    this.#wire?.close();
    this.#wire = null;
    this.#syncing = false;
    this.#waiting = [];
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
  }

  #attemptAfter(waitMs: number): void {
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => void this.#attempt(), waitMs);
  }

  async #attempt(): Promise<void> {
    this.#abandon();
    const generation = this.#generation;
    try {
      const token = await this.#takeToken();
      if (generation !== this.#generation) return;
      const wire = await this.#openWith(token, generation);
      if (generation !== this.#generation) {
        wire.close();
        return;
      }
      this.#wire = wire;
      const joined = await ask(wire, { type: "join" }, COMMAND_TIMEOUT_MS);
      if (generation === this.#generation) this.#joined(joined);
    } catch (error) {
      if (generation === this.#generation) this.#failed(error);
    }
  }

  async #takeToken(): Promise<{ readonly value: string; readonly atMs: number }> {
    const kept = this.#token;
    this.#token = null;
    if (kept !== null && this.#now() - kept.atMs < TOKEN_KEPT_MS) return kept;
    const atMs = this.#now();
    return { value: await within(TOKEN_TIMEOUT_MS, this.#options.getToken()), atMs };
  }

  async #openWith(token: { readonly value: string; readonly atMs: number }, generation: number): Promise<Wire> {
    try {
      return await this.#open({ token: token.value, protocol: PROTOCOL_VERSION }, this.#listener(generation));
    } catch (error) {
      if (error instanceof NotOpenedError && generation === this.#generation) this.#token = token;
      throw error;
    }
  }

  #failed(error: unknown): void {
    this.#abandon();
    if (error instanceof BusyError) {
      const waitMs = turnMs(error.retryAfterMs, this.#random());
      this.#input({ type: "busy", untilMs: this.#now() + waitMs });
      if (isActive(this.#machine)) this.#attemptAfter(waitMs);
      return;
    }
    if (error instanceof RefusalError) this.#input({ type: "refused", refusal: error.body() });
    else this.#input({ type: "attempt_failed" });
    if (isActive(this.#machine)) this.#attemptAfter(delayMs(this.#machine.attempt, this.#random()));
  }

  #joined(joined: Joined): void {
    const resumed = this.#joinedBefore && this.#machine.phase === "reconnecting";
    this.#joinedBefore = true;
    this.#beatHeard();
    this.#revision = joined.snapshot.revision;
    this.#options.onJoined?.(joined, resumed);
    this.#input({ type: "joined" });
    this.#drain();
  }

  #listener(generation: number) {
    const current = (): boolean => generation === this.#generation;
    return {
      event: (data: unknown): void => {
        if (current()) this.#event(data as AnyEvent);
      },
      signal: (data: unknown): void => {
        if (current()) this.#signal(data as AnySignal);
      },
      closed: (): void => {
        if (!current()) return;
        if (this.#machine.phase === "connected") this.#lost();
        else this.#failed(new Error("socket closed"));
      },
    };
  }

  #event(event: AnyEvent): void {
    if (this.#syncing || this.#machine.phase !== "connected") {
      // What does not fit is found missing afterwards and fetched.
      if (this.#waiting.length < MAX_WAITING_EVENTS) this.#waiting.push(event);
    } else if (event.revision === this.#revision + 1) {
      this.#revision = event.revision;
      this.#options.onEvent?.(event);
    } else if (event.revision > this.#revision) {
      this.#waiting.push(event);
      void this.#sync();
    }
  }

  #signal(signal: AnySignal): void {
    if (signal.type === "beat") {
      this.#beatHeard();
      if (signal.revision > this.#revision && this.#machine.phase === "connected") void this.#sync();
    }
    this.#options.onSignal?.(signal);
    if (signal.type === "goodbye") this.#goodbye(signal.reason);
    else this.#publish();
  }

  #goodbye(reason: GoodbyeReason): void {
    this.#input({ type: "goodbye", reason });
    if (!isActive(this.#machine)) return;
    this.#abandon();
    this.#attemptAfter(delayMs(0, this.#random()));
  }

  async #sync(): Promise<void> {
    const wire = this.#wire;
    if (this.#syncing || wire === null) return;
    const generation = this.#generation;
    this.#syncing = true;
    try {
      const result = await ask(wire, { type: "sync", since: this.#revision }, COMMAND_TIMEOUT_MS);
      if (generation !== this.#generation) return;
      this.#syncing = false;
      if (result.snapshot !== null) {
        this.#revision = result.snapshot.revision;
        this.#options.onSnapshot?.(result.snapshot);
      }
      for (const event of result.events) this.#event(event);
      this.#drain();
    } catch {
      // Refused or unanswered: a new socket brings a snapshot, which is all that sync could have given.
      if (generation === this.#generation) this.#lost();
    }
  }

  #drain(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const event of waiting) this.#event(event);
  }
}

async function ask<T extends AnyCommand>(wire: Wire, command: T, timeoutMs: number): Promise<ResultFor<T>> {
  const ack = await wire.command(command, timeoutMs);
  if (ack.ok && ack.result !== undefined && ack.result !== null) return ack.result as ResultFor<T>;
  throw new RefusalError(ack.refusal ?? { code: "internal", en: "No result.", zh: "没有结果。" });
}

function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("timed out")), timeoutMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
