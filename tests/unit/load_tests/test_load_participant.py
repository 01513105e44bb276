"""A simulated participant goes on where a person would: one command that nobody answers ends no work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from load_tests.plan.behaviour import BEHAVIOURS
from load_tests.plan.line import Line
from load_tests.plan.timetable import Planned
from load_tests.report.ledger import Ledger
from load_tests.session import participant
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


async def test_a_lost_socket_is_not_asked_again() -> None:
    server = Server(Lost("socket gone"))
    one = await doctor(server)
    with pytest.raises(Lost):
        await one._try({"type": "release_page"})
    assert server.asked == ["release_page"]
