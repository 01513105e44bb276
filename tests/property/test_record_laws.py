"""Laws of the record's pure core: dates, index rows, cursors, scopes, Bundles; whatever the input."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from server.decimals import Exact, parse_json, text_of
from server.record.core.bundle import plan, references_in, rewritten
from server.record.core.cursor import seal, unseal
from server.record.core.dates import COMPARE, FUTURE_US, PAST_US, DateInvalid, DateRange, around, compare, parse_date
from server.record.core.elements import is_subsetted, parse_elements, subset
from server.record.core.index import INDEX_VERSION, fold, index_rows, index_values
from server.record.core.layout import kept_text, sent_text
from server.record.core.meaning import Subject, matches
from server.record.core.outcome import FhirRefusal
from server.record.core.params import TYPES, clinical_date
from server.record.core.quantities import QUANTITY_COMPARE, Quantity, quantity_fits, quantity_of
from server.record.core.query import DateValue, parse_condition, parse_query
from server.record.core.reach import Reach, in_compartment
from server.record.core.resource import check_resource
from server.smart.core.scopes import LEVELS, Scopes
from tests.fhir_kit import QUERIES, record

points = st.integers(PAST_US, FUTURE_US)
ranges = st.tuples(points, points).map(lambda two: DateRange(min(two), max(two)))
small = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda two: DateRange(min(two), max(two)))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(small, small)
def test_prefixes_agree_with_each_other(its: DateRange, asked: DateRange) -> None:
    """R4 section 3.1.1.4.7: what equals is neither unequal, nor wholly before, nor wholly after."""
    say = {prefix: compare(prefix, its, asked) for prefix in COMPARE}
    assert say["ne"] == (not say["eq"])
    assert say["ge"] == (say["gt"] or say["eq"])
    assert say["le"] == (say["lt"] or say["eq"])
    assert not (say["sa"] and (say["lt"] or say["eq"] or say["eb"]))
    assert not (say["eb"] and (say["gt"] or say["eq"]))
    assert say["gt"] or say["lt"] or say["eq"]
    assert say["sa"] == all(point > asked.high_us for point in (its.low_us, its.high_us))
    assert say["ap"] == (not say["sa"] and not say["eb"])


@given(ranges, points)
def test_what_is_near_grows_with_the_time_since(asked: DateRange, now_us: int) -> None:
    """R4 section 3.1.1.4.6: a tenth of the gap between now and the date, on both sides; none while it is now."""
    near = around(asked, now_us)
    gap_us = (
        0 if asked.low_us <= now_us <= asked.high_us else min(abs(asked.low_us - now_us), abs(asked.high_us - now_us))
    )
    assert asked.low_us - near.low_us == near.high_us - asked.high_us == gap_us // 10


@pytest.mark.parametrize(("asked", "near", "not_"), [
    ("ap2016-11-22", ("2015-12-01", "2016-11-22", "2017-11-01"), ("2015-11-01", "2017-12-01")),
    ("ap2026-11-22", ("2026-11-22T23:59:59Z", "2026"), ("2026-11-21", "2026-11-23")),
    ("ap2027-11-22", ("2027-10-20", "2027-12-20"), ("2027-10-01", "2028")),
])  # fmt: skip
def test_near_dates_as_the_standard_recommends(asked: str, near: Any, not_: Any) -> None:
    now_us = parse_date("2026-11-22T12:00:00Z").low_us
    [criterion] = parse_query("Observation", [("date", asked)], now_us=now_us).criteria
    (value,) = criterion.values
    assert isinstance(value, DateValue)
    its = {text: compare(value.prefix, parse_date(text), value.range) for text in (*near, *not_)}
    assert [text for text, fits in its.items() if fits] == list(near)


def test_a_condition_of_a_write_never_asks_for_what_is_near() -> None:
    """The same condition must mean the same tomorrow."""
    with pytest.raises(FhirRefusal):
        parse_condition("Observation", [("date", "ap2026-11-22")])


@given(st.integers(0, 10_000), st.data())
@settings(max_examples=60)
def test_a_part_says_nothing_that_the_whole_does_not(seed: int, data: st.DataObject) -> None:
    """[W18] Elements are left out or stand as they are; what must stay stays; what lacks something says so."""
    whole = data.draw(st.sampled_from(record(seed, 1, 3)))
    whole = {**whole, "modifierExtension": [{"url": "urn:x"}], "_status": {"id": "s"}}
    kind = whole["resourceType"]
    known = {"Observation": "code,value,note,effective", "Encounter": "period,class,type", "Patient": "name,birthDate"}
    names = data.draw(st.sets(st.sampled_from(known[kind].split(",")), min_size=1))
    asked = parse_elements(kind, ",".join(sorted(names)))
    part = subset(whole, asked)
    tags = part["meta"].get("tag", []) if "meta" in part else []
    assert all(whole[name] == value for name, value in part.items() if name != "meta")
    whose = {path.partition(".")[0] for path in TYPES[kind].patient}
    for name in ("resourceType", "id", "modifierExtension", "status", *whose):
        assert (name in part) == (name in whole)
    assert ("_status" in part) == (kind != "Patient"), "an element and what is said of it go together"
    assert any(map(is_subsetted, tags)) == (part.keys() != whole.keys())
    if any(map(is_subsetted, tags)):
        with pytest.raises(FhirRefusal):
            check_resource(part)
    assert subset(part, asked) == part, "a part of the part is the part"


def test_what_changes_the_meaning_of_the_rest_stays() -> None:
    """[W18] A refusal to give a drug does not become an order; a whole answer has no tag; decimals stay as written."""
    never = {
        "resourceType": "MedicationRequest", "id": "m", "status": "active", "intent": "order", "doNotPerform": True,
        "medicationReference": {"reference": "#drug"}, "contained": [{"resourceType": "Medication", "id": "drug"}],
        "subject": {"reference": "Patient/p0"}, "note": [{"text": "x"}],
        "dosageInstruction": [{"doseAndRate": [{"doseQuantity": {"value": Exact("7.40")}}]}],
    }  # fmt: skip
    part = subset(never, parse_elements("MedicationRequest", "dosageInstruction"))
    assert part.keys() == never.keys() - {"note"} | {"meta"}
    assert '"value":7.40' in text_of(part)
    assert subset(never, parse_elements("MedicationRequest", "note,dosageInstruction")) == never
    for bad in ("", ",", "value[x]", "valueQuantity", "Observation.code", "nothing", "_status", "code,nothing", "\0"):
        with pytest.raises(FhirRefusal):
            parse_elements("Observation", bad)


@given(st.datetimes(), st.sampled_from(["%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]))
def test_a_date_covers_everything_written_more_precisely(moment: Any, form: str) -> None:
    text = f"{moment.year:04}" + moment.strftime(form).removeprefix(moment.strftime("%Y"))
    whole, exact = parse_date(text), parse_date(f"{moment.year:04}-{moment:%m-%dT%H:%M:%S.%f}Z")
    assert whole.low_us <= exact.low_us == exact.high_us <= whole.high_us
    assert parse_date(text[:4]).low_us <= whole.low_us
    assert parse_date(text[:4]).high_us >= whole.high_us


@given(st.text(max_size=40))
def test_no_text_breaks_the_reader_of_dates(text: str) -> None:
    try:
        found = parse_date(text)
    except DateInvalid:
        return
    assert found.low_us <= found.high_us


def test_dates_as_the_standard_writes_them() -> None:
    day = 86_400_000_000
    assert parse_date("1970") == DateRange(0, 365 * day - 1)
    assert parse_date("1970-02") == DateRange(31 * day, 59 * day - 1)
    assert parse_date("1970-01-01T08:00:00+08:00") == DateRange(0, 999_999)
    assert parse_date("1970-01-01T00:00:00.5Z") == DateRange(500_000, 599_999)
    for bad in (
        "",
        "70",
        "1970-13",
        "1970-02-30",
        "1970-01-01T25:00Z",
        "1970-01-01T00:00+99:00",
        "1970-01-01 00:00",
        "²",
    ):
        with pytest.raises(DateInvalid):
            parse_date(bad)


names = st.sampled_from(
    [
        "code",
        "date",
        "patient",
        "_id",
        "name",
        "_sort",
        "_count",
        "_include",
        "code:not",
        "name:exact",
        "code:missing",
        "value-quantity",
        "code-value-quantity",
        "_elements",
        "patient.name",
        "subject:Patient.identifier",
        "_has:Observation:patient:code",
        "encounter.patient._id",
        "_has:",
        "a.b.c.d.e",
    ]
)


@given(
    st.sampled_from(sorted(TYPES)), st.lists(st.tuples(names | st.text(max_size=12), st.text(max_size=30)), max_size=6)
)
def test_no_query_breaks_the_reader(kind: str, pairs: list[tuple[str, str]]) -> None:
    """Only the refusal that is promised; and what is read once reads the same again from its cursor."""
    for lenient in (False, True):
        try:
            query = parse_query(kind, pairs, lenient=lenient)
        except FhirRefusal:
            continue
        assert parse_query(kind, query.pairs, lenient=lenient) == query


plain_numbers = st.integers(-10_000, 10_000).map(lambda number: number / 100)


def asked_quantity(text: str) -> Any:
    [criterion] = parse_query("Observation", [("value-quantity", text)]).criteria
    return criterion.values[0]


@given(plain_numbers, st.sampled_from(["", "<", "<=", ">=", ">"]), plain_numbers)
def test_prefixes_of_quantities_agree_with_each_other(number: float, comparator: str, asked: float) -> None:
    """R4 sections 3.1.1.4.8 and .9; a result that is only a bound is on its own side of it and nowhere for certain."""
    its = quantity_of({"value": number, "comparator": comparator})
    assert its is not None
    say = {prefix: quantity_fits(its, asked_quantity(f"{prefix}{asked:.2f}")) for prefix in QUANTITY_COMPARE}
    assert say["ne"] == (not say["eq"])
    assert say["ge"] == (not say["eb"])
    assert say["le"] == (not say["sa"])
    assert say["gt"] or say["le"]
    assert say["eq"] == (comparator == "" and number == asked)
    if comparator == "":
        assert (say["gt"], say["lt"]) == (number > asked, number < asked) == (say["sa"], say["eb"])
        assert say["ap"] or not say["eq"]
    if comparator == ">":
        assert say["gt"], "whatever is asked, it may be above"
        assert say["sa"] == (number >= asked)


@pytest.mark.parametrize(("asked", "fits", "not_"), [
    ("5", (4.5, 5, 5.4999), (4.4999, 5.5)),
    ("5.0", (4.95, 5.0499), (4.9, 5.05)),
    ("-1.0", (-1.05, -0.9501), (-0.95, -1.06)),
    ("1e2", (50, 149.9), (49, 150)),
    ("1.00e2", (99.5, 100.4), (99.4, 100.5)),
    ("ap100", (90, 110), (89.9, 110.1)),
    ("ap-100", (-90, -110), (-89.9, 100)),
])  # fmt: skip
def test_a_number_says_as_much_as_it_was_written_with(asked: str, fits: Any, not_: Any) -> None:
    value = asked_quantity(asked)
    assert [at for at in (*fits, *not_) if quantity_fits(Quantity(at, at), value)] == list(fits)


@given(
    st.text(max_size=30) | st.from_regex(r"[+-]?[0-9]{1,45}(\.[0-9]{1,45})?(e-?[0-9]{1,4})?(\|.?\|.?)?", fullmatch=True)
)
def test_no_text_breaks_the_reader_of_quantities(text: str) -> None:
    for value in (text, f"2823-3${text}", f"{text}$5"):
        for name in ("value-quantity", "code-value-quantity"):
            try:
                query = parse_query("Observation", [(name, value)])
            except FhirRefusal:
                continue
            matches(query, Subject("o", "p0", 1, index_values(record(1, 1, 1)[-1])))


@given(st.sampled_from([0, 5, 10**400, float("inf"), float("nan"), True, "5", None, -0.0]), st.text(max_size=3))
def test_what_is_no_number_is_no_quantity(value: Any, comparator: str) -> None:
    found = quantity_of({"value": value, "comparator": comparator, "unit": 7})
    assert (found is not None) == (type(value) in (int, float) and abs(value) < 10)


def test_rows_follow_rules_that_are_not_changed_in_silence() -> None:
    """Old rows are found by computing them again. Whoever changes this raises `INDEX_VERSION`, and then this number."""
    rules = [
        (kind, TYPES[kind].patient, name, one.kind, one.paths, one.targets, one.wide, one.clinical, one.compartment)
        for kind in sorted(TYPES)
        for name, one in TYPES[kind].params.items()
    ]
    rows = [index_rows(one["resourceType"], index_values(one), 7, "p0", "north") for one in record(5)]
    digest = hashlib.sha256(repr((rules, rows)).encode()).hexdigest()
    assert (INDEX_VERSION, digest[:16]) == (2, "99b68ec58e34c7b3")


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_index_rows_are_made_of_the_content_alone(seed: int) -> None:
    """Whatever way the JSON took: an old version's rows must be found again to be taken out."""
    for resource in record(seed, patients=1, resources=4):
        stored = json.loads(kept_text(resource))
        kind, values = resource["resourceType"], index_values(resource)
        assert index_values(stored) == values
        rows = index_rows(kind, values, 7, "p0", "north")
        assert index_rows(kind, index_values(stored), 7, "p0", "north") == rows
        assert len(set(rows.tokens)) == len(rows.tokens)
        assert {row[3] for row in rows.tokens} == {7}


