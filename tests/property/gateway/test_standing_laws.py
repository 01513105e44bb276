"""Laws of what may replace what: nothing that stands is lost to something older, nothing unsaid is wiped."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.gateway.hl7v2.signals import NULLED
from server.lock.core.standing import is_other_person, plain, standing

Json = dict[str, Any]
KINDS = st.sampled_from(["ADT^A01", "ADT^A02", "ADT^A03", "ADT^A08", "ORU^R01", "ORM^O01", "FHIR Patient"])
STANDS = ("final", "amended", "corrected", "cancelled", "entered-in-error")
EARLY = ("registered", "preliminary", "partial", "unknown")
SYSTEMS = st.sampled_from(["urn:a", "urn:b", "urn:c"])
identifiers = st.lists(
    st.builds(lambda system, value: {"system": system, "value": value}, SYSTEMS, st.text("12")), max_size=4
)
ELEMENTS = ("gender", "birthDate", "telecom", "maritalStatus", "photo")


@st.composite
def patients(draw: st.DrawFn) -> Json:
    said = draw(st.dictionaries(st.sampled_from(ELEMENTS), st.sampled_from(["x", "y"]), max_size=5))
    said |= draw(st.sampled_from([{}, {"deceasedBoolean": True}, {"deceasedDateTime": "2026"}]))
    nulled = draw(st.lists(st.sampled_from([*ELEMENTS, "deceased"]), max_size=2))
    tags = [{"system": NULLED, "code": code} for code in nulled if not any(name.startswith(code) for name in said)]
    meta = {"meta": {"source": "urn:s", "tag": tags}} if tags else {}
    return {"resourceType": "Patient", "identifier": draw(identifiers), **meta, **said}


@given(patients(), patients(), KINDS)
def test_a_patient_is_what_was_said_last_of_each_part(present: Json, coming: Json, kind: str) -> None:
    present = plain(present)
    found = standing(present, coming, kind)
    assert found is not None
    nulled = {tag["code"] for tag in coming.get("meta", {}).get("tag", [])}
    assert NULLED not in str(found)
    for name in ELEMENTS:
        assert found.get(name) == coming.get(name, None if name in nulled else present.get(name))
    deceased = [name for name in found if name.startswith("deceased")]
    assert len(deceased) <= 1
    spoken_for = {one["system"] for one in coming["identifier"]}
    kept = [one for one in present["identifier"] if one["system"] not in spoken_for]
    assert found.get("identifier", []) == [*coming["identifier"], *kept]
    assert standing(found, coming, kind) == found, "the same again changes nothing"


@given(
    st.sampled_from([*STANDS, *EARLY]), st.sampled_from([*STANDS, *EARLY]),
    st.sampled_from([None, "2026-03-14T08:00:00+08:00", "2026-03-14T01:00:00Z"]),
    st.sampled_from([None, "2026-03-14T08:00:00+08:00", "2026-03-14T01:00:00Z"]), st.sampled_from(["1", "2"]),
)  # fmt: skip
def test_a_result_only_goes_forward(was: str, now: str, before: str | None, after: str | None, value: str) -> None:
    present = {"resourceType": "Observation", "status": was, "valueString": "1"} | (
        {"issued": before} if before else {}
    )
    coming = {"resourceType": "Observation", "status": now, "valueString": value} | ({"issued": after} if after else {})
    found = standing(present, coming, "ORU^R01")
    if was in STANDS and now in EARLY:
        assert found is None
    elif was in STANDS and before and after and before != after:
        assert (found is None) == before.endswith("Z"), "08:00+08:00 is an hour before 01:00Z"
    elif was == "entered-in-error" != now and value == "1" and before == after:
        assert found is None
    else:
        assert found == coming


@given(st.sampled_from(["in-progress", "arrived", "finished"]), KINDS)
def test_only_an_admission_opens_a_finished_visit(status: str, kind: str) -> None:
    present = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"code": "IMP"},
        "period": {"start": "2026", "end": "2027"},
    }
    coming = {"resourceType": "Encounter", "status": status, "class": {"code": "U"}, "period": {"end": "2028"}}
    found = standing(present, coming, kind)
    assert found is not None
    if not kind.startswith("FHIR "):
        assert (found["status"] == "finished") == (status == "finished" or kind not in ("ADT^A01", "ADT^A04"))
        assert (found["class"], found["period"]) == ({"code": "IMP"}, {"start": "2026", "end": "2028"})


PEOPLE = st.builds(
    lambda birth, names: {"birthDate": birth, "name": [{"text": name} for name in names]},
    st.sampled_from(["", "1978", "1978-03-02", "1955-01-01"]),
    st.lists(st.sampled_from(["Wang Xiaoming", "XIAOMING WANG", "Li Na", "王小明", "李娜"]), max_size=2),
)


@given(PEOPLE, PEOPLE)
def test_another_person_has_another_birth_date_and_another_name_in_a_script_of_both(one: Json, other: Json) -> None:
    assert is_other_person(one, other) == is_other_person(other, one)
    assert not is_other_person(one, one)
    if is_other_person(one, other):
        assert {one["birthDate"], other["birthDate"]} == {"1978-03-02", "1955-01-01"}
        names = [
            {"".join(sorted(name["text"].lower().replace(" ", ""))) for name in who["name"]} for who in (one, other)
        ]
        assert names[0]
        assert names[1]
        assert not names[0] & names[1]
