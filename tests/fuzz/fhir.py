"""What the FHIR interface reads from outside: queries, and Bundles with their resources."""

import json
from urllib.parse import parse_qsl

from server.record.aio.writes import prepare_now
from server.record.core.bundle import references_in, rewritten
from server.record.core.index import index_rows, index_values
from server.record.core.layout import kept_text
from server.record.core.meaning import Subject, matches
from server.record.core.outcome import FhirRefusal
from server.record.core.params import TYPES
from server.record.core.query import parse_query
from server.record.core.reach import Reach
from server.record.core.resource import file_checked
from tests.fhir_kit import patient, record

_KINDS = sorted(TYPES)
_RECORD = [Subject(one["id"], "p0", 1_000, index_values(one)) for one in (*record(5, 1, 8), patient("p0"))]
_MINE = Reach.of_patients(["p0"])
QUERIES = (
    b"Observation?code=http://loinc.org|2823-3&date=ge2024-03-05T10:30:15%2B08:00&_sort=-date&_count=5",
    b"Patient?name:contains=%E5%BC%A0&birthdate=lt1950&identifier=urn:mrn|p0-1,b\\,c",
    b"Observation?patient=p0&encounter:Encounter=e0&_include=Observation:encounter&_lastUpdated=sa2020",
    b"Patient?_has:Observation:patient:code=2823-3&link:Patient.name=x",
    b"Observation?encounter.patient.identifier=urn:mrn|p0-1&patient.name:exact=%E5%BC%A0",
    b"Observation?value-quantity=gt5.4e1|http://unitsofmeasure.org|mg&encounter:missing=true&code=http://loinc.org|",
    b"Observation?code-value-quantity=http://loinc.org|2823-3$lt5||mmol/L,8867-4$ap60&component-value-quantity=ne7",
    b"Encounter?date=eb2025-02&_revinclude=Observation:encounter&_total=accurate&_summary=count",
)


def read_query(data: bytes) -> None:
    """``Type?query``: read as the interface does, and compared with some resources without an index."""
    text = data.decode("utf-8", "replace")
    kind, _, query = text.partition("?")
    try:
        found = parse_query(kind if kind in TYPES else _KINDS[len(kind) % len(_KINDS)], parse_qsl(query))
    except FhirRefusal as refusal:
        refusal_told(refusal)
        return
    for one in _RECORD:
        matches(found, one)
    mine = set(_MINE.partitions(found.type, None))
    assert set(_MINE.partitions(found.type, found.patients)) <= mine


def bundle() -> bytes:
    entries = [
        {
            "fullUrl": f"urn:uuid:{one['id']}",
            "resource": one,
            "request": {"method": "POST", "url": one["resourceType"], "ifNoneExist": "identifier=urn:mrn|1"},
        }
        for one in record(5, 1, 2)
    ]
    entries.append({"request": {"method": "DELETE", "url": "Observation/o1", "ifMatch": 'W/"2"'}})  # type: ignore[dict-item]
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}, ensure_ascii=False).encode()


def read_bundle(data: bytes) -> None:
    """A Bundle that is taken is of resources that can be filed, indexed and kept."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        prepared = prepare_now(value)
    except FhirRefusal as refusal:
        refusal_told(refusal)
        return
    for step in prepared.steps:
        if step.resource is None or step.place in prepared.refused:
            continue
        names = dict.fromkeys(references_in(step.resource), "Patient/p0")
        try:
            filed = file_checked({**rewritten(step.resource, names), "id": "x"})
        except FhirRefusal as refusal:
            refusal_told(refusal)
            continue
        values = index_values(filed.content)
        assert index_values(json.loads(kept_text(filed.content))) == values
        index_rows(filed.type, values, 1, filed.patient_id, "north")


def refusal_told(refusal: FhirRefusal) -> None:
    """A refusal can be told."""
    assert 400 <= refusal.status < 500
    json.dumps(refusal.outcome).encode()
