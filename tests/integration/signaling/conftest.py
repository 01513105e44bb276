"""Signalling servers and clients that are closed after each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from signaling_elsewhere import MakeService
from signaling_hub import ORIGIN, Client, Hub, MakeClient, MakeHub, MakeRaw, Raw

from signaling.aio.gateway import GatewaySettings, SignalingGateway
from signaling.aio.memory import MemoryBus, MemoryStore
from signaling.aio.service import ConsultService, ServiceSettings
from signaling.core.admission import Admission
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.model import Role
from tests.signaling_kit import CONSULT, PATIENTS, MemoryMedia, admission, consult

QUICK_BEATS = ServiceSettings(beat_s=0.2, grace_s=30.0)
DEFAULTS = GatewaySettings()


@pytest.fixture
async def make_hub() -> AsyncIterator[MakeHub]:
    running: list[tuple[SignalingGateway, web.AppRunner]] = []

    async def make(
        *,
        service: ServiceSettings = QUICK_BEATS,
        gateway: GatewaySettings = DEFAULTS,
        store: MemoryStore | None = None,
        limit: int = 50,
        static: Path | None = None,
    ) -> Hub:
        if store is None:
            store = MemoryStore()
            store.add(consult(limit), PATIENTS)
        media = MemoryMedia()
        consults = ConsultService(store, MemoryBus(), media, lambda: 1_700_000_000_000, service)

        async def verify(token: str) -> Admission:
            admitted = hub.tokens.pop(token, None)
            if admitted is None:
                raise Refusal(ErrorCode.TOKEN_INVALID)
            return admitted

        origins = {ORIGIN}
        sockets = SignalingGateway(consults, verify, origins.__contains__, gateway)
        app = web.Application()
        if static is not None:
            app.router.add_static("/page", static)
        sockets.attach(app)
        await sockets.start()
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        hub = Hub(sockets, consults, store, media, runner.addresses[0][1], origins)
        running.append((sockets, runner))
        return hub

    yield make
    for sockets, runner in running:
        await sockets.stop()
        await runner.cleanup()


@pytest.fixture
async def hub(make_hub: MakeHub) -> Hub:
    return await make_hub()


@pytest.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    clients: list[Client] = []

    async def make(hub: Hub, name: str, role: Role = Role.DOCTOR, *, join: bool = True, **kwargs: Any) -> Client:
        client = Client(hub)
        clients.append(client)
        token = hub.token(admission(name, role, **kwargs))
        await client.connect({"token": token, "protocol": 1})
        if join:
            await client.ok(type="join")
        return client

    yield make
    for client in clients:
        await client.sio.disconnect()


@pytest.fixture
async def make_raw() -> AsyncIterator[MakeRaw]:
    opened: list[Raw] = []
    async with aiohttp.ClientSession() as http:

        async def make(hub: Hub, name: str | None = "raw", **kwargs: Any) -> Raw:
            raw = Raw(await http.ws_connect(f"{hub.url}/socket.io/?EIO=4&transport=websocket", **kwargs))
            opened.append(raw)
            if name is not None:
                await raw.packet(0, {"token": hub.token(admission(name)), "protocol": 1})
                await raw.answer(0)
            return raw

        yield make
        for raw in opened:
            await raw.close()


@pytest.fixture
async def make_service() -> AsyncIterator[MakeService]:
    running: list[ConsultService] = []

    async def make(store: MemoryStore, media: MemoryMedia | None = None, **settings: Any) -> ConsultService:
        if await store.load(CONSULT) is None:
            store.add(consult(), PATIENTS)
        quick = {"beat_s": 0.05, "retry_s": 0.01, "sole_node": False, **settings}
        service = ConsultService(store, MemoryBus(), media or MemoryMedia(), lambda: 1_000, ServiceSettings(**quick))
        await service.start()
        running.append(service)
        return service

    yield make
    for service in running:
        await service.stop()
