"""Whether a record has what a specialty wants to see: present, stale or missing, and why; pure.

The newest evidence that counts decides. It is *stale* when it is older than the part's ``fresh_h``, has no date
where one is needed, bears a date that has not come yet (a wrong clock proves nothing), is preliminary, or does not say
which part of the body it shows. Laws:
the order of the resources does not matter; more evidence never makes a part worse, except that nothing is
present for being in the future; as time passes present becomes stale and never the other way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from server.casepack.core.evidence import (
    PART_SYSTEM,
    Ref,
    Resource,
    categories_of,
    codes_of,
    is_day,
    is_evidence,
    is_preliminary,
    is_unsure,
    moment_us,
    ref_of,
    when_us,
)
from server.casepack.core.tables import Part, Table

HOUR_US = 3_600_000_000
CLOCK_US = 600_000_000
"""How far a hospital's clock may be ahead of ours."""


class State(StrEnum):
    """Of one part."""

    PRESENT = "present"
    STALE = "stale"
    MISSING = "missing"


class Why(StrEnum):
    """Why a part is in its state; stable, shown as words."""

    FOUND = "found"
    TOO_OLD = "too_old"
    UNDATED = "undated"
    IN_FUTURE = "in_future"
    PRELIMINARY = "preliminary"
    UNSURE = "unsure"
    WITHDRAWN = "withdrawn"
    """Of a sent pack only: the record has taken it back since."""
    NONE = "none"
    NOT_GIVEN = "not_given"


@dataclass(frozen=True, slots=True)
class Finding:
    """One part, judged.

    Args:
        evidence: the resource that decided; None for what is missing and for facts.
        at_us: its time.
        is_day: of that only the day is known.
    """

    part: Part
    state: State
    why: Why
    evidence: Ref | None = None
    at_us: int | None = None
    is_day: bool = False


class _Candidates:
    """Resources by what parts look for, so that a long record is walked once and not once for each part."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self._by_type: dict[str, list[Resource]] = {}
        self._by_code: dict[tuple[str, str], list[Resource]] = {}
        self._attached: dict[str, list[Resource]] = {}
        for one in resources:
            kind = one["resourceType"]
            self._by_type.setdefault(kind, []).append(one)
            for code in {code for _system, code in codes_of(one)}:
                self._by_code.setdefault((kind, code), []).append(one)
            for system, code in categories_of(one):
                if system == PART_SYSTEM:
                    self._attached.setdefault(code, []).append(one)

    def of(self, part: Part) -> list[Resource]:
        """All that may be evidence of a part; whether it is, is `is_evidence`'s to say. Each once."""
        found = list(self._attached.get(part.key, ()))
        for match in part.any_of:
            if not match.codes:
                found += self._by_type.get(match.type, ())
            for text in match.codes:
                found += self._by_code.get((match.type, text.partition("|")[2] or text), ())
        return list({id(one): one for one in found}.values())


_RANK = {State.PRESENT: 2, State.STALE: 1, State.MISSING: 0}


def check(table: Table, resources: Sequence[Resource], facts: Mapping[str, str], now_us: int) -> tuple[Finding, ...]:
    """Judge every part of a table.

    Args:
        resources: of one patient, as sent by the store.
        facts: what the sender wrote, by key of the part.
    """
    may_be = _Candidates(resources)
    return tuple(_judge(part, may_be.of(part), facts, now_us) for part in table.parts)


def satisfies(part: Part, resources: Sequence[Resource], now_us: int) -> bool:
    """Whether these resources alone make a part present."""
    return _judge(part, resources, {}, now_us).state is State.PRESENT


def is_complete(findings: Sequence[Finding]) -> bool:
    """Whether everything that is needed is present."""
    return all(one.state is State.PRESENT or one.part.need == "if_known" for one in findings)


def _judge(part: Part, resources: Sequence[Resource], facts: Mapping[str, str], now_us: int) -> Finding:
    if part.fact is not None:
        return _fact(part, facts.get(part.key, "").strip(), now_us)
    found = [_weighed(part, one, now_us) for one in resources if is_evidence(part, one)]
    if not found:
        return Finding(part, State.MISSING, Why.NONE)
    return max(found, key=_better)


def _weighed(part: Part, resource: Resource, now_us: int) -> Finding:
    found = _aged(part, when_us(resource), now_us, ref_of(resource), is_day(resource))
    if found.state is not State.PRESENT:
        return found
    if is_preliminary(resource):
        return replace(found, state=State.STALE, why=Why.PRELIMINARY)
    if is_unsure(part, resource):
        return replace(found, state=State.STALE, why=Why.UNSURE)
    return found


def _better(one: Finding) -> tuple[int, int, Ref]:
    assert one.evidence is not None, "found in the record"
    # A future date must not hide what really is the newest.
    at_us = 0 if one.at_us is None or one.why is Why.IN_FUTURE else one.at_us
    return _RANK[one.state], at_us, one.evidence


def _fact(part: Part, text: str, now_us: int) -> Finding:
    if not text:
        return Finding(part, State.MISSING, Why.NOT_GIVEN)
    if part.fact == "text":
        return Finding(part, State.PRESENT, Why.FOUND)
    return _aged(part, moment_us(text), now_us, None)


def _aged(part: Part, at_us: int | None, now_us: int, evidence: Ref | None, day: bool = False) -> Finding:
    if at_us is None:
        dated = part.fresh_h is not None or part.fact == "time"
        state, why = (State.STALE, Why.UNDATED) if dated else (State.PRESENT, Why.FOUND)
    elif at_us > now_us + CLOCK_US:
        state, why = State.STALE, Why.IN_FUTURE
    elif part.fresh_h is not None and now_us - at_us > part.fresh_h * HOUR_US:
        state, why = State.STALE, Why.TOO_OLD
    else:
        state, why = State.PRESENT, Why.FOUND
    return Finding(part, state, why, evidence, at_us, day)
