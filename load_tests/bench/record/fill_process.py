"""Fill a demo's store with the patients that `opening` opens; run as a child: load tests never import a shell.

python -m load_tests.bench.record.fill_process DATA_DIR CONSULT 100 10000
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from server.record.aio.store import put_resource
from server.settings import load_settings
from server.storage.database import Database
from server.storage.models import ConsultPatient

_BATCH = 500
_TEST = {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}


def patient_id(size: int) -> str:
    """Of the patient with so many resources."""
    return f"open-{size}"


def resources(size: int) -> Iterator[dict[str, Any]]:
    """A patient and what a long illness leaves: mostly results, all of them checkable FHIR."""
    chance, patient = random.Random(size), patient_id(size)
    subject = {"reference": f"Patient/{patient}"}
    yield {
        "resourceType": "Patient", "id": patient, "meta": _TEST, "gender": "male", "birthDate": "1950-01-01",
        "name": [{"text": f"测试 {size}"}],
        "identifier": [{"type": {"text": label}, "value": f"{label}-{size}"} for label in ("MRN", "ID")],
    }  # fmt: skip
    for number in range(1, size):
        kind, day = chance.random(), f"20{chance.randrange(15, 26)}-{chance.randrange(1, 13):02}-{number % 28 + 1:02}"
        common = {"id": f"{patient}-{number}", "meta": _TEST, "subject": subject}
        if number % 100 == 1:
            yield {
                **common,
                "resourceType": "Condition",
                "code": {"text": f"诊断 Problem {number}"},
                "onsetDateTime": day,
            }
        elif number % 100 == 2:
            yield {
                **common, "resourceType": "MedicationRequest", "status": "stopped", "intent": "order",
                "authoredOn": day, "medicationCodeableConcept": {"text": f"药品 Medicine {number}"},
            }  # fmt: skip
        elif kind < 0.05:
            yield {
                **common, "resourceType": "DiagnosticReport", "status": "final", "effectiveDateTime": day,
                "code": {"text": "报告 Report"}, "conclusion": "未见明显异常。 No abnormality." * 8,
            }  # fmt: skip
        else:
            code = str(chance.randrange(80))
            category = "vital-signs" if kind < 0.15 else "laboratory"
            coding = [{"system": "http://loinc.org", "code": f"100{code}-1"}]
            yield {
                **common, "resourceType": "Observation", "status": "final",
                "category": [{"coding": [{"code": category}]}],
                "effectiveDateTime": f"{day}T08:00:00+08:00", "code": {"text": f"项目 Test {code}", "coding": coding},
                "valueQuantity": {"value": round(chance.uniform(1, 9), 2), "unit": "mmol/L"},
                "referenceRange": [{"low": {"value": 2}, "high": {"value": 8}}],
            }  # fmt: skip


async def fill(data_dir: Path, consult: str, sizes: list[int]) -> None:
    """A patient of each size into the demo's store and its consult."""
    settings = load_settings({}, data_dir=data_dir)
    database = Database(settings.database)
    try:
        for position, size in enumerate(sizes, start=90):
            waiting = list(resources(size))
            for start in range(0, size, _BATCH):
                async with database.write() as session:
                    for resource in waiting[start : start + _BATCH]:
                        await put_resource(session, resource, actor="bench", at_ms=1)
            async with database.write() as session:
                session.add(ConsultPatient(consult_id=consult, patient_id=patient_id(size), position=position))
    finally:
        await database.close()


if __name__ == "__main__":
    asyncio.run(fill(Path(sys.argv[1]), sys.argv[2], [int(size) for size in sys.argv[3:]]))
