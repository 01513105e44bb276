"""Made-up records for tests of the FHIR store: small, varied, and the same for the same seed."""

from __future__ import annotations

import random
from typing import Any

LOINC = "http://loinc.org"
TEST_META = {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}
CODES = ("2823-3", "8867-4", "718-7", "4548-4")
DATES = (
    "2024",
    "2024-03",
    "2024-03-05",
    "2024-03-05T10:30Z",
    "2024-03-05T10:30:15+08:00",
    "2024-03-05T10:30:15.250Z",
    "2025-01-31",
    "2025-02",
    "1999-12-31T23:59:59Z",
)
WRITTEN = tuple(date for date in DATES if date != "2024-03-05T10:30Z")
"""Without seconds a time may be asked for, but not written."""
SURNAMES = ("张", "李", "王")


def patient(id_: str, name: str = "张桂兰", latin: str = "Zhang Guilan", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": id_,
        "meta": TEST_META,
        "name": [{"text": name}, {"text": latin, "family": latin.split()[0]}],
        "gender": "female",
        "birthDate": "1948-03-09",
        "identifier": [
            {"system": "urn:mrn", "type": {"text": "MRN"}, "value": f"{id_}-1"},
            {"system": "urn:id", "type": {"text": "ID"}, "value": f"{id_}-2"},
        ],
        **more,
    }


def observation(id_: str, subject: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"coding": [{"system": LOINC, "code": CODES[0]}]},
        "subject": {"reference": f"Patient/{subject}"},
        "effectiveDateTime": "2025-01-01",
        "valueQuantity": {"value": 4.1, "unit": "mmol/L"},
        **more,
    }


def encounter(id_: str, subject: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": id_,
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": {"reference": f"Patient/{subject}"},
        **more,
    }


def organization(id_: str, name: str) -> dict[str, Any]:
    return {"resourceType": "Organization", "id": id_, "name": name, "active": True}


def without_id(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name != "id"}


def record(seed: int, patients: int = 3, resources: int = 60) -> list[dict[str, Any]]:
    """Patients with encounters and observations of every kind of date; references come after what they name."""
    chance = random.Random(seed)
    made: list[dict[str, Any]] = []
    for number in range(patients):
        name = f"{chance.choice(SURNAMES)}某{number}"
        made.append(patient(f"p{number}", name, f"{chance.choice(['Zhang', 'Li', 'Wáng'])} No{number}"))
        made.append(encounter(f"e{number}", f"p{number}", period=_period(chance)))
    for number in range(resources):
        whose = chance.randrange(patients)
        made.append(_observation(chance, f"o{number}", whose))
    return made


def _period(chance: random.Random) -> dict[str, str]:
    start, end = sorted((chance.choice(DATES[:3]), chance.choice(DATES[:3])))
    period = {"start": start, "end": end}
    for side in ("start", "end"):
        if chance.random() < 0.2 and len(period) == 2:
            del period[side]
    return period


def _observation(chance: random.Random, id_: str, whose: int) -> dict[str, Any]:
    made = observation(id_, f"p{whose}", status=chance.choice(["final", "amended", "preliminary"]))
    codings = [{"system": LOINC, "code": code} for code in chance.sample(CODES, chance.choice([1, 1, 2]))]
    if chance.random() < 0.3:
        codings.append({"code": chance.choice(CODES)})  # the same code without a system is another token
    made["code"] = {"coding": codings}
    made["category"] = [{"coding": [{"code": chance.choice(["laboratory", "vital-signs"])}]}]
    if chance.random() < 0.3:
        made["encounter"] = {"reference": f"Encounter/e{whose}"}
    del made["effectiveDateTime"]
    made["valueQuantity"] = _quantity(chance)
    if chance.random() < 0.2:
        del made["valueQuantity"]
        made["component"] = [{"code": made["code"], "valueQuantity": _quantity(chance)} for _ in range(2)]
    drawn = chance.random()
    if drawn < 0.15:
        made["effectivePeriod"] = _period(chance)
    elif drawn < 0.9:
        made["effectiveDateTime"] = chance.choice(WRITTEN)
    return made


