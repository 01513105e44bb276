"""A simulated participant goes on where a person would: one command that nobody answers ends no work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from load_tests.plan.behaviour import BEHAVIOURS
from load_tests.plan.line import Line
from load_tests.plan.timetable import Planned, files_each, files_for
from load_tests.report.ledger import Ledger
from load_tests.session import participant
from load_tests.session.office import HttpRefused
from load_tests.session.participant import Participant, Setting
from load_tests.session.signalling import Lost, Refused
from load_tests.session.world import ConsultSecrets, World


class Server:
    """Answers commands as it was told to; what is left over is done."""

    def __init__(self, *answers: Exception) -> None:
        self.answers, self.asked = list(answers), list[str]()

    async def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(str(command["type"]))
        if self.answers:
            raise self.answers.pop(0)
        return {}


async def doctor(server: Server) -> Participant:
    secrets = ConsultSecrets(
        id="c", patient="p", identifiers=("1", "2"), doctors=("d",), partner_doctors=(), rooms=(), devices=(),
        screens=(),
    )  # fmt: skip
    unused: Any = None
    world = World(password="x", consults=(secrets,))
    setting = Setting(("http://127.0.0.1:1",), world, unused, Ledger())
    one = Participant(Planned(0, 0, BEHAVIOURS["doctor"], "doctor", 0, Line(), 0, 10), setting)
    await one._http.close()  # nothing is asked over HTTP
    stands: Any = server
    one._signalling = stands
    return one


async def test_who_leads_asks_again_when_nobody_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(participant, "AGAIN_S", 0.0)
    server = Server(TimeoutError(), Refused("too_busy"))
    one = await doctor(server)
    await one._open_patient()
    assert server.asked == ["open_context"] * 3 + ["take_lead"]
    assert one._ledger.errors == {"TimeoutError": 1, "Refused too_busy": 1}  # and neither is kept quiet

    server = Server(*[TimeoutError()] * 100)
    one = await doctor(server)
    await one._open_patient()
    assert len(server.asked) == participant.LEAD_TRIES


class Office:
    """Gives out tokens, or says when it is one's turn."""

    signed_in = True

    def __init__(self, *answers: Exception) -> None:
        self.answers, self.given = list(answers), 0

    async def token(self) -> str:
        if self.answers:
            raise self.answers.pop(0)
        self.given += 1
        return f"t{self.given}"


async def test_who_is_told_to_wait_waits_and_a_token_that_opened_nothing_is_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """[SE16] As the web client does; nothing of it is an error of the run."""
    slept: list[float] = []
    shown: list[str] = []

    class Door:
        """A socket that does not open the first time and is refused the second."""

        goodbye = ""

        def __init__(self, *_: object) -> None:
            self.came_up = False

        async def open(self, token: str, *_: object) -> None:
            shown.append(token)
            self.came_up = len(shown) > 1
            raise Refused("token_invalid") if self.came_up else OSError

        async def close(self) -> None:
            pass

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(shown) == 3:
            raise participant.Stopped("enough")

    one = await doctor(Server())
    office: Any = Office(HttpRefused(503, "too_busy", 7), HttpRefused(503, "too_busy", 60))
    one._office = office
    monkeypatch.setattr(participant, "Signalling", Door)
    monkeypatch.setattr("load_tests.session.participant.asyncio.sleep", sleep)
    with pytest.raises(participant.Stopped):
        await one.run()
    assert shown == ["t1", "t1", "t2"]
    assert 7 <= slept[0] < 8
    assert 60 <= slept[1] < 61
    assert max(slept[2:]) <= participant.LONGEST_PAUSE_S
    assert one._ledger.counts["turned_away"] == 2
    assert one._ledger.errors == {"OSError": 1, "Refused token_invalid": 2}


def test_open_files_are_reckoned_by_what_a_behaviour_does() -> None:
    def planned(kind: str) -> Planned:
        return Planned(0, 0, BEHAVIOURS[kind], kind, 0, Line(), 0, 10)

    assert files_for(10_000, files_each([planned("listener")])) < 10_000 * 4
    assert files_each([planned("listener"), planned("wall_ecg")]) == files_each([planned("doctor")]) == 5


async def test_a_lost_socket_is_not_asked_again() -> None:
    server = Server(Lost("socket gone"))
    one = await doctor(server)
    with pytest.raises(Lost):
        await one._try({"type": "release_page"})
    assert server.asked == ["release_page"]
