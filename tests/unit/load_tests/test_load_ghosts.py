"""Who is left after a run: all consults are looked at, grace is waited for, and what was not seen is not none."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

import pytest

from load_tests.plan.reading import read_scenario
from load_tests.plan.timetable import timetable
from load_tests.report.digest import haunting, notes
from load_tests.report.record import Record
from load_tests.run import inspect
from load_tests.run.inspect import Ghosts, ghosts, inspector_of
from load_tests.session.signalling import Refused
from load_tests.session.world import World, needs_of

NOBODY = World(password="", consults=())


class Hall:
    """What each look at each consult finds, in turn; the last again and again."""

    def __init__(self, finds: Mapping[int, list[int | Exception]], monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks: Counter[int] = Counter()

        async def others(_self: object, number: int) -> int:
            mine = finds.get(number, [0])
            found = mine[min(self.looks[number], len(mine) - 1)]
            self.looks[number] += 1
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(inspect._Look, "_others", others)
        monkeypatch.setattr(inspect, "AGAIN_S", 0.001)
        monkeypatch.setattr(inspect, "GRACE_LOOK_S", 0.001)


async def look(consults: int, *, looking_s: float = 20.0, grace_s: float = 20.0) -> Ghosts:
    return await ghosts("", NOBODY, consults, 0, asyncio.Event(), looking_s=looking_s, grace_s=grace_s)


async def test_every_consult_is_looked_at_and_a_full_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Eight that are refused at first hold up nobody: there are eight places to look from.
    hall = Hall({number: [Refused("too_busy")] * 3 + [0] for number in range(8)}, monkeypatch)
    assert await look(200) == Ghosts(0, 200, 200)
    assert hall.looks[0] == 4
    assert sum(hall.looks.values()) == 200 + 8 * 3


async def test_who_may_come_back_is_no_ghost_until_his_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall({3: [2, 1, 0]}, monkeypatch)
    assert await look(5) == Ghosts(0, 5, 5)
    assert hall.looks == {0: 1, 1: 1, 2: 1, 3: 3, 4: 1}
    Hall({3: [2]}, monkeypatch)
    assert await look(5, grace_s=0.02) == Ghosts(2, 5, 5)


async def test_nobody_waits_for_grace_after_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    Hall({0: [1]}, monkeypatch)
    stop = asyncio.Event()
    stop.set()
    assert await ghosts("", NOBODY, 1, 0, stop) == Ghosts(1, 1, 1)


async def test_what_could_not_be_looked_at_is_said_and_is_not_none(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall({1: [Refused("not_allowed")], 2: [Refused("too_busy")]}, monkeypatch)
    found = await look(4, looking_s=0.05)
    assert (found.found, found.looked_at, found.consults) == (0, 2, 4)
    assert "Refused not_allowed" in found.missed
    assert "Refused too_busy" in found.missed
    assert hall.looks[1] == 1  # another moment would not change it
    assert hall.looks[2] > 1

    scenario = read_scenario("two_rooms")
    record = Record(scenario, timetable(scenario), started_s=1.0, ended_s=2.0, ghosts=found)
    assert haunting(record) == {"ghosts": None, "ghost_consults": 2.0}
    assert any("in 2 of 4 consults" in line and "too_busy" in line for line in notes(record, same_host=True))
    record.ghosts = Ghosts(3, 2, 4, "x")
    assert haunting(record)["ghosts"] == 3  # what was found was found
    record.ghosts = Ghosts(0, 4, 4)
    assert haunting(record) == {"ghosts": 0.0, "ghost_consults": 4.0}
    record.ghosts = None
    assert haunting(record) == {"ghosts": None}


def test_who_looks_is_nobody_that_a_session_is() -> None:
    scenario = read_scenario("two_rooms")
    needs = needs_of(scenario)
    played = {one.index for one in timetable(scenario) if one.behaviour.who == "doctor" and not one.behaviour.partner}
    assert inspector_of(needs) not in played
    assert inspector_of(needs) < needs.each.doctors
