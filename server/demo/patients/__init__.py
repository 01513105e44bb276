"""Sample patients as FHIR R4 resources, with every date relative to the day of seeding.

The stories are data (the JSON files beside this module: days before the seed day, clock times,
values); this module turns them into resources. Results carry the reference
range of the patient's sex and the flag that follows from it, and the eGFR is
computed from each creatinine, so the record cannot contradict itself.

Names and texts carry both languages: ``text`` holds Chinese and English
together, ``display`` the English of the code system. Every resource is labelled
HTEST (HL7 v3 ActReason): test data, so a simulated source may be bound to these
patients and no real one [W9].
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from importlib import resources
from typing import Any, cast

from server.demo import pictures, scans
from server.imaging.find import binary_id
from server.record.core.banner import banner_of

Resource = dict[str, Any]
Story = dict[str, Any]

STORIES = ("chest-pain", "heart-failure", "atrial-fibrillation")
"""File names; the first patient is the one whose ECG is simulated."""
ECG_PATIENT = "demo-shen"
_FIRST, _SECOND = "示例协作医院 Sample Partner Hospital", "示例第二医院 Second Sample Hospital"
HOSPITALS = {"chest-pain": _FIRST, "heart-failure": _SECOND, "atrial-fibrillation": _FIRST}

HTEST = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST", "display": "test health data"}
LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
ICD10, ATC = "http://hl7.org/fhir/sid/icd-10", "http://www.whocc.no/atc"
_HL7 = "http://terminology.hl7.org/CodeSystem/"
CT_CLASS, DX_CLASS = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1.1"
CHINA = timezone(timedelta(hours=8))


@dataclass(frozen=True)
class _Vital:
    loinc: str
    display: str
    zh: str
    en: str
    unit: str
    ucum: str


_VITALS = {
    "heart_rate": _Vital("8867-4", "Heart rate", "心率", "Heart rate", "次/分 bpm", "/min"),
    "spo2": _Vital("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry", "血氧饱和度", "SpO₂", "%", "%"),
    "respiratory_rate": _Vital("9279-1", "Respiratory rate", "呼吸频率", "Respiratory rate", "次/分 /min", "/min"),
    "temperature": _Vital("8310-5", "Body temperature", "体温", "Temperature", "°C", "Cel"),
    "weight": _Vital("29463-7", "Body weight", "体重", "Weight", "kg", "kg"),
}


def story(name: str) -> Story:
    """One story as written."""
    return _json(f"{name}.json")


def catalogue() -> dict[str, Any]:
    """Laboratory tests by their short name."""
    return _json("labs.json")


def bundle(name: str, seeded: date) -> list[Resource]:
    """All resources of one sample patient; the Patient first."""
    return list(_Record(name, seeded).all())


def egfr(creatinine_umol_l: float, sex: str, age_years: int) -> float:
    """Glomerular filtration rate, mL/min/1.73 m², by CKD-EPI 2021 (N Engl J Med 2021;385:1737)."""
    kappa, alpha, factor = (0.7, -0.241, 1.012) if sex == "female" else (0.9, -0.302, 1.0)
    ratio = creatinine_umol_l / 88.42 / kappa
    return 142 * float(min(ratio, 1) ** alpha) * float(max(ratio, 1) ** -1.2) * float(0.9938**age_years) * factor


def _json(file: str) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads((resources.files(__name__) / file).read_text("utf-8")))


def _both(entry: Story, zh: str = "zh", en: str = "en", between: str = " ") -> str:
    return f"{entry[zh]}{between}{entry[en]}"


def _coding(system: str, code: str, display: str | None = None) -> Resource:
    return {"system": system, "code": code, **({"display": display} if display else {})}


def _concept(text: str, *codings: Resource) -> Resource:
    return {**({"coding": list(codings)} if codings else {}), "text": text}


def _hl7(system: str, code: str, display: str | None = None) -> Resource:
    return {"coding": [_coding(_HL7 + system, code, display)]}


def _by_sex(limit: Any, sex: str) -> float | None:
    return limit.get(sex) if isinstance(limit, dict) else limit


class _Record:
    """Resources of one story."""

    def __init__(self, name: str, seeded: date) -> None:
        self._story = story(name)
        self._seeded = seeded
        self._prefix: str = self._story["id"]
        self._sex: str = self._story["sex"]
        self._hospital = HOSPITALS[name]
        self._subject = {"reference": f"Patient/{self._prefix}", "display": _both(self._story["name"])}

    def all(self) -> Iterator[Resource]:
        yield self._patient()
        for kind, make in (
            ("encounters", self._encounter),
            ("conditions", self._condition),
            ("allergies", self._allergy),
            ("medications", self._medication),
            ("statements", self._statement),
            ("reports", self._report),
            ("procedures", self._procedure),
            ("immunizations", self._immunization),
        ):
            for entry in self._story.get(kind, []):
                yield make(entry)
        yield from self._labs()
        yield from self._vitals()
        for entry in self._story["documents"]:
            yield from self._document(entry)
        for entry in self._story.get("imaging", []):
            yield from self._study(entry)
        for entry in self._story.get("traces", []):
            yield from self._trace(entry)

    # ------------------------------------------------------------ parts

    def _at(self, day: int, clock: str = "09:00") -> str:
        hour, minute = clock.split(":")
        moment = datetime.combine(self._day(day), time(int(hour), int(minute)), CHINA)
        return moment.isoformat()

    def _day(self, day: int) -> date:
        return self._seeded + timedelta(days=day)

    def _resource(self, kind: str, key: str, **fields: Any) -> Resource:
        return {
            "resourceType": kind,
            "id": f"{self._prefix}-{key}",
            "meta": {"security": [HTEST], "tag": [HTEST]},
            **fields,
        }

    def _patient(self) -> Resource:
        name = self._story["name"]
        return {
            "resourceType": "Patient",
            "id": self._prefix,
            "meta": {"security": [HTEST], "tag": [HTEST]},
            "active": True,
            "identifier": [
                {
                    "use": "usual",
                    "type": _concept("病历号 MRN", _coding(_HL7 + "v2-0203", "MR", "Medical record number")),
                    "system": "urn:consilium:demo:mrn",
                    "value": self._story["mrn"],
                    "assigner": {"display": self._hospital},
                },
                {
                    "use": "official",
                    "type": _concept("身份证号（测试） ID (test)", _coding(_HL7 + "v2-0203", "NI")),
                    "system": "urn:consilium:demo:national-id",
                    "value": self._story["national_id"],
                },
            ],
            "name": [
                {"use": "official", "text": name["zh"], "family": name["family_zh"], "given": [name["given_zh"]]},
                {"use": "usual", "text": name["en"], "family": name["family_en"], "given": [name["given_en"]]},
            ],
            "gender": self._sex,
            "birthDate": self._story["birth_date"],
            "managingOrganization": {"display": self._hospital},
        }  # fmt: skip

    def _encounter(self, entry: Story) -> Resource:
        period = {"start": self._at(entry["start"], "08:30")}
        if "end" in entry:
            period["end"] = self._at(entry["end"], "11:30")
        return self._resource(
            "Encounter",
            f"encounter-{entry['id']}",
            status=entry["status"],
            **{"class": _coding(_HL7 + "v3-ActCode", entry["class"])},
            type=[_concept(_both(entry))],
            subject=self._subject,
            period=period,
            serviceProvider={"display": self._hospital},
        )

    def _condition(self, entry: Story) -> Resource:
        codings = [_coding(SNOMED, entry["snomed"], entry["en"])] if "snomed" in entry else []
        codings.append(_coding(ICD10, entry["icd10"]))
        fields: Resource = {"onsetDateTime": self._day(entry["onset"]).isoformat()}
        if "abated" in entry:
            fields["abatementDateTime"] = self._day(entry["abated"]).isoformat()
        if "severity" in entry:
            zh = {"mild": "轻度", "moderate": "中度", "severe": "重度"}[entry["severity"]]
            fields["severity"] = _concept(f"{zh} {entry['severity']}")
        if "note_zh" in entry:
            fields["note"] = [{"text": _both(entry, "note_zh", "note_en")}]
        return self._resource(
            "Condition",
            f"condition-{entry['id']}",
            clinicalStatus=_hl7("condition-clinical", entry["clinical"]),
            verificationStatus=_hl7("condition-ver-status", "provisional" if entry.get("provisional") else "confirmed"),
            category=[_hl7("condition-category", "problem-list-item", "Problem List Item")],
            code=_concept(_both(entry), *codings),
            subject=self._subject,
            recordedDate=self._day(entry["onset"]).isoformat(),
            **fields,
        )

    def _allergy(self, entry: Story) -> Resource:
        codings = [_coding(SNOMED, entry["snomed"], entry["snomed_display"])] if "snomed" in entry else []
        return self._resource(
            "AllergyIntolerance",
            f"allergy-{entry['id']}",
            clinicalStatus=_hl7("allergyintolerance-clinical", "active"),
            verificationStatus=_hl7("allergyintolerance-verification", "confirmed"),
            type=entry["type"],
            category=[entry["category"]],
            criticality=entry["criticality"],
            code=_concept(_both(entry), *codings),
            patient=self._subject,
            recordedDate=self._day(entry["recorded"]).isoformat(),
            reaction=[
                {
                    "manifestation": [_concept(_both(entry, "reaction_zh", "reaction_en"))],
                    "severity": entry["severity"],
                }
            ],
        )

    def _medication(self, entry: Story) -> Resource:
        reason = next(c for c in self._story["conditions"] if c["id"] == entry["for"])
        validity = {"validityPeriod": {"end": self._day(entry["end"]).isoformat()}} if "end" in entry else {}
        return self._resource(
            "MedicationRequest",
            f"medication-{entry['id']}",
            status=entry["status"],
            intent="order",
            medicationCodeableConcept=_concept(_both(entry), _coding(ATC, entry["atc"], entry["en"])),
            subject=self._subject,
            authoredOn=self._at(entry["start"], "10:00"),
            requester={"display": self._hospital},
            reasonReference=[
                {"reference": f"Condition/{self._prefix}-condition-{reason['id']}", "display": _both(reason)}
            ],
            dosageInstruction=[
                {
                    "text": _both(entry, "dose_zh", "dose_en", " / "),
                    **({"asNeededBoolean": True} if entry.get("as_needed") else {}),
                }
            ],
            **({"dispenseRequest": validity} if validity else {}),
        )

    def _statement(self, entry: Story) -> Resource:
        period = {"start": self._day(entry["start"]).isoformat()}
        if "end" in entry:
            period["end"] = self._day(entry["end"]).isoformat()
        return self._resource(
            "MedicationStatement",
            f"statement-{entry['id']}",
            status=entry["status"],
            medicationCodeableConcept=_concept(_both(entry)),
            subject=self._subject,
            effectivePeriod=period,
            dateAsserted=self._at(-1, "09:10"),
            dosage=[{"text": _both(entry, "dose_zh", "dose_en", " / ")}],
            note=[{"text": _both(entry, "note_zh", "note_en")}],
        )

    def _procedure(self, entry: Story) -> Resource:
        return self._resource(
            "Procedure",
            f"procedure-{entry['id']}",
            status="completed",
            code=_concept(_both(entry), *([_coding(SNOMED, entry["snomed"])] if "snomed" in entry else [])),
            subject=self._subject,
            performedDateTime=self._at(entry["day"], entry["time"]),
            performer=[{"actor": {"display": entry["by"]}}],
            outcome=_concept(_both(entry, "outcome_zh", "outcome_en")),
        )

    def _immunization(self, entry: Story) -> Resource:
        return self._resource(
            "Immunization",
            f"immunization-{entry['id']}",
            status="completed",
            vaccineCode=_concept(_both(entry)),
            patient=self._subject,
            occurrenceDateTime=self._day(entry["day"]).isoformat(),
            lotNumber=entry["lot"],
        )

    def _report(self, entry: Story) -> Resource:
        section = {"RAD": "Radiology", "CUS": "Cardiac Ultrasound", "EC": "Electrocardiac (e.g., EKG, EEC, Holter)"}
        codings = [_coding(LOINC, entry["loinc"], entry["display"])] if "loinc" in entry else []
        at = self._at(entry["day"], entry["time"])
        findings = _both(entry, "findings_zh", "findings_en", "\n\n")
        conclusion = _both(entry, "conclusion_zh", "conclusion_en", "\n\n")
        return self._resource(
            "DiagnosticReport",
            f"report-{entry['id']}",
            status="final",
            category=[_hl7("v2-0074", entry["category"], section[entry["category"]])],
            code=_concept(_both(entry), *codings),
            subject=self._subject,
            effectiveDateTime=at,
            issued=at,
            performer=[{"display": entry["by"]}],
            conclusion=conclusion,
            presentedForm=[
                {
                    "contentType": "text/plain; charset=utf-8",
                    "title": _both(entry),
                    "data": base64.b64encode(f"{findings}\n\n{conclusion}\n".encode()).decode(),
                }
            ],
        )

    # ------------------------------------------------------------ measurements

    def _labs(self) -> Iterator[Resource]:
        tests = catalogue()
        born = date.fromisoformat(self._story["birth_date"])
        results: dict[str, list[list[Any]]] = dict(self._story["labs"])
        results["egfr"] = [
            [day, clock, egfr(value, self._sex, (self._day(day) - born).days * 4 // 1461)]
            for day, clock, value in results["creatinine"]
        ]
        for short_name, values in results.items():
            for number, (day, clock, value) in enumerate(values, start=1):
                yield self._lab(f"lab-{short_name.replace('_', '-')}-{number}", tests[short_name], day, clock, value)

    def _lab(self, key: str, test: Story, day: int, clock: str, value: float) -> Resource:
        shown = round(float(value), test["decimals"])
        number: float = int(shown) if test["decimals"] == 0 else shown
        low, high = _by_sex(test.get("low"), self._sex), _by_sex(test.get("high"), self._sex)
        unit = {"unit": test["unit"], "system": UCUM, "code": test["ucum"]}
        if not test["unit"]:
            del unit["unit"]
        limits = {name: {"value": limit, **unit} for name, limit in (("low", low), ("high", high)) if limit is not None}
        text = f"{low}-{high}" if low is not None and high is not None else (f"<{high}" if low is None else f"≥{low}")
        flag = _flag(number, low, high, test.get("critical_low"), test.get("critical_high"))
        return self._observation(
            key,
            "laboratory",
            _concept(_both(test), _coding(LOINC, test["loinc"], test["display"])),
            self._at(day, clock),
            valueQuantity={"value": number, **unit},
            interpretation=[_concept(flag, _coding(_HL7 + "v3-ObservationInterpretation", flag))],
            referenceRange=[{**limits, "text": text}],
        )

    def _vitals(self) -> Iterator[Resource]:
        for short_name, values in self._story["vitals"].items():
            for number, (day, clock, *measured) in enumerate(values, start=1):
                key = f"vital-{short_name.replace('_', '-')}-{number}"
                if short_name == "blood_pressure":
                    yield self._pressure(key, self._at(day, clock), *measured)
                    continue
                vital = _VITALS[short_name]
                yield self._observation(
                    key,
                    "vital-signs",
                    _concept(f"{vital.zh} {vital.en}", _coding(LOINC, vital.loinc, vital.display)),
                    self._at(day, clock),
                    valueQuantity={"value": measured[0], "unit": vital.unit, "system": UCUM, "code": vital.ucum},
                )

    def _pressure(self, key: str, at: str, systolic: int, diastolic: int) -> Resource:
        def part(text: str, code: str, display: str, value: int) -> Resource:
            quantity = {"value": value, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"}
            return {"code": _concept(text, _coding(LOINC, code, display)), "valueQuantity": quantity}

        return self._observation(
            key,
            "vital-signs",
            _concept("血压 Blood pressure", _coding(LOINC, "85354-9", "Blood pressure panel")),
            at,
            component=[
                part("收缩压 Systolic", "8480-6", "Systolic blood pressure", systolic),
                part("舒张压 Diastolic", "8462-4", "Diastolic blood pressure", diastolic),
            ],
        )

    def _observation(self, key: str, category: str, code: Resource, at: str, **fields: Any) -> Resource:
        return self._resource(
            "Observation",
            key,
            status="final",
            category=[_hl7("observation-category", category, category.replace("-", " ").title())],
            code=code,
            subject=self._subject,
            effectiveDateTime=at,
            performer=[{"display": self._hospital}],
            **fields,
        )

    # ------------------------------------------------------------ documents

    def _document(self, entry: Story) -> Iterator[Resource]:
        if "picture" in entry:
            content_type, data = "image/png", pictures.draw(entry["picture"])
        elif "file" in entry:
            content_type, data = "application/pdf", (resources.files(__name__) / entry["file"]).read_bytes()
        else:
            content_type, data = "text/plain; charset=utf-8", entry["text"].encode()
        key = f"document-{entry['id']}"
        binary = self._resource(
            "Binary",
            key,
            contentType=content_type,
            securityContext={"reference": self._subject["reference"]},
            data=base64.b64encode(data).decode(),
        )
        yield binary
        at = self._at(entry["day"], entry["time"])
        yield self._resource(
            "DocumentReference",
            key,
            status="current",
            docStatus="final",
            type=_concept(_both(entry), _coding(LOINC, entry["loinc"], entry["display"])),
            subject=self._subject,
            date=at,
            author=[{"display": entry["author"]}],
            description=_both(entry),
            content=[
                {
                    "attachment": {
                        "contentType": content_type,
                        "url": f"Binary/{binary['id']}",
                        "size": len(data),
                        "title": _both(entry),
                        "creation": at,
                    }
                }
            ],
        )

    def _binary(self, key: str, content_type: str, data: bytes) -> Resource:
        return {
            **self._resource("Binary", key),
            "id": key,
            "contentType": content_type,
            "securityContext": {"reference": self._subject["reference"]},
            "data": base64.b64encode(data).decode(),
        }

    def _study(self, entry: Story) -> Iterator[Resource]:
        draw, sop_class, count = {
            "ct": (scans.ct_slice, CT_CLASS, scans.CT_SLICES),
            "radiograph": (scans.radiograph, DX_CLASS, 2),
        }[entry["kind"]]
        banner, key = banner_of(self._patient(), test=True), f"{self._prefix}-imaging-{entry['id']}"
        at = self._at(entry["day"], entry["time"])
        listed = []
        for number in range(count):
            data = draw(banner, key, number, datetime.fromisoformat(at))
            yield self._binary(binary_id(scans.uid(key, number)), "application/dicom", data)
            sop = {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{sop_class}"}
            listed.append({"uid": scans.uid(key, number), "sopClass": sop, "number": number + 1})
        modality = _coding("http://dicom.nema.org/resources/ontology/DCM", entry["modality"])
        series = {"uid": scans.uid(key, "series"), "number": 1, "modality": modality, "numberOfInstances": count}
        yield self._resource(
            "ImagingStudy",
            f"imaging-{entry['id']}",
            identifier=[{"system": "urn:dicom:uid", "value": f"urn:oid:{scans.uid(key)}"}],
            status="available",
            modality=[modality],
            subject=self._subject,
            started=at,
            numberOfSeries=1,
            numberOfInstances=count,
            description=_both(entry),
            series=[{**series, "description": _both(entry, "series_zh", "series_en"), "instance": listed}],
        )

    def _trace(self, entry: Story) -> Iterator[Resource]:
        """A 12-lead ECG as DICOM, and the document that names it."""
        key, at = f"{self._prefix}-trace-{entry['id']}", self._at(entry["day"], entry["time"])
        banner = banner_of(self._patient(), test=True)
        data = scans.ecg(banner, key, datetime.fromisoformat(at), seed=entry["seed"])
        yield self._binary(binary_id(scans.uid(key)), "application/dicom", data)
        yield self._resource(
            "DocumentReference",
            f"trace-{entry['id']}",
            masterIdentifier={"system": "urn:dicom:uid", "value": f"urn:oid:{scans.uid(key)}"},
            status="current",
            type=_concept(_both(entry), _coding(LOINC, "11524-6", "EKG study")),
            subject=self._subject,
            date=at,
            author=[{"display": entry["author"]}],
            description=_both(entry),
            context={"related": [{"reference": f"DiagnosticReport/{self._prefix}-report-{entry['report']}"}]},
            content=[
                {
                    "attachment": {
                        "contentType": "application/dicom",
                        "url": f"urn:oid:{scans.uid(key)}",
                        "size": len(data),
                        "title": _both(entry),
                        "creation": at,
                    }
                }
            ],
        )


def _flag(
    value: float, low: float | None, high: float | None, critical_low: float | None, critical_high: float | None
) -> str:
    """HL7 observation interpretation: LL, L, N, H or HH."""
    if critical_high is not None and value >= critical_high:
        return "HH"
    if critical_low is not None and value <= critical_low:
        return "LL"
    if high is not None and value > high:
        return "H"
    if low is not None and value < low:
        return "L"
    return "N"


def today() -> date:
    """The seed day as the sample hospitals' calendars have it."""
    return datetime.now(UTC).astimezone(CHINA).date()
