"""[LK25] What was refused until its patient is known: applied once, in its order, and never for another patient."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.gateway.core.crossing import Crossing
from server.gateway.journal_rows import JournalLimits, Rows, Stored, begin
from server.gateway.journal_schema import SCHEMA
from server.gateway.sealing import SealingKeys, load_keys
from server.lock.core.link import Settled
from server.lock.core.wire import PATIENT_INCOMPLETE

PEOPLE = (("urn:north", "1"), ("urn:north", "2"), ("urn:south", "1"))


@dataclass
class Hub:
    """Knows who was registered, and what it answered to each number of each stream."""

    known: set[tuple[str, str]] = field(default_factory=set)
    applied: list[tuple[str, tuple[str, str]]] = field(default_factory=list)
    verdicts: list[tuple[str, str]] = field(default_factory=list)

    def take(self, one: Stored) -> None:
        (patient,) = one.crossing.patient
        if one.crossing.kind == "ADT^A04":
            self.known.add(patient)
        if patient in self.known:
            verdict = "repeated" if (one.crossing.key, patient) in self.applied else "applied"
            self.applied += [(one.crossing.key, patient)] if verdict == "applied" else []
            self.verdicts.append((verdict, ""))
        else:
            self.verdicts.append(("refused", PATIENT_INCOMPLETE))


class World:
    """A journal's rows in memory, and the hub."""

    def __init__(self, keys: SealingKeys) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.executescript(SCHEMA)
        self.db.row_factory = sqlite3.Row
        begin(self.db, keys)
        self.rows = Rows(keys, JournalLimits(), lambda: 7, lambda: 2**40, lambda _source, _crossing: True)
        self.hub, self.told = Hub(), 0
        self.results: list[tuple[str, tuple[str, str]]] = []

    def put(self, kind: str, patient: tuple[str, str]) -> None:
        key = f"k{len(self.results)}" if kind == "ORU^R01" else f"a{self.db.total_changes}"
        crossing = Crossing(kind=kind, key=key, patient=(patient,), media_type="application/fhir+json",
                            body=key.encode(), made_us=1)  # fmt: skip
        self.rows.put(self.db, "lis", crossing, 1)
        self.results += [(key, patient)] if kind == "ORU^R01" else []

    def cross(self, most: int = 16) -> bool:
        found = self.rows.read(self.db, len(self.hub.verdicts) + 1, 10**6, most)
        for one in found:
            assert isinstance(one, Stored)
            self.hub.take(one)
        return bool(found)

    def tell(self, again: int = 0) -> None:
        """Acknowledge what was not told, and ``again`` of what was: the gateway died before it had written it down."""
        first = max(self.told - again, 0) + 1
        items = [
            Settled(sequence=number, verdict=verdict, code=code, received_us=1, committed_us=1)
            for number, (verdict, code) in enumerate(self.hub.verdicts[first - 1 :], first)
        ]
        self.rows.settle(self.db, items, 1, {})
        self.told = len(self.hub.verdicts)

    def renew(self) -> None:
        self.rows.renew(self.db)
        self.hub.verdicts.clear()
        self.told = 0


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> SealingKeys:
    return load_keys(Path(tmp_path_factory.mktemp("keys")) / "journal.keys")


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["result", "result", "register", "cross", "tell", "tell again", "renew"]),
              st.sampled_from(PEOPLE)),
    max_size=40,
)  # fmt: skip
NORTH, _OTHER, SOUTH = PEOPLE


@given(OPERATIONS)
@example([("result", NORTH), ("cross", NORTH), ("tell", NORTH), ("result", SOUTH), ("register", NORTH)])
@example([("result", NORTH), ("result", NORTH), ("register", NORTH), ("cross", NORTH), ("tell", NORTH)])
@settings(max_examples=60, deadline=None)
def test_results_before_a_registration_are_applied_once_and_only_for_their_patient(
    keys: SealingKeys, operations: list[tuple[str, tuple[str, str]]]
) -> None:
    world = World(keys)
    for operation, patient in operations:
        match operation:
            case "result":
                world.put("ORU^R01", patient)
            case "register":
                world.put("ADT^A04", patient)
            case "cross":
                world.cross(3)
            case "tell":
                world.tell()
            case "tell again":
                world.tell(again=4)
            case "renew":
                world.renew()
    while world.cross():
        world.tell()
    world.tell()
    while world.cross():
        world.tell()
    known = world.hub.known
    applied = [one for one in world.hub.applied if one in world.results]
    assert sorted(applied) == sorted(one for one in world.results if one[1] in known), "each once, and no other's"
    waits = {row["n"] for row in world.db.execute("SELECT count(DISTINCT id) AS n FROM awaiting")}
    assert waits == {sum(whose not in known for _key, whose in world.results)}
