"""Laws of judging and choosing: order does not matter, evidence helps, time takes, a pack is as its record."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from server.casepack.aio.tables import load_tables
from server.casepack.core.completeness import HOUR_US, State, Why, check, satisfies
from server.casepack.core.document import content_hash
from server.casepack.core.evidence import moment_us, ref_of
from server.casepack.core.request import Request
from server.casepack.core.selection import MOST, TREND, refs_of, select

TABLES = load_tables()
NOW_US = moment_us("2026-11-22T12:00:00Z") or 0
RANK = {State.MISSING: 0, State.STALE: 1, State.PRESENT: 2}
CODES = ("89579-7", "2823-3", "14682-9", "11524-6", "85354-9", "18842-5", "0000-0")
TIMES = (None, "2026-11-22T11:00:00Z", "2026-11-21", "2026-11-20T08:00:00+08:00", "2020", "2027-01-01T00:00:00Z")


@st.composite
def resources(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for number in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(("Observation", "DiagnosticReport", "DocumentReference", "Condition")))
        one: dict[str, Any] = {"resourceType": kind, "id": f"r{number}"}
        coding = {"system": "http://loinc.org", "code": draw(st.sampled_from(CODES))}
        one["type" if kind == "DocumentReference" else "code"] = {"coding": [coding]}
        if draw(st.integers(0, 4)):
            one["status"] = draw(st.sampled_from(("final", "final", "preliminary")))
            one["valueQuantity"] = {"value": number}
        else:
            one["status"] = draw(st.sampled_from(("entered-in-error", "registered")))
        when = draw(st.sampled_from(TIMES))
        if when is not None:
            date = {"DocumentReference": "date", "Condition": "recordedDate"}.get(kind, "effectiveDateTime")
            one[date] = when
        if kind == "DiagnosticReport":
            one["conclusion"] = draw(st.sampled_from(("", "Normal")))
        if kind == "DocumentReference":
            one["content"] = [{"attachment": {"url": "Binary/1"} if draw(st.booleans()) else {"title": "-"}}]
        found.append(one)
    return found


tables = st.sampled_from(sorted(TABLES)).map(TABLES.__getitem__)


@settings(max_examples=50)
@given(tables, resources(), st.randoms(use_true_random=False))
def test_the_order_of_a_record_does_not_matter(table: Any, some: list[dict[str, Any]], chance: random.Random) -> None:
    mixed = list(some)
    chance.shuffle(mixed)
    assert check(table, mixed, {}, NOW_US) == check(table, some, {}, NOW_US)
    first, second = select(some, table, NOW_US), select(mixed, table, NOW_US)
    assert first == second
    hashed = [content_hash(table, Request(), one, check(table, some, {}, NOW_US)) for one in (first, second)]
    assert hashed[0] == hashed[1]


@settings(max_examples=50)
@given(tables, resources())
def test_what_is_looked_up_is_what_looking_at_everything_finds(table: Any, some: list[dict[str, Any]]) -> None:
    """The index over a record leaves nothing out, of codes with a system, without one, and of attached documents."""
    for found in check(table, some, {}, NOW_US):
        assert (found.state is State.PRESENT) == satisfies(found.part, some, NOW_US)


@settings(max_examples=50)
@given(tables, resources(), st.data())
def test_more_evidence_never_makes_a_part_worse(table: Any, some: list[dict[str, Any]], data: st.DataObject) -> None:
    fewer = [one for one in some if data.draw(st.booleans())]
    less, more = check(table, fewer, {}, NOW_US), check(table, some, {}, NOW_US)
    assert all(RANK[a.state] <= RANK[b.state] for a, b in zip(less, more, strict=True))


@settings(max_examples=50)
@given(tables, resources(), st.integers(0, 400 * 24))
def test_time_makes_present_stale_and_never_the_other_way(table: Any, some: list[dict[str, Any]], hours: int) -> None:
    before, after = check(table, some, {}, NOW_US), check(table, some, {}, NOW_US + hours * HOUR_US)
    for a, b in zip(before, after, strict=True):
        if a.why is not Why.IN_FUTURE and not any(_is_future(one) for one in some):
            assert RANK[b.state] <= RANK[a.state]
        assert (a.state is State.MISSING) == (b.state is State.MISSING)


def _is_future(resource: dict[str, Any]) -> bool:
    return "2027" in str(resource)


@settings(max_examples=50)
@given(tables, resources(), st.data())
def test_a_pack_is_judged_as_the_record_it_was_made_from(
    table: Any, some: list[dict[str, Any]], data: st.DataObject
) -> None:
    without = {ref_of(one).plain for one in some if data.draw(st.booleans())}
    chosen = select(some, table, NOW_US, without)
    held = [one for one in some if ref_of(one) in refs_of(chosen)]
    rest = [one for one in some if ref_of(one).plain not in without]
    assert check(table, held, {}, NOW_US) == check(table, rest, {}, NOW_US)
    assert not {ref.plain for ref in refs_of(chosen)} & without
    assert all(len(line.refs) <= TREND for line in chosen.lines)
    assert all(sum(line.section == name for line in chosen.lines) <= most + 20 for name, most in MOST.items())
