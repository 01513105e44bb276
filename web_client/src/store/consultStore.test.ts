import { describe, expect, it, vi } from "vitest";
import type { Consult, Joined, Participant, PatientBanner, Pointed } from "../protocol";
import { NO_TRACE, SUMMARY } from "../protocol";
import { afterEvent, afterJoin, afterSignal, type ConsultState, createConsultStore, outOfSync } from "./consultStore";

const patient = { id: "p1", name: "王秀兰" } as PatientBanner;
const consult: Consult = {
  id: "c1",
  revision: 9,
  title: "",
  status: "open",
  limit: 50,
  participants: {},
  context: { version: 3, patient, opened_at_ms: 0, opened_by: "a", first_version: null },
  context_version: 3,
  lead: "a",
  view: SUMMARY,
  media_epoch: 1,
  producers: {},
  data_producers: {},
  ...NO_TRACE,
};
const joined: Joined = { you: "b", snapshot: consult, router_rtp_capabilities: { codecs: [] }, server_time_ms: 0 };
const pointed: Pointed = { type: "pointed", by: "a", context_version: 3, view: SUMMARY, x: 0.5, y: 0.5, visible: true };

function present(changes: Partial<ConsultState> = {}): ConsultState {
  const empty = createConsultStore().getState();
  return { ...empty, ...afterJoin(empty, joined, false), ...changes };
}

describe("consult store", () => {
  it("[LE4] keeps the lead's pointer until it is hidden", () => {
    const shown = afterSignal(present(), pointed);
    expect(shown.pointer).toEqual(pointed);
    expect(afterSignal(present(shown), { ...pointed, visible: false }).pointer).toBeNull();
  });

  it.each<[string, Partial<Pointed>]>([
    ["an older context", { context_version: 2 }],
    ["a page nobody sees", { view: { page: "labs", item: "" } }],
    ["someone who does not lead", { by: "c" }],
  ])("[LE4] (H21) ignores a pointer of %s", (_, change) => {
    expect(afterSignal(present(), { ...pointed, ...change })).toEqual({});
  });

  it("(H21) forgets the pointer when the page, the patient or the lead changes", () => {
    const state = present(afterSignal(present(), pointed));
    const base = { revision: 10, at_ms: 0 };
    const turned = afterEvent(state, { ...base, type: "page_turned", by: "a", view: { page: "labs", item: "" } });
    const closed = afterEvent(state, { ...base, type: "context_closed", by: "a", request: null });
    const led = afterEvent(state, { ...base, type: "lead_changed", lead: null });
    expect([turned.pointer, closed.pointer, led.pointer]).toEqual([null, null, null]);
  });

  it("[SE14] knows how long a server that is about to restart will last", () => {
    const beat = { type: "beat", revision: 9, context_version: 3, server_time_ms: 1_000_000 } as const;
    vi.useFakeTimers();
    const told = afterSignal(present(), { ...beat, same_surname: false, stops_at_ms: 1_030_000 }).stopsAtMs ?? 0;
    expect(told - performance.now()).toBeGreaterThan(29_000);
    expect(told - performance.now()).toBeLessThanOrEqual(30_000);
    expect(
      afterSignal(present({ stopsAtMs: told }), { ...beat, same_surname: false, stops_at_ms: null }).stopsAtMs,
    ).toBeNull();
    vi.useRealTimers();
  });

  it("[ME4] counts a new media generation for a reset and for a join that does not resume", () => {
    const state = present();
    const reset = afterEvent(state, { type: "media_reset", revision: 10, at_ms: 0, media_epoch: 2 });
    expect(reset.mediaGeneration).toBe(state.mediaGeneration + 1);
    expect(afterJoin(state, joined, true).mediaGeneration).toBe(state.mediaGeneration);
    expect(afterJoin(state, joined, false).mediaGeneration).toBe(state.mediaGeneration + 1);
    const elsewhere = { ...joined, snapshot: { ...consult, media_epoch: 2 } };
    expect(afterJoin(state, elsewhere, true).mediaGeneration).toBe(state.mediaGeneration + 1);
  });

  it("(W19) lists whose screens do not show the open context", () => {
    const person = (id: string, role: Participant["role"], context_seen: number): [string, Participant] => [
      id,
      { id, role, context_seen } as Participant,
    ];
    const participants = Object.fromEntries([
      person("a", "doctor", 3),
      person("wall", "screen", 2),
      person("room", "room", 0),
      person("ecg", "device", 0),
    ]);
    expect(outOfSync({ ...consult, participants }).map(({ id }) => id)).toEqual(["wall"]);
    expect(outOfSync({ ...consult, participants, context: null })).toEqual([]);
  });
});
