import { expect, it } from "vitest";
import type { Consult, WaveformStream } from "../protocol";
import { chooseEcg } from "./ecgSources";

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
      { id: `d${index}`, participant: "monitor", label: "ecg", protocol: "", waveform: stream(patient) },
    ]),
  ),
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
