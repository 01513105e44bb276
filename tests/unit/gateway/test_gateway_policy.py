"""What may cross: default deny, element by element; who may ask. Laws for any resource."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.gateway.core.crossing import Crossing, LockRefused, RefusalCode
from server.gateway.core.fields import FieldFilter, FieldRule
from server.gateway.core.policy import Policy, PolicyInvalid, parse_policy
from server.gateway.core.responder import QueryCode, QueryFailed, RecordQuery
from server.gateway.policy_text import policy_lines

TEXT = """
version = 1
[[out]]
kind = "ADT^A0?"
types = ["Patient"]
[[out]]
kind = "ORU^R01"
sources = ["lis"]
identifier_systems = ["urn:mrn"]
[[out]]
kind = "DICOM ECG"
media_types = ["application/dicom"]
about = ["Modality"]
[[in]]
kind = "MDM^*"
[fields.Patient]
allow = ["identifier.value", "identifier.system", "name", "birthDate"]
hash = ["telecom.value"]
replace = { "address.line" = "-" }
[fields.Observation]
allow = ["status", "subject", "value[x]", "performer"]
[questions]
types = ["Observation"]
roles = ["doctor"]
organisations = ["hub"]
max_count = 10
"""
POLICY = parse_policy(TEXT, b"s" * 32)


def bundle(*resources: dict[str, Any]) -> bytes:
    entries = [{"fullUrl": f"urn:uuid:{place}", "resource": one} for place, one in enumerate(resources)]
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()


def crossing(kind: str, body: bytes, media_type: str = "application/fhir+json") -> Crossing:
    return Crossing(
        kind=kind, key="1", patient=(("urn:mrn", "1"), ("urn:id", "2")), media_type=media_type, body=body, made_us=0,
        about=(("Modality", "ECG"), ("PatientName", "W")),
    )  # fmt: skip


PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "text": {"div": "<div>W</div>"},
    "extension": [{"url": "x", "valueString": "y"}],
    "identifier": [{"system": "urn:mrn", "value": "1", "assigner": {"display": "z"}}],
    "name": [{"text": "W", "extension": [{"url": "py"}]}],
    "_birthDate": {"extension": []},
    "birthDate": "1960-05-01",
    "telecom": [{"system": "phone", "value": "138"}, {"value": "138"}],
    "address": [{"line": ["Road 1"], "city": "Jiaxing"}],
    "contact": [{"name": {"text": "V"}}],
}


def test_only_what_is_named_crosses() -> None:
    """A path allows what is below it and nothing beside it; the envelope is filtered too."""
    admitted = POLICY.outward("adt", crossing("ADT^A01", bundle(PATIENT, {"resourceType": "Observation", "id": "o"})))
    (entry,) = json.loads(admitted.crossing.body)["entry"]
    resource = entry["resource"]
    pseudonym = resource["telecom"][0].pop("value")
    assert resource["telecom"].pop(1) == {"value": pseudonym}
    assert pseudonym != "138"
    assert resource == {
        "resourceType": "Patient",
        "id": "p",
        "identifier": [{"system": "urn:mrn", "value": "1"}],
        "name": [{"text": "W", "extension": [{"url": "py"}]}],
        "birthDate": "1960-05-01",
        "telecom": [{}],
        "address": [{"line": ["-"]}],
    }
    assert admitted.left_out == ("Observation",)
    other = parse_policy(TEXT, b"t" * 32).outward("adt", crossing("ADT^A01", bundle(PATIENT)))
    assert pseudonym.encode() not in other.crossing.body, "another hospital's secret, another pseudonym"


def test_references_to_what_stays_inside_stay_too() -> None:
    observation = {
        "resourceType": "Observation", "id": "o", "status": "final", "subject": {"reference": "urn:uuid:0"},
        "performer": [{"reference": "urn:uuid:2", "display": "Dr. X"}], "valueQuantity": {"value": 1}, "value": 3,
    }  # fmt: skip
    admitted = POLICY.outward(
        "lis", crossing("ORU^R01", bundle(PATIENT, observation, {"resourceType": "Practitioner"}))
    )
    _patient, kept = (entry["resource"] for entry in json.loads(admitted.crossing.body)["entry"])
    assert kept["performer"] == [{"display": "Dr. X"}]
    assert kept["subject"] == {"reference": "urn:uuid:0"}
    assert kept["valueQuantity"] == {"value": 1}
    assert "value" not in kept
    assert admitted.crossing.patient == (("urn:mrn", "1"),)


WAYS_AROUND = """
version = 1
[[out]]
kind = "ORU^R01"
[fields.Patient]
allow = ["identifier", "birthDate"]
identifier_systems = ["urn:mrn"]
[fields.Observation]
allow = ["status", "subject", "performer", "contained", "code", "focus.display"]
hash = ["code.text"]
[fields.Medication]
allow = ["status"]
[questions]
types = ["Observation"]
roles = ["doctor"]
organisations = ["hub"]
"""


def test_nothing_slips_past_a_rule_inside_what_is_allowed() -> None:
    """Contained resources, primitives' extensions, what a reference repeats of a person, numbers of other systems."""
    policy = parse_policy(WAYS_AROUND, b"s" * 32)
    person = {
        "resourceType": "Patient", "id": "p", "birthDate": "1960-05-01", "name": [{"text": "W"}],
        "identifier": [{"system": "urn:mrn", "value": "1"}, {"system": "urn:id", "value": "SECRET"}],
    }  # fmt: skip
    observation = {
        "resourceType": "Observation", "id": "o", "status": "final",
        "subject": {"reference": "urn:uuid:0", "display": "W", "identifier": {"system": "urn:id", "value": "SECRET"}},
        "performer": [
            {"reference": "Practitioner/9", "display": "Dr. X"}, {"type": "RelatedPerson", "display": "W's son"},
            {"reference": "http://inside/fhir/Patient/p/_history/2", "display": "W"},
        ],
        "contained": [
            {"resourceType": "Patient", "id": "c", "name": [{"text": "W"}], "birthDate": "1960-05-01"},
            {"resourceType": "Medication", "id": "m", "status": "active", "code": {"text": "W's own"}},
            {"resourceType": "Provenance", "id": "x", "agent": [{"who": {"display": "W"}}]},
        ],
        "code": {
            "coding": [{"code": "1", "display": "K"}], "text": "W", "_text": {"extension": [{"valueString": "W"}]},
        },
        "focus": [{"reference": "Patient/p", "display": "named by a path"}],
    }  # fmt: skip
    expected = {
        "resourceType": "Observation", "id": "o", "status": "final", "subject": {"reference": "urn:uuid:0"},
        "performer": [
            {"reference": "Practitioner/9", "display": "Dr. X"}, {"type": "RelatedPerson"},
            {"reference": "http://inside/fhir/Patient/p/_history/2"},
        ],
        "contained": [
            {"resourceType": "Patient", "id": "c", "birthDate": "1960-05-01"},
            {"resourceType": "Medication", "id": "m", "status": "active"},
        ],
        "focus": [{"display": "named by a path"}],
    }  # fmt: skip
    admitted = policy.outward("lis", crossing("ORU^R01", bundle(person, observation))).crossing
    who, kept = (entry["resource"] for entry in json.loads(admitted.body)["entry"])
    assert who["identifier"] == [{"system": "urn:mrn", "value": "1"}]
    assert "name" not in who
    code = kept.pop("code")
    assert (code.keys(), code["coding"]) == ({"coding", "text"}, [{"code": "1", "display": "K"}])
    assert kept == expected
    answered = policy.answer({**observation, "subject": {"display": "W", "identifier": {"system": "urn:id"}}})
    assert answered is not None
    assert "W" not in json.dumps([answered[name] for name in ("performer", "contained") if name in answered])
    assert "subject" not in answered or answered["subject"] == {}
    mine = policy.answer({**observation, "subject": {"identifier": {"system": "urn:mrn", "value": "1"}}})
    assert mine is not None
    assert mine["subject"] == {"identifier": {"system": "urn:mrn", "value": "1"}}


