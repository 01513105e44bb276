/** Odd resources are counted, never shown, and never hide or break the others. */
import { describe, expect, it } from "vitest";
import type { Obj } from "../common/read";
import { cutLanguages, readEntries, readMoment, readTerm, termOf } from "./fhir";
import { readAllergy, readEncounter, readMedication, readProblem } from "./fhirClinical";
import { decodeBase64, narrative, readDocument, readReport } from "./fhirDocuments";
import { readResults } from "./fhirLabs";

const subject = { reference: "Patient/p1" };
const condition = { resourceType: "Condition", id: "ok", subject, code: { text: "高血压" } };
const bundle = (...resources: unknown[]) => ({ entry: resources.map((resource) => ({ resource })) });

describe("readEntries", () => {
  it("shows what it can and counts the rest", () => {
    const odd = [null, 7, {}, { ...condition, id: "nameless", code: {} }, { ...condition, resourceType: "Basic" }];

    const entries = readEntries(bundle(...odd, condition), "Condition", "p1", readProblem);

    expect(entries.items.map((item) => item.id)).toEqual(["ok"]);
    expect(entries.unreadable).toEqual(["#1", "#2", "#3", "nameless", "ok"]);
  });

  it("[W19] never gives a resource of another patient, nor one of nobody", () => {
    const foreign = { ...condition, id: "foreign", subject: { reference: "Patient/p11" } };
    const nobody = { ...condition, id: "nobody", subject: undefined };

    const entries = readEntries(bundle(foreign, nobody, condition), "Condition", "p1", readProblem);

    expect(entries.items.map((item) => item.id)).toEqual(["ok"]);
    expect(entries.unreadable).toEqual(["foreign", "nobody"]);
  });

  it("takes an absolute reference and leaves warnings of the server out", () => {
    const absolute = { ...condition, subject: { reference: "https://hub/fhir/Patient/p1" } };
    const warning = { resource: { resourceType: "OperationOutcome" }, search: { mode: "outcome" } };

    const entries = readEntries({ entry: [warning, { resource: absolute }] }, "Condition", "p1", readProblem);

    expect([entries.items.length, entries.unreadable]).toEqual([1, []]);
  });
});

describe("readers", () => {
  const readers: Record<string, (resource: Obj) => unknown> = {
    Condition: readProblem,
    MedicationRequest: readMedication,
    AllergyIntolerance: readAllergy,
    Encounter: readEncounter,
    Observation: readResults,
    DiagnosticReport: readReport,
    DocumentReference: readDocument,
  };
  const whole: Obj = {
    id: "x",
    status: "final",
    code: { text: "t", coding: [{ system: "s", code: "c", display: "d" }] },
    clinicalStatus: { coding: [{ code: "active" }] },
    verificationStatus: { coding: [{ code: "confirmed" }] },
    medicationCodeableConcept: { text: "m" },
    dosageInstruction: [{ text: "1", timing: { repeat: { frequency: 1, period: 1, periodUnit: "d" } } }],
    reaction: [{ manifestation: [{ text: "r" }], severity: "mild" }],
    category: [{ coding: [{ code: "laboratory" }] }],
    type: { text: "k" },
    valueQuantity: { value: 1, unit: "u" },
    referenceRange: [{ low: { value: 0 }, high: { value: 2 } }],
    interpretation: [{ coding: [{ code: "N" }] }],
    component: [{ code: { text: "c" }, valueQuantity: { value: 3 } }],
    presentedForm: [{ contentType: "text/plain", data: "YQ==" }],
    content: [{ attachment: { contentType: "image/png", url: "Binary/b" } }],
    text: { div: "<div>n</div>" },
    period: { start: "2026-01-01" },
    note: [{ text: "n" }],
  };
  const odd: readonly unknown[] = [
    null,
    0,
    Number.NaN,
    "",
    "x",
    true,
    [],
    [[]],
    [null],
    {},
    [{}],
    { coding: "x" },
    { value: "9" },
  ];

  /** Every copy of `value` in which one part, at any depth, was replaced by something odd. */
  function* mutants(value: unknown): Generator<unknown> {
    yield* odd;
    if (Array.isArray(value)) {
      for (const [index, part] of value.entries()) for (const one of mutants(part)) yield value.with(index, one);
    } else if (typeof value === "object" && value !== null) {
      for (const [key, part] of Object.entries(value)) for (const one of mutants(part)) yield { ...value, [key]: one };
    }
  }

  it.each(Object.entries(readers))("of %s never throw on a resource with any part replaced", (_, read) => {
    let tried = 0;
    for (const mutant of mutants(whole)) {
      if (typeof mutant !== "object" || mutant === null || Array.isArray(mutant)) continue;
      expect(() => read(mutant as Obj)).not.toThrow();
      tried += 1;
    }
    expect(tried).toBeGreaterThan(500);
  });
});

