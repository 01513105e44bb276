/** What the record says and does not say: negations, withdrawn entries, units, ratings. A wrong word here treats a patient wrongly. */
import { cleanup, render, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { setLanguage } from "../i18n";
import { contentKey, wordsOf } from "../share/shape";
import { AppProviders } from "../theme";
import { readAllergy, readEncounter, readMedication, readProblem } from "./fhirClinical";
import { readDocument, readReport } from "./fhirDocuments";
import { groupResults, type LabValue, readResults, tokenOf } from "./fhirLabs";
import { vitalCards } from "./fhirVitals";
import { contradictory } from "./pages/Allergies";
import { groupsOf } from "./pages/Medications";
import { tickTexts } from "./pages/Trend";
import { RecordPane } from "./RecordPane";
import type { Page } from "./types";

const coded = (code: string, system = "") => ({ coding: [{ code, ...(system !== "" && { system }) }] });

function result(rest: object): LabValue {
  const [one] =
    readResults({ id: "r", status: "final", code: { text: "Potassium", coding: [{ code: "2823-3" }] }, ...rest }) ?? [];
  if (one === undefined) throw new Error("not readable");
  return one;
}
const quantity = (value: number, unit = "mmol/L", rest: object = {}) => ({ valueQuantity: { value, unit, ...rest } });
const limits = (low: number, high: number, unit?: string) => ({
  low: { value: low, ...(unit !== undefined && { unit }) },
  high: { value: high, ...(unit !== undefined && { unit }) },
});

describe("a rating", () => {
  it("is never made by a range in another unit", () => {
    const glucose = result({ ...quantity(5.1), referenceRange: [limits(70, 99, "mg/dL")] });
    expect([glucose.flag, glucose.range?.low, glucose.range?.text]).toEqual(["none", null, "70 – 99 mg/dL"]);
    expect(result({ ...quantity(5.1), referenceRange: [limits(3.9, 6.1, "mmol/L")] }).flag).toBe("N");
  });

  it("is never made by one of several ranges, nor by a therapeutic one", () => {
    const bySex = [
      { ...limits(120, 150), appliesTo: [{ text: "female" }] },
      { ...limits(130, 175), appliesTo: [{ text: "male" }] },
    ];
    const haemoglobin = result({ ...quantity(125, "g/L"), referenceRange: bySex });
    expect([haemoglobin.flag, haemoglobin.range?.text]).toEqual(["none", "female 120 – 150; male 130 – 175"]);
    const level = result({
      ...quantity(25, "mg/L"),
      referenceRange: [{ ...limits(10, 20), type: { ...coded("therapeutic"), text: "therapeutic" } }],
    });
    expect([level.flag, level.range?.text]).toEqual(["none", "therapeutic 10 – 20"]);
  });

  it("is the gravest that the laboratory gave, and says whether it gave one", () => {
    const given = result({
      ...quantity(2.1),
      interpretation: [coded("L"), coded("LL")],
      referenceRange: [limits(3.5, 5.3)],
    });
    expect([given.flag, given.isRatedHere]).toEqual(["LL", false]);
    const computed = result({ ...quantity(2.1), referenceRange: [limits(3.5, 5.3)] });
    expect([computed.flag, computed.isRatedHere]).toEqual(["L", true]);
    const worded = result({ valueString: "++", interpretation: [{ text: "阳性" }] });
    expect([worded.flag, worded.rating?.zh]).toEqual(["none", "阳性"]);
  });

  it.each([
    [">", 10_000, "H"],
    [">", 3, "none"],
    [">=", 5.3, "none"],
    ["<", 3.5, "L"],
    ["<", 4, "none"],
  ])("of a bound %s%d is what the bound tells", (comparator, value, flag) => {
    expect(result({ ...quantity(value, "mmol/L", { comparator }), referenceRange: [limits(3.5, 5.3)] }).flag).toBe(
      flag,
    );
  });
});

describe("a test", () => {
  it("is one code of one system: another hospital's K is another test", () => {
    const [ours, theirs] = ["urn:oid:1.2", "urn:oid:1.3"].map((system) =>
      result({ code: { text: "K", coding: [{ code: "K", system }] }, ...quantity(4) }),
    ) as [LabValue, LabValue];
    expect(groupResults([ours, theirs])).toHaveLength(2);
    expect([tokenOf(ours.code), tokenOf("2823-3")]).toEqual(["K", "2823-3"]);
    const both = result({
      code: {
        coding: [
          { code: "K", system: "urn:oid:1.2" },
          { code: "2823-3", system: "http://loinc.org" },
        ],
      },
      ...quantity(4),
    });
    expect(both.code).toBe("2823-3");
  });

  it("has a key that the shared view can hold, and no other's", () => {
    const long = (end: string) => result({ code: { text: `${"很".repeat(70)}${end}` }, ...quantity(4) }).code;
    expect(long("a").length).toBeLessThanOrEqual(64);
    expect(long("a")).not.toBe(long("b"));
    expect(result({ code: { text: "A;p=2" }, ...quantity(4) }).code).not.toContain(";");
  });

  it("draws no two units together, whatever they are called", () => {
    const at = (day: number) => ({ effectiveDateTime: `2026-11-0${day}` });
    const [series] = groupResults([
      result({ id: "1", ...at(1), ...quantity(5, "units", { code: "mmol/L" }) }),
      result({ id: "2", ...at(2), ...quantity(90, "units", { code: "mg/dL" }) }),
    ]);
    expect(series?.drawn.map((point) => point.value)).toEqual([90]);
    expect(series?.otherUnits).toEqual(["units"]);
  });

  it("says the day in full under its drawing, and the hour where days repeat", () => {
    const noon = Date.parse("2026-11-22T12:00:00") / 1000;
    expect(tickTexts([noon - 86_400, noon])).toEqual(["2026-11-21", "2026-11-22"]);
    expect(tickTexts([noon, noon + 3_600])).toEqual(["11-22 12:00", "11-22 13:00"]);
  });

  it("shows the graver half of a pressure", () => {
    const part = (code: string, value: number, flag: string) => ({
      code: coded(code),
      ...quantity(value, "mmHg"),
      interpretation: [coded(flag)],
    });
    const [card] = vitalCards(
      readResults({
        id: "bp",
        status: "final",
        code: coded("85354-9"),
        component: [part("8480-6", 128, "N"), part("8462-4", 121, "HH")],
      }) ?? [],
    );
    expect([card?.latest?.text, card?.latest?.rated.flag]).toEqual(["128/121", "HH"]);
  });
});

describe("negations", () => {
  it.each([
    { code: coded("716186003") },
    { code: { text: "否认药物及食物过敏史" } },
    { code: { text: "无已知过敏" } },
    { code: { text: "No known drug allergies" } },
    { code: { text: "NKDA" } },
  ])("of allergies are statements, not allergies: %j", (resource) => {
    const none = readAllergy(resource);
    expect(none?.isNone).toBe(true);
    const penicillin = readAllergy({ code: { text: "青霉素" } });
    expect(penicillin?.isNone).toBe(false);
    if (none === null || penicillin === null) throw new Error("not readable");
    expect([contradictory([none]), contradictory([none, penicillin])]).toEqual([false, true]);
  });

  it("are not read into names that only begin like one", () => {
    for (const text of ["No known allergies except penicillin", "无花果过敏", "否认过敏史，但对青霉素皮试阳性"]) {
      expect(readAllergy({ code: { text } })?.isNone).toBe(false);
    }
  });

  it("of an order stand first and are never among what is taken", () => {
    const order = (rest: object) =>
      readMedication({ medicationCodeableConcept: { text: "m" }, status: "active", intent: "order", ...rest });
    const all = [
      order({}),
      order({ doNotPerform: true }),
      order({ intent: "proposal" }),
      order({ status: "stopped" }),
      order({ status: "draft" }),
    ];
    const groups = groupsOf(all.flatMap((one) => one ?? []));
    expect(groups.map(({ name, medications }) => [name, medications.length])).toEqual([
      ["prohibited", 1],
      ["current", 1],
      ["planned", 2],
      ["stopped", 1],
    ]);
    expect(groups[0].medications[0]?.current).toBe(false);
  });
});

describe("times and doses", () => {
  it("call the day of writing what it is", () => {
    const problem = readProblem({ code: { text: "HTN" }, recordedDate: "2026-01-02" });
    expect([problem?.onset, problem?.recorded?.text]).toEqual([null, "2026-01-02"]);
    expect(readProblem({ code: { text: "HTN" }, onsetAge: { value: 52, unit: "a" } })?.onsetText).toBe("52 a");
  });

  it("keep ranges, rates and limits of a coded dose", () => {
    const dosage = {
      doseAndRate: [{ doseRange: { low: { value: 1, unit: "mg" }, high: { value: 2, unit: "mg" } } }],
      timing: { code: { text: "BID" } },
      maxDosePerPeriod: { numerator: { value: 8, unit: "mg" }, denominator: { value: 1, unit: "d" } },
    };
    const medication = readMedication({ medicationCodeableConcept: { text: "m" }, dosageInstruction: [dosage] });
    expect(medication?.doses[0]?.text).toBe("1 mg – 2 mg, BID, ≤ 8 mg / 1 d");
  });
});

describe("withdrawn entries", () => {
  it("are known as such: reports, documents, encounters", () => {
    expect(readReport({ code: { text: "CT" }, status: "cancelled" })?.isWithdrawn).toBe(true);
    expect(readDocument({ description: "d", status: "entered-in-error" })?.isWithdrawn).toBe(true);
    expect(readDocument({ description: "d", status: "current", docStatus: "entered-in-error" })?.isWithdrawn).toBe(
      true,
    );
    expect(readEncounter({ type: [{ text: "k" }], status: "entered-in-error" })?.isVoid).toBe(true);
  });

  it("tell a document that is elsewhere, or carries its bytes itself, from an empty one", () => {
    const of = (attachment: object) => readDocument({ description: "d", content: [{ attachment }] })?.attachments[0];
    expect(of({ contentType: "application/pdf", url: "https://pacs/1.pdf" })?.isElsewhere).toBe(true);
    expect(of({ contentType: "image/png", data: "iVBORw0K" })).toMatchObject({ data: "iVBORw0K", isElsewhere: false });
    expect(of({ contentType: "application/pdf" })).toMatchObject({ data: "", isElsewhere: false });
  });

  it("[SH2] a replaced scan is another page, though the words around it are the same", () => {
    const page = (edition: string) => {
      const box = document.createElement("div");
      box.innerHTML = `<h2>Scan</h2><div data-edition="${edition}"></div>`;
      return contentKey(wordsOf(box));
    };
    expect(page("1812")).not.toBe(page("1813"));
    expect(page("1812")).toBe(page("1812"));
  });
});

describe("pages", () => {
  const subject = { reference: "Patient/p1" };
  let resources: readonly object[] = [];
  beforeEach(async () => {
    await setLanguage("en");
    vi.stubGlobal("fetch", async (path: string) => {
      const type = new URL(path, "http://hub").pathname.split("/").at(-1);
      if (type === "record") {
        return Response.json({ counts: { MedicationStatement: 1 } }, { headers: { "X-Context-Version": "1" } });
      }
      const entry = resources
        .map((one) => ({ subject, status: "final", ...one }))
        .filter((one) => "resourceType" in one && one.resourceType === type)
        .map((resource) => ({ resource }));
      return Response.json({ entry, total: entry.length }, { headers: { "X-Context-Version": "1" } });
    });
  });
  afterEach(() => {
    cleanup();
    vi.unstubAllGlobals();
  });

  const show = (page: Page) =>
    render(
      <AppProviders>
        <RecordPane
          consultId="c1"
          contextVersion={1}
          patient={{
            id: "p1",
            name: "p",
            name_latin: "",
            sex: "female",
            birth_date: "1964-03-14",
            identifiers: [
              { label: "MRN", value: "1" },
              { label: "ID", value: "2" },
            ],
            test: true,
          }}
          view={{ page, item: "" }}
          following
          canLead={false}
        />
      </AppProviders>,
    );

  it("[G5] tell preliminary results, our own ratings, and results that nobody rated", async () => {
    const lab = (id: string, rest: object) => ({
      resourceType: "Observation",
      id,
      category: [coded("laboratory")],
      code: { text: id, coding: [{ code: id }] },
      ...rest,
    });
    resources = [
      lab("troponin", { status: "preliminary", ...quantity(90, "ng/L"), referenceRange: [limits(0, 14, "ng/L")] }),
      lab("bnp", quantity(100, "pg/mL")),
    ];
    show("summary");
    const names = await screen.findAllByText("troponin");
    const row = names.map((name) => name.closest("button")).find((one) => one?.textContent?.includes("90"));
    if (row == null) throw new Error("it cannot be opened");
    expect(row.textContent).toContain("H ▲*");
    within(row).getByText("Preliminary");
    screen.getByText("1 result is not rated: it has no reference range here.");
  });

  it("tell what a patient takes by own account from nothing at all", async () => {
    resources = [
      {
        resourceType: "MedicationStatement",
        id: "s",
        status: "active",
        medicationCodeableConcept: { text: "Warfarin" },
      },
    ];
    show("summary");
    await screen.findByText("Warfarin");
    screen.getByText("patient's account");
    cleanup();
    show("medications");
    await screen.findByText("Warfarin");
    expect(screen.queryByText("No medication recorded")).toBeNull();
  });

  it("tell a statement that there is no allergy from an empty list", async () => {
    resources = [{ resourceType: "AllergyIntolerance", id: "a", patient: subject, code: coded("716186003") }];
    show("allergies");
    await screen.findByText("Stated: none known");
    expect(screen.queryByText("Severity not stated")).toBeNull();
    expect(screen.queryByText("No allergy entry in the record")).toBeNull();
  });
});
