"""Commands that are well made and wrong: for another consult, out of order, from a session that is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from server_hub import Browser
from test_server_session import Socket, origin  # noqa: F401

from server.storage.database import Database
from tests.integration.media.peer import video_parameters

Origin = tuple[str, Database]


class Doctor(Socket):
    """Somebody in one consult with a sending Transport and a camera."""

    def __init__(self) -> None:
        super().__init__()
        self.you = self.transport = self.producer = ""

    async def enter(self, address: str, login: str, consult: str) -> Doctor:
        browser = Browser(address)
        await browser.sign_in(login)
        _, issued = await browser.post(f"/api/consults/{consult}/token")
        await browser.http.close()
        await self.connect(address, issued["token"])
        self.you = (await self.ok(type="join"))["you"]
        self.transport = (await self.ok(type="create_transport", direction="send"))["id"]
        camera = {"kind": "video", "rtp_parameters": video_parameters(), "source": "camera"}
        self.producer = (await self.ok(type="produce", transport=self.transport, **camera))["producer"]
        return self

    async def code(self, **command: Any) -> str:
        ack = await self.sio.call("command", command, timeout=60)
        return "ok" if ack["ok"] else str(ack["refusal"]["code"])

    async def snapshot(self) -> dict[str, Any]:
        return dict((await self.ok(type="sync", since=2**40))["snapshot"])


@pytest.fixture
async def here_and_there(origin: Origin) -> AsyncIterator[tuple[Doctor, Doctor]]:  # noqa: F811
    """Two consults with one doctor each."""
    here, there = Doctor(), Doctor()
    await here.enter(origin[0], "d1@hub", "c1")
    await there.enter(origin[0], "d2@hub", "c2")
    yield here, there
    for one in (here, there):
        await one.sio.disconnect()


async def test_what_belongs_to_another_consult_does_not_exist(here_and_there: tuple[Doctor, Doctor]) -> None:
    """[CX1] [ME3] Ids that are good elsewhere: refused as if made up, and nothing changes on either side."""
    here, there = here_and_there
    _, version = await here.ok(type="open_context", patient="pt1"), 1
    before = await here.snapshot(), await there.snapshot()
    capabilities: dict[str, Any] = {"codecs": [], "headerExtensions": []}
    camera = {"kind": "video", "rtp_parameters": video_parameters(), "source": "camera"}
    dtls = {"role": "client", "fingerprints": [{"algorithm": "sha-256", "value": "AA:" * 31 + "AA"}]}
    attempts: dict[str, tuple[str, dict[str, Any]]] = {
        "patient": ("not_found", {"type": "open_context", "patient": "pt1"}),
        "page": ("context_changed", {"type": "turn_page", "context_version": version, "view": {"page": "labs"}}),
        "confirm": ("context_changed", {"type": "confirm_context", "version": version}),
        "lead": ("not_found", {"type": "hand_lead", "to": here.you}),
        "connect": ("not_found", {"type": "connect_transport", "transport": here.transport, "dtls_parameters": dtls}),
        "ice": ("not_found", {"type": "restart_ice", "transport": here.transport}),
        "produce": ("not_found", {"type": "produce", "transport": here.transport, **camera}),
        "pause": ("not_found", {"type": "pause_producer", "producer": here.producer}),
        "close": ("not_found", {"type": "close_producer", "producer": here.producer}),
        "consume": (
            "not_found",
            {
                "type": "consume",
                "transport": there.transport,
                "producer": here.producer,
                "rtp_capabilities": capabilities,
            },
        ),
    }
    await there.ok(type="take_lead")
    before = before[0], await there.snapshot()
    answers = {name: await there.code(**command) for name, (_, command) in attempts.items()}
    assert answers == {name: code for name, (code, _) in attempts.items()}
    assert (await here.snapshot(), await there.snapshot()) == before


async def test_media_commands_out_of_order_are_refused_and_leave_nothing(
    here_and_there: tuple[Doctor, Doctor],
) -> None:
    """[ME1] [ME3] Before the Transport is there, in the wrong direction, for what was closed a moment ago."""
    here, _ = here_and_there
    before = await here.snapshot()
    camera = {"kind": "video", "rtp_parameters": video_parameters(mid="7"), "source": "camera"}
    assert await here.code(type="produce", transport="none", **camera) == "not_found"
    receiving = (await here.ok(type="create_transport", direction="recv"))["id"]
    assert await here.code(type="produce", transport=receiving, **camera) != "ok"
    assert await here.code(type="resume_consumer", consumer="none") == "not_found"
    assert await here.snapshot() == before
    await here.ok(type="close_producer", producer=here.producer)
    assert await here.code(type="resume_producer", producer=here.producer) == "not_found"
    assert await here.code(type="close_producer", producer=here.producer) == "not_found"


async def test_nothing_follows_a_leave(here_and_there: tuple[Doctor, Doctor], origin: Origin) -> None:  # noqa: F811
    """[CO7] Commands already on their way behind ``leave`` come from a session that is over."""
    here, _ = here_and_there
    leaving = asyncio.create_task(here.sio.call("command", {"type": "leave"}, timeout=60))
    await asyncio.sleep(0)  # the first call has been put on the wire
    late = [asyncio.create_task(here.code(type="open_context", patient="pt2")) for _ in range(5)]
    assert (await leaving)["ok"]
    for task in late:
        task.cancel()
    outcomes = await asyncio.gather(*late, return_exceptions=True)
    assert "ok" not in outcomes
    after = await Doctor().enter(origin[0], "n1@hub", "c1")
    snapshot = await after.snapshot()
    assert snapshot["context"] is None
    assert here.you not in snapshot["participants"]
    await after.sio.disconnect()
