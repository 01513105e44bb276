"""Laws of what a hospital's FHIR server says: whatever its JSON, a crossing of the patient's own or a typed refusal."""

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from server.gateway.adapters.fhir_answers import matches, next_link
from server.gateway.adapters.fhir_news import NoNews, Person, crossing_of, patient_id_of, retracted, version_of
from server.gateway.adapters.fhir_poll import _NOT_FHIR
from tests.hl7v2_kit import MRN, PROFILE

PERSON = Person(
    resource={"resourceType": "Patient", "id": "p1", "identifier": [{"system": MRN, "value": "10042"}]},
    pairs=((MRN, "10042"),),
)
NAMES = ("resourceType", "id", "meta", "subject", "reference", "identifier", "status", "content", "attachment", "url",
         "presentedForm", "contained", "text", "div", "participant", "actor", "encounter", "extension")  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5),
    st.sampled_from(["Patient/p1", "Patient/p2", "http://emr/Patient/p1", "Practitioner/d", "Observation/o9", "#c"]),
)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
RESOURCES = st.builds(
    lambda some, subject: {**some, "resourceType": "Observation", "id": "o1", "subject": subject},
    st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=6),
    st.sampled_from([{"reference": "Patient/p1"}, {"reference": "Patient/p2"}, {"reference": "Group/p1"}, {}, 7]),
)


def said(value: Any) -> list[str]:
    """Every reference in it."""
    if isinstance(value, list):
        return [text for one in value for text in said(one)]
    if not isinstance(value, dict):
        return []
    own = [value["reference"]] if isinstance(value.get("reference"), str) else []
    return own + [text for one in value.values() for text in said(one)]


@settings(max_examples=150)
@given(RESOURCES)
def test_any_resource_is_the_patients_own_or_refused_and_names_nothing_inside(resource: dict[str, Any]) -> None:
    with contextlib.suppress(NoNews, *_NOT_FHIR):
        owner = patient_id_of(resource, "Observation", "http://emr")
        assert resource["subject"]["reference"].endswith(f"Patient/{owner}")
        if owner != "p1":
            return
        for one in (resource, retracted(resource)):
            how: dict[str, Any] = {"name": "emr", "base": "http://emr", "profile": PROFILE, "binaries": {}}
            made = crossing_of(one, PERSON, version=version_of(one), **how)
            assert made == crossing_of(one, PERSON, version=version_of(one), **how), "a function"
            (patient, filed) = json.loads(made.body)["entry"]
            assert filed["resource"]["subject"]["reference"] == patient["fullUrl"]
            for reference in said(filed["resource"]):
                assert not reference.startswith(("Patient/", "Practitioner/", "http")), "ids of the hospital's server"


@given(ANYTHING)
def test_any_page_is_read_or_is_none(page: Any) -> None:
    with contextlib.suppress(*_NOT_FHIR):
        assert isinstance(matches(page), list)
        assert next_link(page, "http://emr") is None or str(next_link(page, "http://emr")).startswith("http://emr")