@given(json_values, st.integers(1, 10**6), st.integers(0, 4 * 10**12))
def test_version_and_time_go_in_without_parsing(value: Any, version: int, at_ms: int) -> None:
    for meta in ({}, {"tag": [{"code": "x"}], "versionId": "999", "lastUpdated": "never"}):
        kept = kept_text({"resourceType": "Basic", "meta": meta, "value": value})
        sent = json.loads(sent_text(kept, version, at_ms))
        assert sent["meta"]["versionId"] == str(version)
        assert {**sent, "meta": None} == {"resourceType": "Basic", "meta": None, "value": value}
        assert kept_text(sent) == kept, "what comes back unchanged is no new version"


decimals = st.builds(
    "{}{}.{}{}".format,
    st.sampled_from(["", "-"]),
    st.integers(0, 10**20),
    st.from_regex(r"[0-9]{1,25}", fullmatch=True),
    st.sampled_from(["", "e5", "E-7"]),
)


@given(st.lists(decimals, max_size=4), json_values)
def test_decimals_stay_as_they_were_written(numbers: list[str], beside: Any) -> None:
    """Whatever stands beside them, and however often they are read and written."""
    text = f'{{"resourceType":"Basic","value":[{",".join(numbers)}]}}'
    resource = {**parse_json(text), "beside": beside}
    kept = kept_text(resource)
    assert f'"value":[{",".join(numbers)}]' in kept
    assert kept_text(parse_json(kept)) == kept
    assert json.loads(kept)["beside"] == beside