@pytest.mark.parametrize("request_", [
    {"method": "PUT", "url": "Patient?identifier=urn:id|SECRET"},
    {"method": "POST", "url": "Patient", "ifNoneExist": "active=true&identifier=urn%3Aid%7CSECRET"},
])  # fmt: skip
def test_nobody_is_found_by_a_number_that_may_not_cross(request_: dict[str, str]) -> None:
    entry = {"resource": {"resourceType": "Patient"}, "request": request_}
    body = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    policy = parse_policy(WAYS_AROUND, b"s" * 32)
    with pytest.raises(LockRefused) as told:
        policy.outward("lis", crossing("ORU^R01", body.encode()))
    assert told.value.code is RefusalCode.NOT_ALLOWED
    assert "SECRET" not in str(told.value)
    policy.outward("lis", crossing("ORU^R01", body.replace("urn:id", "urn:mrn").replace("%3Aid", ":mrn").encode()))


@pytest.mark.parametrize("value", ["NaN", "1e999", '"\\ud800"'])
def test_what_can_be_read_and_not_written_is_malformed(value: str) -> None:
    """Python reads more as JSON than it can write: the source hears a refusal, not silence."""
    entry = f'{{"resource":{{"resourceType":"Observation","status":{value}}}}}'
    body = f'{{"resourceType":"Bundle","type":"transaction","entry":[{entry}]}}'
    with pytest.raises(LockRefused) as told:
        POLICY.outward("lis", crossing("ORU^R01", body.encode()))
    assert told.value.code is RefusalCode.MALFORMED


