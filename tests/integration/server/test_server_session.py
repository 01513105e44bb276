"""From sign-in to the record, through the real server: HTTP, token, socket, context, audit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import socketio
from server_hub import Browser, quiet_port
from server_seed import DEVICE_SECRET, fill

from server.api.services import SERVICES
from server.app import open_database
from server.lifecycle import serving
from server.settings import load_settings
from server.storage import audit
from server.storage.database import Database


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[tuple[str, Database]]:
    """A running server with its media worker."""
    settings = load_settings({}, data_dir=tmp_path / "data", port=quiet_port(), media_port=0)
    database = await open_database(settings)
    await fill(database)
    await database.close()
    async with serving(settings) as app:
        yield f"http://127.0.0.1:{settings.port}", app[SERVICES].database


class Socket:
    """A stock python-socketio client."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncClient(serializer="msgpack", reconnection=False)
        self.refused: list[Any] = []
        self.sio.on("connect_error", self.refused.append)

    async def connect(self, origin: str, token: str) -> None:
        auth = {"token": token, "protocol": 1}
        await self.sio.connect(origin, auth=auth, transports=["websocket"], wait_timeout=60)

    async def refusal(self, origin: str, token: str) -> str:
        with pytest.raises(socketio.exceptions.ConnectionError):
            await self.connect(origin, token)
        return str(self.refused[-1]["data"]["code"] if "data" in self.refused[-1] else self.refused[-1]["code"])

    async def ok(self, **command: Any) -> dict[str, Any]:
        ack = await self.sio.call("command", command, timeout=60)
        assert ack["ok"], ack
        return dict(ack["result"])


@pytest.fixture
async def doctor(origin: tuple[str, Database]) -> AsyncIterator[Browser]:
    browser = Browser(origin[0])
    await browser.sign_in("d1@hub")
    yield browser
    await browser.http.close()


async def test_a_doctor_opens_a_patient_and_reads_what_every_screen_shows(
    origin: tuple[str, Database], doctor: Browser
) -> None:
    """[W19] [G5] The context version of the socket is the key to the record over HTTP."""
    address, database = origin
    _, issued = await doctor.post("/api/consults/c1/token")
    socket = Socket()
    await socket.connect(address, issued["token"])
    joined = await socket.ok(type="join")
    assert joined["you"] == issued["participant"]
    assert joined["router_rtp_capabilities"]["codecs"]

    assert (await doctor.get("/api/consults/c1/record/Observation?version=1"))[0] == 409
    await socket.ok(type="open_context", patient="pt1")
    status, bundle = await doctor.get("/api/consults/c1/record/Observation?version=1")
    assert (status, bundle["total"]) == (200, 4)
    await socket.ok(type="open_context", patient="pt2")
    assert (await doctor.get("/api/consults/c1/record/Observation?version=1"))[0] == 409
    assert (await doctor.get("/api/consults/c1/record/Observation?version=2"))[1]["total"] == 1

    assert (await doctor.get("/api/consults/c1"))[1]["participants"] == 1
    await socket.sio.disconnect()
    verdict = await audit.verify(database, {})
    assert verdict.broken is None


async def test_used_forged_and_foreign_tokens_open_no_socket(origin: tuple[str, Database], doctor: Browser) -> None:
    """[G9]"""
    address, _ = origin
    _, issued = await doctor.post("/api/consults/c1/token")
    first = Socket()
    await first.connect(address, issued["token"])

    assert await Socket().refusal(address, issued["token"]) == "token_invalid"
    head, body, signature = issued["token"].split(".")
    assert await Socket().refusal(address, f"{head}.{body}.{signature[::-1]}") == "token_invalid"
    assert await Socket().refusal(address, "x") == "token_invalid"
    assert first.sio.connected
    await first.sio.disconnect()


async def test_a_device_enters_with_its_secret_and_everybody_sees_that_it_is_simulated(
    origin: tuple[str, Database], doctor: Browser
) -> None:
    """[W9]"""
    address, _ = origin
    headers = {"Authorization": f"Bearer {DEVICE_SECRET}"}
    async with doctor.http.post("/api/consults/c1/token", json={}, headers=headers) as answer:
        issued = await answer.json()
    device = Socket()
    await device.connect(address, issued["token"])
    snapshot = (await device.ok(type="join"))["snapshot"]
    me = snapshot["participants"][issued["participant"]]
    assert (me["role"], me["simulated"]) == ("device", True)
    await device.sio.disconnect()
