import { act, renderHook } from "@testing-library/react";
import { expect, it, vi } from "vitest";
import { type Consult, NO_TRACE, type WaveformStream } from "../protocol";
import { chooseEcg, type HeldEcg, HOLD_MS, holdEcg, useEcg } from "./ecgSources";

const stream = (patient: string): WaveformStream => ({
  stream_id: 7,
  leads: ["I"],
  sample_rate_mhz: 500_000,
  lsb_nv: 2_500,
  device: "monitor",
  filter: "",
  simulated: true,
  patient,
});

const consult = (open: string | null, bound: readonly string[]): Consult => ({
  id: "c",
  revision: 0,
  title: "",
  status: "open",
  limit: 50,
  participants: {},
  context:
    open === null
      ? null
      : {
          version: 3,
          patient: {
            id: open,
            name: "n",
            name_latin: "",
            sex: "female",
            birth_date: "1960-01-01",
            identifiers: [
              { label: "MRN", value: "1" },
              { label: "ID", value: "2" },
            ],
            test: true,
          },
          opened_at_ms: 0,
          first_version: null,
          opened_by: "x",
        },
  context_version: 3,
  lead: null,
  view: { page: "summary", item: "" },
  media_epoch: 0,
  producers: {},
  data_producers: Object.fromEntries(
    bound.map((patient, index) => [
      `d${index}`,
      { id: `d${index}`, participant: "monitor", label: "ecg", protocol: "", waveform: stream(patient), vitals: null },
    ]),
  ),
  ...NO_TRACE,
});

it.each([
  ["p1", ["p2", "p1"], "p1", false],
  ["p1", ["p2"], null, true],
  ["p1", [], null, false],
  [null, ["p1"], null, false],
] as const)("[W20] patient %s open, devices bound to %j: draws %s", (open, bound, drawn, isOther) => {
  const choice = chooseEcg(consult(open, bound));
  expect([choice.stream?.patient ?? null, choice.isOtherPatient]).toEqual([drawn, isOther]);
});

/** The same patient, closed and opened again. */
const reopened = (present: Consult): Consult => ({
  ...present,
  context_version: 5,
  context: present.context && { ...present.context, version: 5, opened_at_ms: 1 },
});
const boundTo = (patient: string, present: Consult): Consult => ({
  ...present,
  bindings: { monitor: { device: "monitor", patient } as Consult["bindings"][string] },
});
const NONE: HeldEcg = { stream: null, device: null, opening: "p1 0", lostAtMs: null };
const hold = (before: HeldEcg, present: Consult, nowMs: number) => holdEcg(before, boundTo("p1", present), null, nowMs);

it("[W12] holds a source through a restart of the worker, for a while", () => {
  const shown = hold(NONE, consult("p1", ["p1"]), 0);
  const lost = hold(shown, consult("p1", []), 1_000);

  expect([lost.stream?.patient, lost.lostAtMs]).toEqual(["p1", 1_000]);
  expect(hold(lost, consult("p1", []), 999 + HOLD_MS).stream?.patient).toBe("p1");
  expect(hold(lost, consult("p1", []), 1_000 + HOLD_MS).stream).toBeNull();
  expect(hold(lost, consult("p1", ["p1"]), 2_000).lostAtMs).toBeNull();
});

/** The consult with its one source replaced by these: device, number, leads. */
const sending = (
  ...sources: readonly (readonly [device: string, id: number, leads?: readonly string[]])[]
): Consult => ({
  ...consult("p1", []),
  data_producers: Object.fromEntries(
    sources.map(([participant, id, leads = ["I"]]) => [
      `d${id}`,
      {
        ...{ id: `d${id}`, participant, label: "ecg", protocol: "", vitals: null },
        waveform: { ...stream("p1"), stream_id: id, leads: [...leads], device: participant },
      } as unknown as Consult["data_producers"][string],
    ]),
  ),
});
const idOf = ({ stream: shown }: HeldEcg) => shown?.stream_id;

it("[W12] does not jump to another source before the first has been gone for the same while", () => {
  const shown = hold(NONE, sending(["monitor", 7], ["other", 9]), 0);
  const lost = hold(shown, sending(["other", 9]), 1_000);
  expect([idOf(lost), idOf(hold(lost, sending(["other", 9]), 999 + HOLD_MS))]).toEqual([7, 7]);
  const next = hold(lost, sending(["other", 9]), 1_000 + HOLD_MS);
  expect(idOf(next)).toBe(9);
  // Back, it does not push away what is watched by now; nor does one that happens to be listed first.
  expect(idOf(hold(next, sending(["monitor", 7], ["other", 9]), 40_000))).toBe(9);
  // Who chooses another does not wait.
  expect(idOf(holdEcg(lost, sending(["other", 9]), 9, 1_500))).toBe(9);
});

