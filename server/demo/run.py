"""`consilium demo`: from nothing to a live consult on this machine, with one command.

Prepares the data folder, the database, the sample hub and the simulated room's
film, serves, starts the two simulators, and says exactly what to open. Ctrl-C
ends everything in order; starting again goes on with the same data.

What is in the demo is `seed`; who plays in it is `room` and `monitor`.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from server.api.gateways import LOCK
from server.app import open_database, port_range
from server.bedside.client import Assignment
from server.clock import server_clock
from server.demo import media
from server.demo.hospital_place import FOLDER, needs_code
from server.demo.seed import PARTNER, PASSWORD, PEOPLE, Seeded, seed
from server.demo.simulators import simulator
from server.exits import Exit, StartError
from server.lifecycle import free_port, serving, stop_signals
from server.lock.aio.gateways import KIND
from server.log import configure_log
from server.settings import Settings, load_settings

DATA_DIR = Path("data/demo")
HOST = "127.0.0.1"
ROLES = {"doctor": "doctor 医生", "nurse": "nurse 护士", "admin": "administrator 管理员"}

T = TypeVar("T")


class _Stopped(Exception):
    """Ctrl-C while the demo was still being prepared."""


def demo(*, port: int | None = None, data_dir: Path | None = None, hospital: bool = True) -> int:
    """Run the demo until Ctrl-C.

    Args:
        port: TCP port of the web server; another one is taken, and told, when it is in use.
        data_dir: where the demo keeps everything; removed, it starts afresh.
        hospital: whether the simulated partner hospital runs beside it.

    Raises:
        StartError: something stands in its way that only a person can remove.
    """
    settings = _settings(port, data_dir)
    configure_log(json=settings.log_json, level=logging.WARNING)
    with contextlib.suppress(_Stopped):
        asyncio.run(_run(settings, hospital=hospital))
    return Exit.OK


def say(text: str = "") -> None:
    """One line for the person at the terminal."""
    print(text, flush=True)


def _settings(port: int | None, data_dir: Path | None) -> Settings:
    settings = load_settings(host=HOST, port=port, data_dir=data_dir or DATA_DIR, demo=True)
    if settings.secure:
        raise StartError(Exit.SETTINGS, "The demo runs on this machine without TLS: unset CONSILIUM_TLS_CERT_FILE.")
    if "media_workers" not in settings.model_fields_set:
        settings = settings.model_copy(update={"media_workers": 1})  # one person's machine, one consult
    if "media_addresses" not in settings.model_fields_set and (own := _own_address()) is not None:
        return settings.model_copy(update={"media_addresses": (HOST, own)})
    return settings


def _with_free_ports(settings: Settings) -> Settings:
    """The ports wished for, or others where they are taken; asked for just before they are used."""
    port = free_port(HOST, settings.port)
    if port != settings.port and settings.port:
        say(f"Port {settings.port} is in use by another program; the demo takes {port}.")
    media_port = _free_media_port(settings.media_port, settings.media_workers)
    if media_port != settings.media_port and settings.media_port:
        say(f"Media port {settings.media_port} is in use by another program; the demo takes {media_port}.")
    return settings.model_copy(update={"port": port, "media_port": media_port})


def _free_media_port(wanted: int, workers: int) -> int:
    """``wanted`` if it and the next ones are free, one for each worker; else the first of some that are."""
    while True:
        with contextlib.ExitStack() as probes:
            first = 0
            try:
                for index in range(workers):
                    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                        probe = probes.enter_context(contextlib.closing(socket.socket(socket.AF_INET, kind)))
                        if kind is socket.SOCK_STREAM:
                            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        probe.bind(("", first + index if first else wanted))
                        first = first or int(probe.getsockname()[1])
            except (OSError, OverflowError):  # taken, or beyond the last port there is
                wanted = 0
            else:
                return first


def _own_address() -> str | None:
    """This machine's address on its network: Firefox does not connect to 127.0.0.1 (ORTC.md trap 20).

    Connecting a UDP socket sends nothing; it asks the routing table. The address
    asked about is one that belongs to nobody (RFC 5737).
    """
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith(("127.", "0.")) else address


async def _run(settings: Settings, *, hospital: bool) -> None:
    with stop_signals() as stop:
        say(f"1/4  Data folder and database in {settings.data_dir}")
        database = await _or_stop(open_database(settings), stop)
        try:
            say("2/4  Sample hub: two rooms, two partner hospitals, three patients")
            seeded = await _or_stop(seed(database, server_clock()), stop)
        finally:
            await database.close()
        media_dir = settings.data_dir / "media"
        await _prepare_media(media_dir, stop)
        say("4/4  Server, simulated room and simulated monitor")
        settings = _with_free_ports(settings)
        async with serving(settings, seeded.info) as app, contextlib.AsyncExitStack() as children:
            await _start_simulators(children, settings, seeded, media_dir)
            if hospital:
                await _start_hospital(children, settings, seeded, app)
            _tell(settings, hospital=hospital)
            await stop.wait()
            say()
            say("Stopping ...")
    say("Stopped. The data stays in " + str(settings.data_dir))


async def _prepare_media(folder: Path, stop: asyncio.Event) -> None:
    say("3/4  Simulated partner room: picture and sound (made once, a few seconds)")
    shown = 0

    def progress(done: float) -> None:
        nonlocal shown
        if stop.is_set():
            raise _Stopped
        if int(done * 4) > shown:
            shown = int(done * 4)
            say(f"       {25 * shown} %")

    try:
        await asyncio.to_thread(media.prepare, folder, progress)
    except media.MediaError as problem:
        raise StartError(Exit.DATA_DIR, f"The demo's film cannot be made: {problem}.") from None


async def _start_simulators(
    children: contextlib.AsyncExitStack, settings: Settings, seeded: Seeded, media_dir: Path
) -> None:
    for module, secret in (("server.demo.room", seeded.room_secret), ("server.demo.monitor", seeded.monitor_secret)):
        assignment = Assignment(
            origin=f"http://{HOST}:{settings.port}", consult=seeded.consult, secret=secret, media_dir=str(media_dir)
        )
        await children.enter_async_context(simulator(module, assignment, _complain))


async def _start_hospital(
    children: contextlib.AsyncExitStack, settings: Settings, seeded: Seeded, app: web.Application
) -> None:
    origin, folder, code = f"http://{HOST}:{settings.port}", settings.data_dir / FOLDER, ""
    if needs_code(folder, origin):
        made = await app[LOCK].codes.make(None, kind=KIND, hospital=PARTNER, name="示例协作医院网关 Sample gateway")
        code = made.code
    assignment = Assignment(origin=origin, consult=seeded.consult, secret=code, media_dir=str(folder))
    await children.enter_async_context(simulator("server.demo.hospital", assignment, _complain))


def _complain(text: str) -> None:
    print(f"consilium demo: {text}", file=sys.stderr, flush=True)


def _tell(settings: Settings, *, hospital: bool) -> None:
    """What to open, and as whom."""
    origin = settings.main_origin
    say()
    say(f"Open    {origin}   and choose a sample account, or sign in:")
    for person in PEOPLE:
        say(f"          {person.login:<6} {PASSWORD}   {ROLES[person.role]:<10} {person.name} {person.name_latin}")
    say(f"Walls   {origin}/wall?screen=1&demo=1   record  病历")
    say(f"        {origin}/wall?screen=2&demo=1   video   视频")
    say(f"        {origin}/wall?screen=3&demo=1   ECG     心电")
    say(f"Media   UDP and TCP port {port_range(settings)} on {', '.join(settings.media_addresses)}")
    if hospital:
        say(f"Gateway of the sample partner hospital in {settings.data_dir / FOLDER}: results arrive once a minute.")
        say(f"          consilium gateway crossings --data-dir {settings.data_dir / FOLDER}")
    say("        Patients are samples, the room and the ECG are simulated. 示例患者，模拟信号。")
    say("Stop    Ctrl-C (twice to force)")


async def _or_stop(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T:
    """The result, unless Ctrl-C comes first."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _Stopped
        return working.result()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
