"""The servers of `page_turn`, and ours of `peers.fan_servers`, each alone in a process: ours, whole, and a bare room.

    python -m load_tests.bench.page_process ours <data folder> <port> <people> [<consults>]
    python -m load_tests.bench.page_process bare <port>

The first has consults with one patient, each with so many people of its own, and a token for each of them: it says
them on standard output as a line of JSON when asked by a line of standard input with their number and, unless it is
the first, the number of the consult. The bare one puts everybody into one room of python-socketio and emits to it
whatever one of them sends as ``turn``: no check, no state, no store. Both end with their standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import socketio
from aiohttp import web
from argon2 import PasswordHasher

from server.api.services import SERVICES
from server.app import open_database
from server.identity.aio.members import membership
from server.identity.aio.passwords import Passwords
from server.lifecycle import serving
from server.settings import load_settings
from server.storage.database import Database
from server.storage.seeding import add_consult, add_hospital, add_person, add_room, put_fhir_resource
from signaling.core.model import Role

CONSULT, PATIENT, PASSWORD = "c1", "p1", "bench"
QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
"""Signing in is not what is measured."""
RECORD = {
    "resourceType": "Patient", "id": PATIENT, "name": [{"text": "测试"}], "gender": "female", "birthDate": "1948-03-09",
    "identifier": [{"type": {"text": "MRN"}, "value": "1"}, {"type": {"text": "ID"}, "value": "2"}],
    "meta": {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]},
}  # fmt: skip


def say(line: Any) -> None:
    """To the other end; everything else that is printed here is a log."""
    _OUT.write(json.dumps(line) + "\n")
    _OUT.flush()


async def _lines() -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        yield line.strip()


async def _fill(database: Database, people: int, consults: int) -> None:
    passwords = Passwords(QUICK)
    async with database.write() as session:
        await add_hospital(session, id="hub", name="Hub", hub=True)
        await add_room(session, id="r1", hospital="hub", name="1")
        await put_fhir_resource(session, RECORD, at_ms=1)
        for consult in range(consults):
            names = [_login(consult, number) for number in range(people)]
            for name in names:
                await add_person(
                    session, passwords, id=name, hospital="hub", name=f"Doctor {name}", role="doctor", login=name,
                    password=PASSWORD,
                )  # fmt: skip
            await add_consult(
                session, id=_consult(consult), title="Bench", room="r1", station=None, partner="hub", starts_at_ms=1,
                people=dict.fromkeys(names, Role.DOCTOR), devices={}, patients=[PATIENT], limit=people + 1,
            )  # fmt: skip


def _consult(number: int) -> str:
    return f"c{number + 1}"


def _login(consult: int, number: int) -> str:
    return f"d{consult}-{number}"


async def _ours(folder: Path, port: int, people: int, consults: int) -> None:
    settings = load_settings(
        # No media is sent: no consult is turned away because a worker may become full.
        dict(os.environ), data_dir=folder, port=port, media_port=0, media_workers=1, media_full=4, media_crowded=4,
    )  # fmt: skip
    database = await open_database(settings)
    await _fill(database, people, consults)
    await database.close()
    async with serving(settings) as app:
        services = app[SERVICES]
        say({"url": settings.main_origin})
        async for asked in _lines():
            wanted, consult = (int(word) for word in f"{asked} 0".split()[:2])
            tokens: list[str] = []
            for number in range(wanted):
                one = await services.sessions.sign_in(_login(consult, number), PASSWORD, "127.0.0.1")
                async with services.database.read() as session:
                    found = await membership(session, one.person, _consult(consult))
                assert found is not None, "everybody is a member"
                tokens.append((await services.tokens.issue(one.person, found)).token)
            say(tokens)


async def _bare(port: int) -> None:
    hub = socketio.AsyncServer(async_mode="aiohttp", serializer="msgpack", transports=["websocket"])

    async def connect(sid: str, _environ: Any, _auth: Any = None) -> None:
        await hub.enter_room(sid, CONSULT)

    async def turn(_sid: str, payload: Any) -> dict[str, bool]:
        await hub.emit("event", payload, room=CONSULT)
        return {"ok": True}

    hub.on("connect", connect)
    hub.on("turn", turn)
    app = web.Application()
    hub.attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    say({"url": f"http://127.0.0.1:{port}"})
    with contextlib.suppress(asyncio.CancelledError):
        async for _ in _lines():
            pass
    await runner.cleanup()


if __name__ == "__main__":
    _OUT = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.argv[1] == "ours":
        asyncio.run(_ours(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int((sys.argv[5:] or ["1"])[0])))
    else:
        asyncio.run(_bare(int(sys.argv[2])))