it("[W20] does not hold what is no longer bound while another source is", () => {
  const shown = hold(NONE, sending(["monitor", 7], ["other", 9]), 0);
  expect(idOf(holdEcg(shown, sending(["other", 9]), null, 1_000))).toBe(9);
});

it("[W5] takes a device that returns under another number at once, but not its other signal", () => {
  const shown = hold(NONE, sending(["monitor", 7], ["other", 9]), 0);
  expect(idOf(hold(shown, sending(["other", 9], ["monitor", 8]), 1_000))).toBe(8);
  expect(idOf(hold(shown, sending(["other", 9], ["monitor", 8, ["V7"]]), 1_000))).toBe(7);
});

it("[W12] a hold ends by itself, without news of the consult", () => {
  vi.useFakeTimers();
  const present = boundTo("p1", sending(["monitor", 7], ["other", 9]));
  const { result, rerender } = renderHook((now) => useEcg(now), { initialProps: present });
  rerender(boundTo("p1", sending(["other", 9])));
  expect(result.current.stream?.stream_id).toBe(7);
  act(() => void vi.advanceTimersByTime(HOLD_MS + 1_000));
  expect(result.current.stream?.stream_id).toBe(9);
  vi.useRealTimers();
});

it("[W24] never holds a source over a change of patient", () => {
  const shown = hold(NONE, consult("p1", ["p1"]), 0);
  expect(hold(shown, reopened(consult("p1", [])), 0).stream).toBeNull();
  // A report that is opened beside the same patient changes nothing of it ([AN2]).
  expect(hold(shown, { ...consult("p1", []), context_version: 4 }, 0).stream?.patient).toBe("p1");
});

it("[W22] lets go at once of a device that is now bound to somebody else", () => {
  const bound = boundTo("p1", consult("p1", ["p1"]));
  const { result, rerender } = renderHook((present) => useEcg(present), { initialProps: bound });
  expect(result.current.stream?.patient).toBe("p1");
  rerender(boundTo("p1", consult("p1", [])));
  expect(result.current.stream?.patient).toBe("p1");
  rerender(boundTo("p1", consult("p1", ["p2"])));
  expect(result.current).toEqual({ stream: null, streams: [], isOtherPatient: true, isBound: false });
});

it("[W20] [W21] draws nothing of a device whose binding has ended, and keeps what was done on it while the context stays", () => {
  const bound = boundTo("p1", consult("p1", ["p1"]));
  const { result, rerender } = renderHook((present) => useEcg(present), { initialProps: bound });
  const { stream: before } = result.current;
  rerender(consult("p1", []));
  expect([result.current.stream, result.current.isBound]).toEqual([before, false]);
  rerender(bound);
  expect([result.current.stream, result.current.isBound]).toEqual([before, true]);

  rerender(reopened(consult("p1", [])));
  expect(result.current.stream).toBeNull();
});

it("[W22] keeps nothing of a device that reported another patient", () => {
  const bound = boundTo("p1", consult("p1", ["p1"]));
  const { result, rerender } = renderHook((present) => useEcg(present), { initialProps: bound });
  const mismatch = { device: "monitor", patient: "p1", identifiers: [], reported: "T-2", context_version: 3, at_ms: 0 };
  const blocked = consult("p1", []);
  rerender({ ...blocked, mismatches: { monitor: mismatch as unknown as Consult["mismatches"][string] } });
  expect(result.current.stream).toBeNull();
});

it("[W20] lets the viewer choose among several streams of the patient, and draws the first when that is gone", () => {
  const present = consult("p1", ["p1", "p2", "p1"]);
  const second = { ...stream("p1"), stream_id: 9 };
  const source = present.data_producers.d2;
  if (source !== undefined) present.data_producers.d2 = { ...source, waveform: second };
  expect(chooseEcg(present, 9).stream?.stream_id).toBe(9);
  expect(chooseEcg(present, 8).stream?.stream_id).toBe(7);
  expect(chooseEcg(present).streams.map(({ stream_id }) => stream_id)).toEqual([7, 9]);
});