@pytest.mark.parametrize(
    ("source", "kind", "body", "media_type", "code"),
    [
        ("lis", "ORM^O01", bundle(PATIENT), "application/fhir+json", RefusalCode.NOT_ALLOWED),
        ("adt", "ORU^R01", bundle(PATIENT), "application/fhir+json", RefusalCode.NOT_ALLOWED),
        ("adt", "ADT^A40", bundle(PATIENT), "application/fhir+json", RefusalCode.NOT_ALLOWED),
        ("lis", "ORU^R01", b"x", "text/plain", RefusalCode.NOT_ALLOWED),
        ("lis", "ORU^R01", bundle({"resourceType": "Coverage"}), "application/fhir+json", RefusalCode.NOT_ALLOWED),
        ("lis", "ORU^R01", b"{", "application/fhir+json", RefusalCode.MALFORMED),
        ("lis", "ORU^R01", b"[" * 5_000, "application/fhir+json", RefusalCode.MALFORMED),
        ("lis", "ORU^R01", json.dumps(PATIENT).encode(), "application/fhir+json", RefusalCode.MALFORMED),
        ("lis", "ORU^R01", b'{"resourceType":"Bundle","entry":[1]}', "application/fhir+json", RefusalCode.MALFORMED),
    ],
)
def test_default_deny(source: str, kind: str, body: bytes, media_type: str, code: RefusalCode) -> None:
    with pytest.raises(LockRefused) as told:
        POLICY.outward(source, crossing(kind, body, media_type))
    assert told.value.code is code
    assert "Road" not in str(told.value)


def test_files_cross_whole_with_named_metadata_only() -> None:
    admitted = POLICY.outward("pacs", crossing("DICOM ECG", b"DICM", "application/dicom"))
    assert (admitted.crossing.body, admitted.crossing.about) == (b"DICM", (("Modality", "ECG"),))
    POLICY.inward(crossing("MDM^T02", b"x"))
    with pytest.raises(LockRefused):
        POLICY.inward(crossing("ORU^R01", b"x"))
    with pytest.raises(LockRefused):
        parse_policy("version = 1", b"").inward(crossing("MDM^T02", b"x"))


def ask(policy: Policy = POLICY, **change: Any) -> RecordQuery:
    who = {name: change.pop(name, default) for name, default in
           (("role", "doctor"), ("organisation", "hub"), ("purpose", "consult"))}  # fmt: skip
    given_ = {"type": "Observation", "params": (), "patient": (("urn:mrn", "1"),)} | change
    query = RecordQuery(resource_id=None, max_bytes=10**9, max_count=10**6, **given_)
    return policy.question(query, **who)


