"""Far more people at the door than can be let in: who is in stays in, who waits costs nothing, all get in. [SE16]"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest
from aiohttp.test_utils import TestServer
from server_hub import quiet_port
from sqlalchemy import func, select

from server.api.services import Services
from server.app import admit_with, build_services, check_schema
from server.http import build_web
from server.settings import load_settings
from server.storage.models import EventRow
from server.storage.seeding import add_consult, add_device_account
from signaling.aio.gateway import SignalingGateway
from signaling.aio.memory import MemoryBus
from signaling.aio.service import ConsultService, ServiceSettings
from signaling.core.arrivals import Arrival, ArrivalLimits, Arrivals
from signaling.core.model import Role
from tests.signaling_kit import MemoryMedia, until

pytestmark = pytest.mark.timeout(300)
PEOPLE, EACH = 160, 20
FEW = ArrivalLimits(at_once=6, fewest=4, most=8)
SILENT_S = 5.0


@dataclass
class Door:
    """A server with a real database and real sockets, and people whom it knows."""

    origin: str
    services: Services
    gateway: SignalingGateway
    http: aiohttp.ClientSession
    turned_away: int = 0
    most_under_way: int = 0
    sockets: list[aiohttp.ClientWebSocketResponse] = field(default_factory=list)
    readers: list[asyncio.Task[None]] = field(default_factory=list)
    beats: dict[str, list[float]] = field(default_factory=dict)

    async def ask(self, who: int, consult: str | None = None) -> tuple[int, Any, int]:
        """Status, body and ``Retry-After`` of asking for a token."""
        path = f"{self.origin}/api/consults/{consult or f'hall{who // EACH}'}/token"
        async with self.http.post(path, json={}, headers={"Authorization": f"Bearer {secret(who)}"}) as answer:
            return answer.status, await answer.json(), int(answer.headers.get("Retry-After", 0))

    async def enter(self, who: int) -> None:
        """As often as it takes, when told to."""
        chance = random.Random(who)
        while True:
            status, body, wait_s = await self.ask(who)
            self.most_under_way = max(self.most_under_way, self.services.arrivals.under_way)
            if status == 200:
                return await self.connect(who, body["token"])
            assert (status, body["error"]["code"]) == (503, "too_busy")
            assert 1 <= wait_s <= 60
            self.turned_away += 1
            await asyncio.sleep(wait_s + chance.random())

    async def connect(self, who: int, token: str) -> None:
        """Open a socket and join; it is read from then on."""
        ws = await self.http.ws_connect(f"{self.origin}/socket.io/?EIO=4&transport=websocket")
        self.sockets.append(ws)
        await ws.send_bytes(msgpack.packb({"type": 0, "nsp": "/", "data": {"token": token, "protocol": 1}}))
        await ws.send_bytes(msgpack.packb({"type": 2, "nsp": "/", "data": ["command", {"type": "join"}], "id": 1}))
        joined: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.readers.append(asyncio.create_task(self._read(ws, f"p{who}", joined)))
        async with asyncio.timeout(120):
            assert (await joined)["ok"]

    async def _read(self, ws: aiohttp.ClientWebSocketResponse, name: str, joined: asyncio.Future[Any]) -> None:
        async for message in ws:
            if message.type is aiohttp.WSMsgType.TEXT:
                if message.data == "2":
                    await ws.send_str("3")
                continue
            packet = msgpack.unpackb(message.data)
            if packet["type"] == 3 and not joined.done():
                joined.set_result(packet["data"][0])
            elif packet["type"] == 4 and not joined.done():
                joined.set_exception(AssertionError(packet["data"]))
            elif packet["type"] == 2 and packet["data"][1]["type"] == "beat":
                self.beats.setdefault(name, []).append(time.monotonic())

    async def tokens(self) -> int:
        """Rows of the audit trail that say that a token was given out."""
        async with self.services.database.read() as session:
            count = select(func.count()).select_from(EventRow).where(EventRow.kind == "token_issued")
            return (await session.execute(count)).scalar_one()


def secret(who: int) -> str:
    return f"{who:043d}"


@pytest.fixture
async def door(tmp_path: Path, filled: Path) -> AsyncIterator[Door]:
    shutil.copytree(filled, tmp_path / "data")
    settings = load_settings({}, port=quiet_port(), data_dir=tmp_path / "data")
    services = replace(build_services(settings, None), arrivals=Arrivals(FEW))
    await check_schema(services.database)
    async with services.database.write() as session:
        for who in range(PEOPLE):
            await add_device_account(
                session, id=f"p{who}", hospital="north", name=f"P{who}", role=Role.DEVICE, secret=secret(who),
                simulated=True,
            )  # fmt: skip
        for hall in range(PEOPLE // EACH):
            await add_consult(
                session, id=f"hall{hall}", title="Hall", room="r1", station="st1", partner="north", starts_at_ms=1_000,
                people={"d1": Role.DOCTOR}, patients=["pt1"],
                devices={f"p{who}": Role.DEVICE for who in range(hall * EACH, (hall + 1) * EACH)},
            )  # fmt: skip
    quick = ServiceSettings(beat_s=0.5)
    service = ConsultService(services.store, MemoryBus(), MemoryMedia(), services.now_ms, quick)
    gateway = SignalingGateway(service, admit_with(services.tokens), settings.origins, arrivals=services.arrivals)
    app = build_web(services, None)
    gateway.attach(app)
    await gateway.start()
    server = TestServer(app, host="127.0.0.1", port=settings.port)
    await server.start_server()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        door = Door(f"http://127.0.0.1:{settings.port}", services, gateway, http)
        yield door
        for ws in door.sockets:
            await ws.close()
        await asyncio.gather(*door.readers, return_exceptions=True)
    await gateway.stop()
    await server.close()
    await services.database.close()


async def test_all_get_in_and_who_is_in_hears_every_beat(door: Door) -> None:
    """Twenty-odd times as many as may come at once, from one address, all at one moment."""
    arrivals = door.services.arrivals
    await door.enter(0)
    await asyncio.gather(*(door.enter(who) for who in range(1, PEOPLE)))

    assert door.gateway.sessions == PEOPLE
    assert door.turned_away >= PEOPLE // 2
    assert arrivals.turned_away == door.turned_away
    assert door.most_under_way <= FEW.most
    assert await door.tokens() == PEOPLE, "one for each: none for who was turned away, none was wasted"
    assert door.gateway.counters["too_many_strangers"] == 0
    assert not any(door.gateway.counters[name] for name in door.gateway.counters if name.startswith("goodbye"))
    heard = door.beats["p0"]
    assert max(after - before for before, after in itertools.pairwise(heard)) < SILENT_S, "(W19)"
    assert not any(reader.done() for reader in door.readers), "nobody who was in lost the socket"
    await until(lambda: arrivals.under_way == 0)
    assert arrivals.waiting == 0


async def test_turning_away_touches_nothing(door: Door) -> None:
    """It is the first that happens, before the body is read, for an unknown secret too; a failure frees its place."""
    arrivals = door.services.arrivals
    held = [one for number in range(FEW.at_once) if isinstance(one := arrivals.knock(number, now_s()), Arrival)]
    assert len(held) == FEW.at_once
    before = await door.tokens()
    await door.services.database.close()  # whoever asked it now would fail
    for who in (1, 2, 999):
        status, body, wait_s = await door.ask(who)
        assert (status, body["error"]["code"], wait_s) == (503, "too_busy", 1)
        assert "自动" in body["error"]["zh"]
    assert arrivals.turned_away == 3
    for one in held:
        arrivals.give_up(one)

    assert (await door.ask(999))[0] == 401
    assert (await door.ask(1, "hall7"))[0] == 404
    assert arrivals.under_way == 0, "what fails frees its place"
    status, body, _ = await door.ask(1)
    assert (status, arrivals.under_way) == (200, 1)
    assert (await door.ask(1))[0] == 200
    assert arrivals.under_way == 1, "the same participant again is one arrival"
    await door.connect(1, body["token"])
    assert arrivals.under_way == 0
    assert await door.tokens() == before + 2


async def test_a_handshake_that_is_refused_leaves_the_token_good(door: Door) -> None:
    _, body, _ = await door.ask(3)
    door.gateway._settings = replace(door.gateway._settings, strangers=0)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await door.connect(3, body["token"])
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "5")
    door.gateway._settings = replace(door.gateway._settings, strangers=10)
    await door.connect(3, body["token"])
    assert door.gateway.strangers == 0


def now_s() -> float:
    return asyncio.get_running_loop().time()
