/** Odd answers read as something safe to show; half identities are dropped. */
import { describe, expect, it } from "vitest";
import { readConsults, readSession, readStations } from "./api";

const patient = {
  id: "p",
  name: "沈静秋",
  sex: "female",
  birth_date: "1964-03-14",
  identifiers: [
    { label: "MRN", value: "1" },
    { label: "ID", value: "2" },
  ],
  test: true,
};

describe("readers of the API", () => {
  it("never throw, whatever comes", () => {
    for (const body of [null, 3, "x", [], {}, { consults: 1, rooms: {} }, { consults: [null, []], rooms: [1] }]) {
      expect(readConsults(body)).toEqual([]);
      expect(readStations(body)).toEqual([]);
      expect(readSession(body).kind).toBe("person");
    }
  });

  it("[W18] drop a patient without two identifiers and keep the others", () => {
    const half = { ...patient, id: "q", identifiers: [{ label: "MRN", value: "1" }] };
    const [consult] = readConsults({ consults: [{ id: "c", title: "t", status: "open", patients: [half, patient] }] });
    expect(consult?.patients.map((one) => one.id)).toEqual(["p"]);
  });

  it("know a guest and a screen from a person", () => {
    expect(readSession({ kind: "guest", guest: { name: "G", consult: "c" } })).toEqual({
      kind: "guest",
      name: "G",
      consult: "c",
    });
    expect(readSession({ kind: "screen" })).toEqual({ kind: "screen" });
  });

  it("show a screen of an unknown role as one without", () => {
    const [room] = readStations({
      rooms: [{ id: "r", stations: [{ id: "s", screens: [{ number: 1, role: "spare" }] }] }],
    });
    expect(room?.stations[0]?.screens).toEqual([{ number: 1, role: null, paired: false, online: false }]);
  });
});
