import { renderHook } from "@testing-library/react";
import { expect, it } from "vitest";
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

it("[W12] holds a source through a restart of the worker, for a while", () => {
  const shown: HeldEcg = { stream: stream("p1"), version: 3, lostAtMs: null };
  const lost = holdEcg(shown, null, 3, 1_000);

  expect([lost.stream?.patient, lost.lostAtMs]).toEqual(["p1", 1_000]);
  expect(holdEcg(lost, null, 3, 999 + HOLD_MS).stream?.patient).toBe("p1");
  expect(holdEcg(lost, null, 3, 1_000 + HOLD_MS).stream).toBeNull();
  expect(holdEcg(lost, stream("p1"), 3, 2_000).lostAtMs).toBeNull();
});

it("[W24] never holds a source over a change of patient", () => {
  expect(holdEcg({ stream: stream("p1"), version: 3, lostAtMs: null }, null, 4, 0).stream).toBeNull();
});

const boundTo = (patient: string, present: Consult): Consult => ({
  ...present,
  bindings: { monitor: { device: "monitor", patient } as Consult["bindings"][string] },
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

  rerender({ ...consult("p1", []), context_version: 4 });
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