def _quantity(chance: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {"value": chance.choice([-1, 0, 4.0, 4.1, 5, 5.04, 5.05, 5.1, 95, 100.4, 1e300])}
    if chance.random() < 0.3:
        made["comparator"] = chance.choice(["<", "<=", ">=", ">"])
    form = chance.randrange(4)
    if form in (1, 3):
        made["unit"] = chance.choice(["mmol/L", "mg"])
    if form in (2, 3):
        made |= {"system": "http://unitsofmeasure.org", "code": chance.choice(["mmol/L", "mg"])}
    return made


PREFIXES = ("", "ne", "gt", "lt", "ge", "le", "sa", "eb")
NUMBERS = (
    "5",
    "5.0",
    "5.1",
    "4.1",
    "1e2",
    "1.0e2",
    "-1",
    "0",
    "100",
    "1e300",
    "5.0499999999999998223643160599749535321",
)
QUERIES = {
    "Observation": {
        "code": [
            *CODES,
            f"{LOINC}|{CODES[0]}",
            f"|{CODES[1]}",
            f"{CODES[0]},{LOINC}|{CODES[2]}",
            "none-such",
            f"{LOINC}|",
            f"urn:none|,{CODES[1]}",
        ],
        "code:not": [CODES[0], f"{LOINC}|{CODES[1]}", f"{LOINC}|"],
        "value-quantity": [
            *(f"{prefix}{number}" for prefix in (*PREFIXES, "ap") for number in NUMBERS),
            *(
                f"{prefix}5{unit}"
                for prefix in ("", "ne", "gt")
                for unit in ("||mmol/L", "|http://unitsofmeasure.org|mg", "|urn:none|mg", "||")
            ),
            "4.1,gt90||mg",
        ],
        "component-value-quantity": ["gt4", "lt5.05||mg", "5"],
        "code-value-quantity": [f"{CODES[0]}$gt4", f"{LOINC}|{CODES[1]}$lt5||mg", f"{CODES[0]}$ge5,{LOINC}|$lt4.1"],
        "value-quantity:missing": ["true", "false"],
        "encounter:missing": ["true", "false"],
        "date:missing": ["true", "false"],
        "identifier:missing": ["true", "false"],
        "category": ["laboratory", "vital-signs", "laboratory,vital-signs"],
        "status": [
            "final",
            "amended,preliminary",
            "entered-in-error",
            "http://hl7.org/fhir/observation-status|final",
            "|amended",
            "urn:none|final",
        ],
        "patient": ["p0", "p1", "Patient/p2", "p0,p2", "nobody"],
        "subject:Patient": ["p1"],
        "encounter": ["e0", "Encounter/e1", "Encounter/e1,Encounter/e2"],
        "date": [f"{prefix}{date}" for prefix in PREFIXES for date in DATES],
        "_id": ["o1", "o1,o2,o3", "p0"],
        "_tag": ["HTEST"],
        "_lastUpdated": [
            "1970-01-01",
            *(f"{prefix}1970-01-01T00:00:0{at}Z" for prefix in PREFIXES for at in ("2", "3", "1.222", "1.2224")),
        ],
    },
    "Encounter": {"date": [f"{prefix}{date}" for prefix in ("ge", "le", "sa", "eb", "") for date in DATES]},
    "Patient": {
        "name": ["张", "zhang", "Wang", "li,张", "某", "No1"],
        "name:exact": ["Wáng No0", "wang no0"],
        "name:contains": ["某1", "ANG"],
        "family": ["zh"],
        "identifier": ["urn:mrn|p1-1", "p1-1", "urn:id|p1-1", "urn:mrn|", "urn:none|"],
        "name:missing": ["true", "false"],
        "death-date:missing": ["true", "false"],
        "_tag:missing": ["true", "false"],
        "gender": ["female", "male"],
        "birthdate": ["1948", "gt1948-03-09", "le1948-03"],
        "_id": ["p0", "p0,p1"],
    },
}
"""Parameters with values worth asking for."""


def some_query(chance: random.Random) -> tuple[str, list[tuple[str, str]]]:
    """A type and up to four parameters."""
    kind = chance.choices(list(QUERIES), weights=[6, 1, 2])[0]
    names = chance.sample(list(QUERIES[kind]), min(chance.choice([0, 1, 2, 2, 3, 4]), len(QUERIES[kind])))
    pairs = [(name, chance.choice(QUERIES[kind][name])) for name in names]
    sorts = {"Observation": ["date", "-date"], "Encounter": ["date"], "Patient": ["-birthdate"]}[kind]
    if chance.random() < 0.6:
        pairs.append(("_sort", chance.choice([*sorts, "_lastUpdated", "-_lastUpdated"])))
    pairs.append(("_count", str(chance.choice([5, 9, 14, 1000]))))
    return kind, pairs