@given(st.text(max_size=20), st.text(max_size=20), st.dictionaries(st.text(max_size=5), st.integers(), max_size=3))
def test_a_cursor_opens_for_whom_it_was_made(bound: str, other: str, content: dict[str, int]) -> None:
    assume(bound != other)
    assume(all(not 0xD800 <= ord(char) < 0xE000 for char in bound + other + "".join(content)))
    key = b"k" * 32
    text = seal(key, b"n" * 12, bound, content)
    assert unseal(key, bound, text) == content
    for attempt in ((key, other, text), (b"x" * 32, bound, text), (key, bound, text[:-1]), (key, bound, "A" + text)):
        with pytest.raises(FhirRefusal):
            unseal(*attempt)


@given(st.text(max_size=60))
def test_no_text_opens_a_cursor(text: str) -> None:
    with pytest.raises(FhirRefusal):
        unseal(b"k" * 32, "x", text)


@given(st.text(max_size=30), st.text("abcXYZ张é", min_size=1, max_size=10))
def test_folding_keeps_beginnings(text: str, more: str) -> None:
    """A search by the beginning of a name finds it, whatever the case and accents."""
    assert fold(fold(text).decode()) == fold(text)
    assert fold(more.upper()) == fold(more.lower())
    assert fold(more + text).startswith(fold(more))


