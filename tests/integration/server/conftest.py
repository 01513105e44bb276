"""The HTTP API on a real port with a real database; media and sockets are started elsewhere."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from server_hub import LIMITS, Browser, Clock, Hub, quiet_port
from server_seed import PASSWORD, QUICK, fill

from server.api.gateways import LOCK
from server.api.nettest import NETTESTS
from server.api.services import DemoInfo, DemoLogin, Services
from server.app import build_services, check_schema, lock_of, prepare_data_dir
from server.http import build_web
from server.identity.aio.invites import Invites
from server.identity.aio.passwords import Passwords
from server.identity.aio.sessions import Sessions
from server.identity.aio.tokens import ConsultTokens, token_key
from server.identity.aio.walls import Walls
from server.nettest import NetTests
from server.settings import load_settings
from server.smart.aio.keys import identity_key
from server.storage.database import Database
from tests.signaling_kit import MemoryMedia


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as `fill` leaves it, and the key that takes longest to make; every test works on a copy."""
    folder = tmp_path_factory.mktemp("filled") / "data"
    prepare_data_dir(folder)

    async def make() -> None:
        database = Database(load_settings({}, port=1, data_dir=folder).database)
        await check_schema(database)
        await fill(database)
        await database.close()

    asyncio.run(make())
    identity_key(folder)
    return folder


@pytest.fixture
async def make_hub(tmp_path: Path, filled: Path) -> AsyncIterator[Callable[..., Awaitable[Hub]]]:
    """Start a hub; ``demo=True`` for one with demo doors open."""
    closing: list[Callable[[], Awaitable[None]]] = []

    async def make(*, demo: bool = False) -> Hub:
        port = quiet_port()
        settings = load_settings({}, port=port, data_dir=tmp_path / "data", demo=demo)
        info = DemoInfo(logins=(DemoLogin(login="d1@hub", password=PASSWORD, name="d1", role="doctor"),), station="st1")
        if not settings.data_dir.exists():
            shutil.copytree(filled, settings.data_dir)
        services = _with_clock(build_services(settings, info if demo else None), clock := Clock())
        await check_schema(services.database)
        app = build_web(services, None)
        app[NETTESTS] = NetTests(MemoryMedia())
        app[LOCK] = lock_of(services)
        await app[LOCK].vault.open(services.database)
        server = TestServer(app, host="127.0.0.1", port=port)
        await server.start_server()
        browsers: list[Browser] = []

        def browser() -> Browser:
            browsers.append(Browser(f"http://127.0.0.1:{port}"))
            return browsers[-1]

        async def close() -> None:
            for one in browsers:
                await one.http.close()
            await server.close()
            await services.database.close()

        closing.append(close)
        return Hub(origin=f"http://127.0.0.1:{port}", services=services, clock=clock, browser=browser)

    yield make
    for close in closing:
        await close()


@pytest.fixture
async def hub(make_hub: Callable[..., Awaitable[Hub]]) -> Hub:
    return await make_hub()


def _with_clock(services: Services, clock: Clock) -> Services:
    """The same parts on the test's clock, with quick password hashes."""
    database, attempts = services.database, services.attempts
    sessions = Sessions(database, Passwords(QUICK), attempts, LIMITS, clock)
    walls = Walls(database, clock)
    key = token_key(services.settings.data_dir)
    tokens = ConsultTokens(key, database, sessions, walls, services.devices, clock)
    invites = Invites(database, LIMITS, clock)
    return replace(services, now_ms=clock, sessions=sessions, walls=walls, tokens=tokens, invites=invites)