def test_the_hospital_decides_who_may_ask_what() -> None:
    """[LK20] Every part of the question is decided, and bounded by the hospital."""
    allowed = ask(params=(("code", "1"), ("date", "ge2026")))
    assert (allowed.max_count, allowed.max_bytes) == (10, 4 * 1024 * 1024)
    few = ask(params=(("_count", "3"), ("code", "1")))
    assert (few.max_count, few.params) == (3, (("code", "1"),)), "a bound, which no server is trusted to keep"
    assert ask(params=(("_count", "900"),)).max_count == 10
    for count in ("0", "-1", "x", "1" * 30):
        with pytest.raises(QueryFailed) as told:
            ask(params=(("_count", count),))
        assert told.value.code is QueryCode.MALFORMED
    for change, why in (
        ({"type": "Condition"}, "type"),
        ({"role": "nurse"}, "role"),
        ({"organisation": "other"}, "organisation"),
        ({"purpose": "research"}, "purpose"),
        ({"params": (("patient", "2"),)}, "parameter"),
        ({"params": (("subject:Patient.name", "W"),)}, "parameter"),
        ({"params": (("_include", "x"),)}, "parameter"),
        ({"params": (("_has:Observation:patient:code", "x"),)}, "parameter"),
        ({"params": (("code.text", "x"),)}, "parameter"),
        ({"patient": ()}, "identifier system"),
        ({"policy": parse_policy("version = 1", b"")}, "questions"),
    ):
        with pytest.raises(QueryFailed) as told:
            ask(**change)
        assert told.value.reason == why


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version = ", "not TOML"),
        ("", "version: is missing"),
        ("version = 1\nwhitelist = []", "whitelist: is not a key"),
        ('version = 1\n[[out]]\nkind = "A"\ntypes = ["Patient"]', "no [fields.Patient]"),
        ('version = 1\n[fields.Patient]\nallow = ["name;drop"]', "is not an element path"),
        (
            'version = 1\n[questions]\ntypes = []\nroles = []\norganisations = []\nparams = ["patient"]',
            "never be asked",
        ),
        (
            'version = 1\n[questions]\ntypes = ["Observation"]\nroles = []\norganisations = []',
            "no [fields.Observation]",
        ),
    ],
)
def test_what_is_wrong_with_a_policy_is_said_with_its_place(text: str, says: str) -> None:
    with pytest.raises(PolicyInvalid, match=says.replace("[", r"\[").replace("]", r"\]")):
        parse_policy(text, b"")


def test_the_documented_policy_is_taken() -> None:
    """Whoever copies it from the manual begins with something that works."""
    text = (Path(__file__).parents[3] / "server/gateway/POLICY.md").read_text("utf-8")
    policy = parse_policy(text.partition("```toml\n")[2].partition("```")[0], b"s")
    assert policy.file.out
    assert policy.file.questions is not None


def test_a_policy_can_be_read_by_whoever_answers_for_it() -> None:
    text = "\n".join(policy_lines(POLICY))
    for part in ("ORU^R01 from lis", "MDM^*", "telecom.value becomes a pseudonym", "by doctor of hub"):
        assert part in text
    assert "Nothing leaves" in "\n".join(policy_lines(parse_policy("version = 1", b"")))


JSON = st.recursive(
    st.one_of(st.text(max_size=5), st.integers(), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abcdef"), inner, max_size=4)),
    max_leaves=25,
)
PATHS = st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3).map(".".join), max_size=5)


def leaves(value: Any, path: tuple[str, ...] = ()) -> set[tuple[tuple[str, ...], str]]:
    """Every value with the names on its way."""
    if isinstance(value, dict):
        return {one for name, inner in value.items() for one in leaves(inner, (*path, name))}
    if isinstance(value, list):
        return {one for inner in value for one in leaves(inner, path)}
    return {(path, repr(value))}


@given(st.dictionaries(st.sampled_from("abcdef"), JSON, max_size=5), PATHS, PATHS)
@settings(max_examples=60, deadline=None)
def test_what_crosses_is_exactly_what_lies_below_an_allowed_path(
    resource: dict[str, Any], allow: list[str], hashed: list[str]
) -> None:
    """Default deny as a law: no leaf crosses without a path, none that has one is lost, none of a hash is bare."""
    rule = FieldRule(allow=tuple(allow), hash=tuple(hashed))
    kept = FieldFilter({"T": rule}, b"").resource({"resourceType": "T", **resource})
    assert kept is not None
    del kept["resourceType"]
    allowed, secret = ({tuple(path.split(".")) for path in paths} for paths in (allow, hashed))
    expected = {
        (path, value)
        for path, value in leaves(resource)
        if any(path[: len(one)] == one for one in allowed) and not any(path[: len(one)] == one for one in secret)
    }
    crossed = leaves(kept)
    assert {one for one in crossed if not any(one[0][: len(path)] == path for path in secret)} == expected
    assert not {one for one in crossed - expected if one in leaves(resource)}
