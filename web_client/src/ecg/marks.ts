/**
 * Marks that all see: what each says, whose it is, and what may be taken back. Pure.
 */
import type { Consult, EcgMark, EcgMarkDraft } from "../protocol";
import { bpmText, measure, msText, mvText, type TracePoint } from "./calipers";
import { parseQt, qtText } from "./qtc";

/** The server keeps no more at once. */
export const MAX_MARKS = 200;
export const MAX_TEXT = 200;

/** Marks of the stream and context on screen, oldest first; nothing of another patient is ever drawn (W24). */
export function marksOf(consult: Consult, streamId: number): readonly EcgMark[] {
  const version = consult.context?.version;
  return Object.values(consult.ecg_marks)
    .filter((mark) => mark.stream_id === streamId && mark.context_version === version)
    .sort((a, b) => a.at_ms - b.at_ms);
}

/** The newest of one's own: what undo takes away. */
export function lastOwn(marks: readonly EcgMark[], me: string): EcgMark | null {
  return marks.findLast(({ by }) => by === me) ?? null;
}

/** First and second point; `null` for a mark with one. */
export function endsOf(mark: EcgMarkDraft): { readonly from: TracePoint; readonly to: TracePoint | null } {
  const { lead, from_us, from_uv, to_us = null, to_uv = null } = mark;
  const from = { lead, atUs: from_us, uv: from_uv };
  return { from, to: to_us === null || to_uv === null ? null : { lead, atUs: to_us, uv: to_uv } };
}

/** What is written beside it; a QT that does not name its formula and RR says nothing but its QT. */
export function textOf(mark: EcgMarkDraft): string {
  const { from, to } = endsOf(mark);
  if (mark.kind === "caliper" && to !== null) return caliperText(from, to);
  if (mark.kind === "qt" && to !== null) {
    const reading = parseQt(mark.text ?? "");
    return reading === null ? `QT ${msText(measure(from, to).ms)}` : qtText(reading);
  }
  return mark.text ?? "";
}

/** `812 ms, 0.35 mV, 74/min`. */
export function caliperText(from: TracePoint, to: TracePoint): string {
  const { ms, mv, bpm } = measure(from, to);
  return [msText(ms), ...(mv === null ? [] : [mvText(mv)]), ...(bpm === null ? [] : [bpmText(bpm)])].join(", ");
}

export interface MarkPlace {
  readonly streamId: number;
  readonly version: number;
}

/** A mark to be put; whole microseconds and microvolts, as the wire has them. */
export function draftOf(
  id: string,
  kind: EcgMarkDraft["kind"],
  { streamId, version }: MarkPlace,
  from: TracePoint,
  to: TracePoint | null,
  text = "",
): EcgMarkDraft {
  const [early, late] = to !== null && to.atUs < from.atUs ? [to, from] : [from, to];
  return {
    id,
    kind,
    stream_id: streamId,
    context_version: version,
    lead: early.lead,
    from_us: Math.round(early.atUs),
    from_uv: Math.round(early.uv),
    to_us: late === null ? null : Math.round(late.atUs),
    to_uv: late === null ? null : Math.round(late.uv),
    text: text.trim().slice(0, MAX_TEXT),
  };
}
