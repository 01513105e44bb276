/**
 * When the pictures on screen were taken, by the server's clock: what the ECG beside them is drawn to, and compared with.
 *
 * Three things come together here: the relay's maps and answers to pings from `ctl`, and from each video element what it
 * has just shown. The page has a clock of its own beside the one of the ECG's worker: their times do not begin together.
 */
import { decode, encode } from "@msgpack/msgpack";
import { ServerClock } from "../waveform/clock";
import { readRtpMaps, VideoTime } from "../waveform/videoTime";

export interface PictureAge {
  readonly ms: number;
  /** It may be older: it is dated by its arrival at the relay, or only its standing still is known. */
  readonly isLeast: boolean;
  /** Off by at most this, the clock of this browser included; null while not known. */
  readonly errorMs: number | null;
}

/** Server times of today are far above; an answer below is of something else. */
const EPOCH_US = 1e15;

export class PictureTimes {
  private readonly clock = new ServerClock();
  private readonly times = new Map<string, VideoTime>();
  private readonly pings = new Set<number>();

  /** @param send to the relay on `ctl`; nothing while that is not open */
  constructor(private readonly send: (message: Uint8Array<ArrayBuffer>) => void) {}

  /** Ask what time it is, when that is due; call a few times a second while `ctl` is open. */
  tend(nowMs: number): void {
    const nowUs = Math.round(nowMs * 1000);
    if (!this.clock.pingDue(nowUs)) return;
    if (this.pings.size > MAX_PINGS) this.pings.clear();
    this.pings.add(nowUs);
    this.send(encode({ t: "ping", c: nowUs }).slice());
  }

  /** The path is new, perhaps to another relay: what it said of its pictures holds no longer. */
  restart(): void {
    this.clock.restart();
    this.pings.clear();
    this.times.clear();
  }

  /** A message of the relay on `ctl`; true when it was for nobody else. */
  takeControl(message: Uint8Array, nowMs: number): boolean {
    let value: unknown;
    try {
      value = decode(message);
    } catch {
      return false;
    }
    if (typeof value !== "object" || value === null) return false;
    const { t, c, s } = value as Record<string, unknown>;
    if (t === "map") {
      for (const map of readRtpMaps(value)) this.of(map.producer).onMap(map);
      return true;
    }
    if (t !== "pong" || typeof c !== "number" || typeof s !== "number" || !this.pings.delete(c)) return false;
    if (s > EPOCH_US) this.clock.onPong(c, s, nowMs * 1000);
    return true;
  }

  /** Of these there are pictures; the others are forgotten. */
  keep(producers: ReadonlySet<string>): void {
    for (const producer of this.times.keys()) if (!producers.has(producer)) this.times.delete(producer);
  }

  /** A frame of this Producer will be on the glass at `displayMs` of `performance.now()`. */
  onShown(producer: string, rtpTimestamp: number, displayMs: number): void {
    const serverUs = this.clock.serverNowUs(displayMs * 1000);
    if (serverUs !== null) this.times.get(producer)?.onFrame({ rtpTimestamp, serverUs });
  }

  /** Capture to screen, for `EcgView.videoDelayMs`; null while not known, and for a picture that has stopped. */
  delayMs(producer: string | null, nowMs: number): number | null {
    const serverUs = this.clock.serverNowUs(nowMs * 1000);
    const time = producer === null ? undefined : this.times.get(producer);
    return serverUs === null || time === undefined ? null : time.delayMsAt(serverUs);
  }

  /** [W43] How old what is on screen is now; null while no map tells. */
  age(producer: string | null, nowMs: number): PictureAge | null {
    const serverUs = this.clock.serverNowUs(nowMs * 1000);
    const time = producer === null ? undefined : this.times.get(producer);
    const ms = serverUs === null ? null : (time?.ageMsAt(serverUs) ?? null);
    const basis = time?.basis ?? null;
    if (ms === null || basis === null) return null;
    const clockUs = this.clock.uncertaintyUs;
    const isLeast = basis.how === "arrival";
    const errorMs = isLeast || basis.errorUs === null || clockUs === null ? null : (basis.errorUs + clockUs) / 1000;
    return { ms, isLeast, errorMs };
  }

  private of(producer: string): VideoTime {
    const known = this.times.get(producer);
    if (known !== undefined) return known;
    const made = new VideoTime();
    this.times.set(producer, made);
    return made;
  }
}

/** Unanswered ones; on a path that is slow they are asked again anyway. */
const MAX_PINGS = 64;
