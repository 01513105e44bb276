import { describe, expect, it } from "vitest";
import { type Consult, type DeviceUnbound, NO_TRACE, type Participant } from "../protocol";
import { deviceRows, inputProblem, normalised, WARN_MS } from "./binding";

const person = (id: string, role: Participant["role"], hospital: string): Participant => ({
  id,
  role,
  name: id,
  hospital,
  screen: null,
  screen_number: null,
  connection: "connected",
  joined_at_ms: 0,
  context_seen: 0,
  simulated: false,
  hub: false,
});

const UNTIL_MS = 1_000_000;
const IDENTIFIERS: [{ label: string; value: string }, { label: string; value: string }] = [
  { label: "MRN", value: "T-1" },
  { label: "ID", value: "X 9" },
];

function consult(changes: Partial<Consult> = {}): Consult {
  return {
    id: "c1",
    revision: 1,
    title: "",
    status: "open",
    limit: 50,
    participants: {
      far: person("far", "doctor", "Hub"),
      near: person("near", "nurse", "County"),
      guest: person("guest", "guest", "County"),
      none: person("none", "nurse", ""),
      monitor: person("monitor", "device", "County"),
      loose: person("loose", "device", ""),
    },
    context: {
      version: 3,
      patient: {
        id: "p1",
        name: "张三",
        name_latin: "",
        sex: "male",
        birth_date: "1960-01-01",
        identifiers: IDENTIFIERS,
        test: true,
      },
      opened_at_ms: 0,
      first_version: null,
      opened_by: "far",
    },
    context_version: 3,
    lead: null,
    view: { page: "summary", item: "" },
    media_epoch: 0,
    producers: {},
    data_producers: {},
    ...NO_TRACE,
    ...changes,
  };
}

const bound = consult({
  bindings: {
    monitor: {
      device: "monitor",
      patient: "p1",
      context_version: 3,
      identifiers: IDENTIFIERS,
      bound_by: "near",
      bound_at_ms: 0,
      until_ms: UNTIL_MS,
    },
  },
});

const row = (state: Consult, me = "near", nowMs = 0, endings: Record<string, DeviceUnbound> = {}) => {
  const found = deviceRows(state, me, endings, nowMs).find(({ device }) => device.id === "monitor");
  if (found === undefined) throw new Error("no monitor");
  return found;
};

describe("the state of a device", () => {
  it.each([
    [0, "bound"],
    [UNTIL_MS - WARN_MS - 1, "bound"],
    [UNTIL_MS - WARN_MS, "ending"],
    [UNTIL_MS - 1, "ending"],
    [UNTIL_MS, "unbound"],
  ] as const)("[BI3] (W20) at %i ms it is %s", (nowMs, state) => {
    expect(row(bound, "near", nowMs).state).toBe(state);
  });

  it("[BI6] (W22) a mismatch comes first, and a new binding ends it", () => {
    const mismatch = {
      device: "monitor",
      patient: "p1",
      identifiers: IDENTIFIERS,
      reported: "T-2",
      context_version: 3,
      at_ms: 0,
    };
    const blocked = consult({ mismatches: { monitor: mismatch }, reported: { monitor: "T-2" } });
    expect(deviceRows(blocked, "near", {}, 0)[0]).toMatchObject({ state: "mismatch", contradiction: "T-2" });
  });

  it("[BI6] a device that names the open patient contradicts nobody", () => {
    expect(row(consult({ reported: { monitor: "ｔ-1 " } })).contradiction).toBeNull();
    expect(row(consult({ reported: { monitor: "t-2" } })).contradiction).toBe("t-2");
  });
});

describe("who may", () => {
  it("[BI2] bind: staff of the device's hospital, and only while a patient is open", () => {
    expect(["near", "far", "guest", "none"].map((me) => row(consult(), me).canBind)).toEqual([
      true,
      false,
      false,
      false,
    ]);
    expect(row(consult({ context: null })).canBind).toBe(false);
    expect(deviceRows(consult(), "none", {}, 0).some(({ canBind }) => canBind)).toBe(false);
  });

  it("[BI4] end a binding: everyone who treats patients here", () => {
    expect(["near", "far", "guest"].map((me) => row(bound, me).canUnbind)).toEqual([true, true, true]);
    expect(row(consult()).canUnbind).toBe(false);
  });
});

describe("what was typed", () => {
  it("[BI1] is compared as the server compares", () => {
    expect(normalised(" Ｔ-１\r\n\u001d")).toBe("t-1");
  });

  it("[BI1] two fields with one identifier are not two identifiers", () => {
    expect(inputProblem("T-1", "")).toBe("missing");
    expect(inputProblem("T-1", "t-1 ")).toBe("same");
    expect(inputProblem("T-1", "X9")).toBeNull();
  });
});