describe("names", () => {
  it.each([
    ["肌酐 Creatinine", { zh: "肌酐", en: "Creatinine" }],
    ["高敏肌钙蛋白 I hs-Troponin I", { zh: "高敏肌钙蛋白 I", en: "hs-Troponin I" }],
    ["低密度脂蛋白胆固醇 LDL cholesterol", { zh: "低密度脂蛋白胆固醇", en: "LDL cholesterol" }],
    ["胸痛复发（待查） Recurrent chest pain", { zh: "胸痛复发（待查）", en: "Recurrent chest pain" }],
    ["糖类抗原 CA 125", null],
    ["C 反应蛋白 CRP", null],
    ["Creatinine", null],
    ["肌酐", null],
  ])("%s is cut into %j", (text, halves) => {
    expect(cutLanguages(text)).toEqual(halves);
  });

  it("leave an abbreviation that stands twice with both", () => {
    const halves = { zh: "左房及肺静脉 CT", en: "CT of left atrium" };
    expect(cutLanguages("左房及肺静脉 CT CT of left atrium")).toEqual(halves);
  });

  it("keep the whole text beside the halves", () => {
    expect(readTerm({ text: "肌酐 Creatinine" })).toEqual({ zh: "肌酐", en: "Creatinine", whole: "肌酐 Creatinine" });
  });

  it("come from translations and code systems where the text has one language", () => {
    const extension = {
      url: "http://hl7.org/fhir/StructureDefinition/translation",
      extension: [{ url: "content", valueString: "Hypertension" }],
    };
    expect(readTerm({ text: "高血压", _text: { extension: [extension] } })).toMatchObject({
      zh: "高血压",
      en: "Hypertension",
    });
    expect(readTerm({ text: "高血压", coding: [{ display: "Hypertension" }] })?.en).toBe("Hypertension");
    expect(readTerm({ coding: [{ code: "I10" }] })).toMatchObject({ zh: "I10", en: "I10" });
    expect(termOf(["", " "])).toBeNull();
  });
});

describe("moments", () => {
  it("stay as precise as they were written", () => {
    expect(readMoment("2024")?.text).toBe("2024");
    expect(readMoment("2024-03")?.text).toBe("2024-03");
    expect(readMoment("2024-03-01")?.text).toBe("2024-03-01");
    expect(readMoment("2024-03-01T08:05:00Z")?.ms).toBe(Date.UTC(2024, 2, 1, 8, 5));
  });

  it.each(["", "yesterday", "08:00", "2024-3-1", "2024-03-01Tnoon", 20240301, null])("are not made of %j", (value) => {
    expect(readMoment(value)).toBeNull();
  });
});

describe("clinical readers", () => {
  it("keep a problem of unknown status among the current ones, and errors out of them", () => {
    const coded = (code: string) => ({ coding: [{ code }] });
    expect(readProblem(condition)?.current).toBe(true);
    expect(readProblem({ ...condition, clinicalStatus: coded("resolved") })?.current).toBe(false);
    expect(readProblem({ ...condition, verificationStatus: coded("entered-in-error") })?.current).toBe(false);
  });

  it("never cut or choose a dose by language", () => {
    const medication = {
      medicationCodeableConcept: { text: "m" },
      dosageInstruction: [{ text: "口服 100mg tid", asNeededBoolean: true }],
    };
    expect(readMedication(medication)?.doses).toEqual([{ text: "口服 100mg tid", asNeeded: true }]);
  });

  it("give the worst severity of an allergy", () => {
    const reaction = [{ severity: "mild" }, { severity: "severe" }, { severity: "odd" }];
    expect(readAllergy({ code: { text: "青霉素" }, criticality: "high", reaction })).toMatchObject({
      severity: "severe",
      criticality: "high",
      current: true,
    });
  });
});

describe("documents", () => {
  it("find the Binary and refuse other addresses", () => {
    const of = (url: string) =>
      readDocument({ description: "d", content: [{ attachment: { contentType: "text/plain; charset=utf-8", url } }] })
        ?.attachments[0];
    expect(of("Binary/b-1")).toMatchObject({ binaryId: "b-1", contentType: "text/plain" });
    expect(of("https://elsewhere/file.txt")?.binaryId).toBe("");
    expect(of("Binary/../Patient")?.binaryId).toBe("");
  });

  it("decode UTF-8 and say so when it is none", () => {
    expect(decodeBase64("6IKM6YWQ")).toBe("肌酐");
    expect(decodeBase64("/w==")).toBeNull();
    expect(decodeBase64("%%%")).toBeNull();
  });

  it("show a narrative as text, never as markup", () => {
    expect(narrative({ div: "<div><p>One</p><p>Two <b>x</b></p><script>bad()</script></div>" })).not.toContain("<");
    expect(narrative({ div: "<div><p>One</p><p>Two</p></div>" })).toBe("One\nTwo");
  });

  it("say the conclusion once", () => {
    const data = btoa("findings\n\nnormal\n");
    const report = readReport({
      code: { text: "ECG" },
      conclusion: "normal",
      presentedForm: [{ contentType: "text/plain", data }],
    });
    expect([report?.conclusion, report?.findings]).toEqual(["normal", "findings"]);
  });
});
