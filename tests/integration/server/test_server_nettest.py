"""Network tests: real media calls for one person, bounded in every direction, and over by themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from server_hub import Hub

from server.identity.core.rules import NETTEST
from server.nettest import CALLS, NetTests
from signaling.core import messages as m
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.model import JsonObject
from tests.signaling_kit import MemoryMedia, produce, produce_data, until, waveform

SEND = m.CreateTransport(direction="send")


class Owners(MemoryMedia):
    """Notes for whom each call was made."""

    def __init__(self) -> None:
        super().__init__()
        self.owners: list[str] = []

    async def call(self, consult: ConsultId, participant: ParticipantId, command: m.MediaCommand) -> m.MediaResult:
        self.owners.append(participant)
        return await super().call(consult, participant, command)


async def refused(tests: NetTests, who: str, command: Any) -> ErrorCode:
    with pytest.raises(Refusal) as refusal:
        await tests.call(who, command)
    return refusal.value.code


async def test_a_second_test_of_the_same_person_replaces_the_first() -> None:
    media = MemoryMedia()
    tests = NetTests(media)
    await tests.open("anna")
    first = set(media.consults)
    await tests.open("anna")
    await until(lambda: not media.consults & first)
    assert (tests.running, len(media.consults)) == (1, 1)
    assert isinstance(await tests.call("anna", SEND), m.TransportOptions)
    await tests.stop()
    assert (tests.running, media.consults) == (0, set())


async def test_a_test_ends_by_itself() -> None:
    media = MemoryMedia()
    tests = NetTests(media, life_s=0.05)
    await tests.open("anna")
    await until(lambda: tests.running == 0 and not media.consults)
    assert await refused(tests, "anna", SEND) is ErrorCode.NOT_FOUND


async def test_what_one_person_and_all_together_may_cost() -> None:
    """So many calls each, so many tests in all, no waveforms; who ends a test makes room."""
    tests = NetTests(MemoryMedia(), at_once=2)
    await tests.open("anna")
    await tests.open("bo")
    with pytest.raises(Refusal) as full:
        await tests.open("cy")
    assert full.value.code is ErrorCode.TOO_BUSY
    assert await refused(tests, "anna", produce_data(waveform())) is ErrorCode.NOT_ALLOWED
    assert await refused(tests, "anna", produce_data(None, "chat")) is ErrorCode.NOT_ALLOWED
    for _ in range(CALLS - 2):
        await tests.call("anna", produce())
    assert await refused(tests, "anna", produce()) is ErrorCode.TOO_BUSY
    await tests.call("bo", produce())
    tests.close("bo")
    tests.close("bo")
    await tests.open("cy")
    await tests.stop()


async def test_every_test_has_an_owner_of_its_own() -> None:
    """TURN servers count allocations by user name, which is the owner's: tests must not use up each other's."""
    media = Owners()
    tests = NetTests(media)
    for who in ("anna", "bo", "anna"):
        await tests.open(who)
        await tests.call(who, SEND)
        await tests.call(who, produce())
    await tests.stop()
    first, second, third = media.owners[::2]
    assert media.owners == [first, first, second, second, third, third]
    assert len({first, second, third}) == 3


async def test_a_media_plane_that_refuses_leaves_no_test_behind() -> None:
    media = MemoryMedia(failing=Refusal(ErrorCode.MEDIA_UNAVAILABLE))
    tests = NetTests(media)
    with pytest.raises(Refusal):
        await tests.open("anna")
    assert tests.running == 0
    media.failing = None
    await tests.open("anna")
    await tests.stop()


class SlowMedia(MemoryMedia):
    """Opens a Router only when told, whatever was closed meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[asyncio.Event] = []
        self.refusing = False

    async def open(self, consult: ConsultId) -> JsonObject:
        gate = asyncio.Event()
        self.gates.append(gate)
        await gate.wait()
        if self.refusing:
            raise Refusal(ErrorCode.MEDIA_UNAVAILABLE)
        return await super().open(consult)


async def test_a_test_ended_while_it_begins_leaves_no_router() -> None:
    media = SlowMedia()
    tests = NetTests(media)
    beginning = asyncio.create_task(tests.open("anna"))
    await until(lambda: len(media.gates) == 1)
    tests.close("anna")
    await asyncio.sleep(0)
    media.gates[0].set()
    with pytest.raises(Refusal) as ended:
        await beginning
    assert ended.value.code is ErrorCode.CONFLICT
    await until(lambda: not media.consults)
    await tests.stop()


@pytest.mark.parametrize("refusing", [False, True])
async def test_of_two_beginnings_at_once_the_later_lives(refusing: bool) -> None:
    """The first one's end, in success or refusal, takes neither its Router along nor the second test away."""
    media = SlowMedia()
    tests = NetTests(media)
    first = asyncio.create_task(tests.open("anna"))
    await until(lambda: len(media.gates) == 1)
    second = asyncio.create_task(tests.open("anna"))
    await until(lambda: len(media.gates) == 2)
    media.refusing = refusing
    media.gates[0].set()
    with pytest.raises(Refusal):
        await first
    media.refusing = False
    media.gates[1].set()
    assert await second
    await until(lambda: len(media.consults) == 1)
    assert tests.running == 1
    assert isinstance(await tests.call("anna", SEND), m.TransportOptions)
    await tests.stop()
    assert media.consults == set()


async def test_over_http_it_is_for_whoever_may_enter_consults(hub: Hub) -> None:
    """Strangers get nothing; commands of a consult are malformed here; refusals look as they do on the socket."""
    stranger = hub.browser()
    for path in ("/api/nettest", "/api/nettest/call"):
        body = {"command": {"type": "create_transport", "direction": "send"}} if path.endswith("call") else {}
        assert (await stranger.post(path, body))[0] == 401
    assert (await stranger.send("DELETE", "/api/nettest"))[0] == 401

    doctor = await hub.doctor()
    ask = {"command": {"type": "create_transport", "direction": "send"}}
    status, answer = await doctor.post("/api/nettest/call", ask)
    assert (status, answer["ok"], answer["refusal"]["code"]) == (200, False, "not_found")
    assert answer["refusal"]["zh"]

    status, answer = await doctor.post("/api/nettest")
    assert (status, answer["ok"]) == (200, True)
    assert answer["result"]["router_rtp_capabilities"]["codecs"]
    status, answer = await doctor.post("/api/nettest/call", ask)
    assert (status, answer["ok"]) == (200, True)
    assert answer["result"]["ice_candidates"]
    for command in ({"type": "end_consult"}, {"type": "join"}, {"type": "restart_ice", "transport": "t"}, {}):
        assert (await doctor.post("/api/nettest/call", {"command": command}))[0] == 400
    assert (await doctor.send("DELETE", "/api/nettest"))[0] == 200
    assert (await doctor.post("/api/nettest/call", ask))[1]["refusal"]["code"] == "not_found"


async def test_a_page_that_tests_for_ever_is_told_to_wait(hub: Hub) -> None:
    doctor = await hub.doctor()
    answers = [(await doctor.post("/api/nettest"))[0] for _ in range(NETTEST.attempts + 1)]
    assert answers == [200] * NETTEST.attempts + [429]


async def test_a_command_under_way_when_all_tests_end_is_still_answered() -> None:
    media = MemoryMedia()
    tests = NetTests(media)
    await tests.open("anna")
    media.gate = asyncio.Event()
    asked = asyncio.create_task(tests.call("anna", SEND))
    await until(lambda: media.calls)
    await tests.stop()
    media.gate.set()
    assert isinstance(await asked, m.TransportOptions)
    assert (tests.running, media.consults) == (0, set())