scope_words = st.sampled_from(
    ["patient/*.rs", "patient/Observation.cruds", "user/*.read", "user/Patient.u", "system/*.*", "openid",
     "fhircast/*.*", "fhircast/Patient-open.read", "launch", "x", "patient/*.sr"]
)  # fmt: skip


@given(st.lists(scope_words, max_size=6), st.lists(scope_words, max_size=6))
def test_granted_is_asked_and_registered(asked: list[str], most: list[str]) -> None:
    wanted, limit = Scopes.parse(" ".join(asked)), Scopes.parse(" ".join(most))
    granted = wanted.within(limit)
    assert Scopes.parse(granted.text) == granted
    for level in ("patient", "user", "system"):
        for kind in ("Observation", "Patient", "Goal"):
            for action in "cruds":
                both = wanted.allows(level, kind, action) and limit.allows(level, kind, action)
                assert granted.allows(level, kind, action) == both
                wider = LEVELS[LEVELS.index(level) :]
                assert granted.allows_from(level, kind, action) == any(granted.allows(w, kind, action) for w in wider)
    for action in ("read", "write"):
        both = wanted.allows_event("patient-open", action) and limit.allows_event("patient-open", action)
        assert granted.allows_event("Patient-open", action) == both


@given(json_values, st.text("/:[]?@%#Patient=1", max_size=20))
def test_no_bundle_breaks_the_planner(value: Any, address: str) -> None:
    for bundle in (value, {"resourceType": "Bundle", "type": "transaction", "entry": value},
                   {"resourceType": "Bundle", "type": "batch", "entry": [value, {"request": value}]},
                   {"resourceType": "Bundle", "type": "transaction", "entry": [
                       {"request": {"method": "DELETE", "url": address}}]}):  # fmt: skip
        try:
            plan(bundle)
        except FhirRefusal:
            continue


