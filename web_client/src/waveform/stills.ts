/**
 * Where the samples of a still page come from: the live ring while it still has them, else the archive.
 *
 * The first page keeps a copy of the whole ring, so going back within its minute asks
 * nobody. Older times are asked for with room on both sides; asking again for the same
 * time after an answer that did not have it would go on for ever, so that is not done.
 */

import type { WaveformStream } from "../protocol/messages";
import type { Receiver } from "./receiver";
import { keep, openRecording, type Recording } from "./stillPage";

/** Fetched before and after what the page shows. */
const ROOM_US = 30_000_000;
/** What is younger may not be in the store yet: it writes each second, and repairs within the relay's memory. */
const SETTLED_US = 20_000_000;
/** A page whose end was not stored yet is asked for again after this much more of the stream has come. */
const ASK_AGAIN_US = 2_000_000;

export interface Span {
  readonly fromUs: number;
  readonly toUs: number;
}

export class Stills {
  private ring: Recording | null = null;
  private archive: { readonly recording: Recording; readonly span: Span; readonly liveUs: number | null } | null = null;
  private asked: Span | null = null;
  /** Where the stream was when the store was asked. */
  private askedLiveUs: number | null = null;
  private edge = 0;
  private atUs = 0;

  constructor(
    private readonly stream: WaveformStream,
    private readonly receiver: Receiver,
    private readonly ask: ((fromUs: number, toUs: number) => void) | null,
  ) {}

  get isLoading(): boolean {
    return this.asked !== null;
  }

  /** What to show for a page of `samples` that ends at a time; null while nothing of it is here. */
  find(atUs: number, samples: number): Recording | null {
    const axis = this.receiver.tracker.axis();
    const { buffer } = this.receiver;
    this.atUs = atUs;
    const spanUs = samples * axis.usPerSample;
    if (!axis.empty && !buffer.empty) {
      this.edge = Math.ceil(axis.positionOf(atUs)) + 1;
      const from = this.edge - samples;
      const ring = this.ring?.buffer;
      const isKept = ring !== undefined && from >= ring.begin && this.edge <= ring.begin + ring.capacity;
      // Newer than what was kept: the ring has it, with whatever was repaired since.
      if (!isKept && (ring === undefined || (this.edge > ring.begin + ring.capacity && from >= buffer.oldest)))
        this.keepRing();
      const first = this.ring?.buffer.begin ?? Number.POSITIVE_INFINITY;
      if (this.ring !== null && this.edge > first && (from >= first || this.ask === null)) return this.ring;
    }
    return this.fromArchive(atUs, spanUs);
  }

  /** Samples came in just now: take over what belongs to what is kept; answers whether the page changes by it. */
  absorb(from: number, to: number): boolean {
    if (this.ring === null) return true;
    if (from >= this.edge) return this.isShort(this.atUs);
    this.ring.buffer.absorb(this.receiver.buffer, from, to);
    return true;
  }

  /** Stored frames of a time; an answer to what is not asked for any more is thrown away. */
  onHistory(span: Span, messages: readonly Uint8Array[]): void {
    const { asked, stream, receiver } = this;
    if (asked === null || asked.fromUs !== span.fromUs || asked.toUs !== span.toUs) return;
    this.asked = null;
    if (receiver.versions === null) return;
    const recording = openRecording(messages, {
      streamId: stream.stream_id,
      leads: stream.leads.length,
      sampleRateMhz: stream.sample_rate_mhz,
      lsbNv: stream.lsb_nv,
      versions: receiver.versions,
      simulated: stream.simulated,
    });
    this.archive = { recording, span: asked, liveUs: this.askedLiveUs };
  }

  forget(): void {
    this.ring = null;
    this.archive = null;
    this.asked = null;
  }

  private keepRing(): void {
    const { buffer, tracker } = this.receiver;
    // With room up to the edge: what belongs there may still be on its way.
    this.ring = keep(buffer, tracker.axis(), buffer.oldest, Math.max(buffer.end, this.edge));
  }

  private fromArchive(atUs: number, spanUs: number): Recording | null {
    const { archive } = this;
    const covers = (span: Span): boolean => span.fromUs <= atUs - spanUs && atUs <= span.toUs;
    const isHere = archive !== null && covers(archive.span);
    if (!isHere || this.isShort(atUs)) this.askFor(atUs, spanUs, covers);
    if (isHere && !archive.recording.axis.empty) return archive.recording;
    // Until it is here, what there is; the rest stays hatched.
    return this.ring;
  }

  private askFor(atUs: number, spanUs: number, covers: (span: Span) => boolean): void {
    if (this.ask === null || (this.asked !== null && covers(this.asked))) return;
    this.asked = { fromUs: Math.floor(atUs - spanUs - ROOM_US), toUs: Math.ceil(atUs + ROOM_US) };
    this.askedLiveUs = this.liveUs();
    this.ask(this.asked.fromUs, this.asked.toUs);
  }

  /** The page's end was too young to be stored when it was asked for, and may be there by now. */
  private isShort(atUs: number): boolean {
    const { archive, asked } = this;
    const liveUs = this.liveUs();
    if (archive === null || asked !== null || archive.liveUs === null || liveUs === null) return false;
    const { buffer, axis } = archive.recording;
    const hasEnd = !axis.empty && axis.timeOf(buffer.end) >= atUs;
    return !hasEnd && atUs > archive.liveUs - SETTLED_US && liveUs - archive.liveUs >= ASK_AGAIN_US;
  }

  /** Server time of the stream's newest sample here; null while there is none. */
  private liveUs(): number | null {
    const { buffer, tracker } = this.receiver;
    return buffer.empty ? null : tracker.timeAt(buffer.end);
  }
}