@given(json_values, st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3))
def test_rewriting_changes_references_and_nothing_else(value: Any, replaced: dict[str, str]) -> None:
    assert rewritten(value, {}) == value
    before, after = list(references_in(value)), list(references_in(rewritten(value, replaced)))
    assert after == [replaced.get(one, one) for one in before]


def test_the_table_of_types_holds_together() -> None:
    """Every type has one order at most, and a patient's type has a patient to be asked by."""
    for kind, rules in TYPES.items():
        assert sum(param.clinical for param in rules.params.values()) <= 1
        assert clinical_date(kind) is None or rules.params[clinical_date(kind) or ""].clinical
        if in_compartment(kind) and kind not in ("Patient", "Binary"):
            assert rules.params["patient"].compartment
    assert set(QUERIES) <= set(TYPES)


@given(st.frozensets(st.text(max_size=4), max_size=4), st.none() | st.frozensets(st.text(max_size=4), max_size=3))
def test_a_person_reads_no_partition_but_her_patients(mine: frozenset[str], asked: frozenset[str] | None) -> None:
    reach = Reach.of_patients(mine)
    allowed = set(reach.partitions("Observation", None))
    assert set(reach.partitions("Observation", asked)) <= allowed
    assert len(allowed) == len(mine)
    assert all(reach.covers(one, "anywhere") for one in mine)
    assert not any(reach.covers(one, "anywhere") for one in (asked or frozenset()) - mine)


MARKED = ({"\ue000decimal:1": 1}, [{"a": "\ue000decimal:1"}], [Exact("7.40"), "\ue000decimal:"])


@pytest.mark.parametrize("value", MARKED)
def test_nobody_writes_with_the_writers_own_mark(value: object) -> None:
    """As a name or a text: it would come out of `text_of` as something else."""
    with pytest.raises(ValueError, match="private mark"):
        text_of(value)
