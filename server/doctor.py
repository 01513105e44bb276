"""``consilium doctor``: try everything the server needs, and say in words what to mend.

Each check does the real thing (binds the port, writes the folder, starts the
worker) instead of guessing from settings. Nothing leaves the machine.
"""

import asyncio
import contextlib
import datetime
import itertools
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from media.aio.supervisor import Supervisor
from media.core.control import AnyNotification, MediaError
from server.app import ANCHORS, port_range, prepare_data_dir, probe_port, worker_settings
from server.exits import StartError
from server.http import NOT_BUILT, web_root
from server.lifecycle import listen
from server.network import TurnFailed, foreign_addresses, try_turn
from server.settings import Settings
from server.storage import audit, schema
from server.storage.audit import AnchorFile
from server.storage.database import Database
from server.tls import expires_at, server_context

DISK_BYTES = 1 << 30
OPEN_FILES = 4_096
EARLIEST = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
"""The program is younger than this: a clock before it has never been set."""
CERT_DAYS = 21


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Result of one check; ``advice`` is set when it failed."""

    name: str
    ok: bool
    text: str
    advice: str = ""


class _Failed(Exception):
    def __init__(self, text: str, advice: str) -> None:
        super().__init__(text)
        self.advice = advice


Check = Callable[[Settings], Awaitable[str]]


async def examine(settings: Settings) -> list[Finding]:
    """Run every check, one after the other; one that fails does not stop the rest."""
    findings = []
    for name, check in CHECKS.items():
        try:
            findings.append(Finding(name=name, ok=True, text=await check(settings)))
        except _Failed as problem:
            findings.append(Finding(name=name, ok=False, text=str(problem), advice=problem.advice))
        except StartError as problem:
            findings.append(Finding(name=name, ok=False, text=str(problem)))
    return findings


async def _data_dir(settings: Settings) -> str:
    prepare_data_dir(settings.data_dir)
    return f"{settings.data_dir.absolute()} can be written"


async def _disk(settings: Settings) -> str:
    free = shutil.disk_usage(_existing(settings.data_dir)).free
    if free < DISK_BYTES:
        raise _Failed(
            f"{free >> 20} MiB free below {settings.data_dir}", "Free at least 1 GiB or move the data folder."
        )
    return f"{free >> 30} GiB free"


async def _web_port(settings: Settings) -> str:
    with contextlib.closing(listen(settings.host, settings.port)):
        return f"{settings.host} port {settings.port} is free"


async def _media_port(settings: Settings) -> str:
    worker = worker_settings(settings)
    for port, protocol in itertools.product(settings.media_ports, worker.protocols):
        try:
            probe_port(protocol, worker.bind, port)
        except OSError as problem:
            raise _Failed(
                f"{protocol.upper()} port {port} on {worker.bind}: {problem.strerror}",
                "Stop what uses it, choose another CONSILIUM_MEDIA_PORT, or name an address of this machine in "
                "CONSILIUM_MEDIA_BIND.",
            ) from None
    ports = f"port {port_range(settings)}" if settings.media_workers == 1 else f"ports {port_range(settings)}"
    return f"{' and '.join(protocol.upper() for protocol in worker.protocols)} {ports} on {worker.bind}"


async def _media_addresses(settings: Settings) -> str:
    foreign = foreign_addresses(settings.media_addresses)
    told = ", ".join(settings.media_addresses)
    if not foreign:
        return f"{told}: this machine's own"
    return f"{told}; {', '.join(foreign)} is not this machine's: a router must pass the media port on, UDP and TCP"


async def _turn(settings: Settings) -> str:
    if not settings.turn_urls:
        return "none; who reaches neither UDP nor TCP of the media port cannot take part"
    try:
        ways = await try_turn(settings, int(time.time()))
    except TurnFailed as problem:
        raise _Failed(
            str(problem), "Start coturn with what `consilium turn config` writes, and open its ports (below)."
        ) from None
    return f"an allocation by {', '.join(ways)}"


async def _forwarding(settings: Settings) -> str:
    from media.aio import fanout  # only here: it loads the media plane's libraries into this process

    try:
        return fanout.describe(settings.forward)
    except fanout.ForwardUnavailable as problem:
        raise _Failed(
            str(problem), f"Install gcc and Python's headers and install again, or unset {fanout.VARIABLE}."
        ) from None


async def _worker(settings: Settings) -> str:
    async def nothing() -> None:
        """The check ends before a restart would matter."""

    def ignore(_note: AnyNotification) -> None:
        """The check asks for nothing."""

    began = time.monotonic()
    supervisor = Supervisor(worker_settings(settings.model_copy(update={"media_port": 0})), ignore, nothing)
    try:
        await supervisor.start()
    except MediaError as problem:
        raise _Failed(f"the media worker does not start: {problem}", "See the lines above for its own words.") from None
    finally:
        await supervisor.stop()
    cores = len(os.sched_getaffinity(0))
    many = f"{settings.media_workers} of them on {cores} {'core' if cores == 1 else 'cores'}"
    return f"starts in {time.monotonic() - began:.1f} s; {many}, one more in reserve"


async def _clock(_settings: Settings) -> str:
    now = datetime.datetime.now(datetime.UTC)
    if now < EARLIEST:
        raise _Failed(f"the clock says {now:%Y-%m-%d %H:%M} UTC", "Set the clock and let NTP keep it (C23).")
    synchronised = await asyncio.to_thread(Path("/run/systemd/timesync/synchronized").exists)
    return f"{now:%Y-%m-%d %H:%M:%S} UTC" + (", kept by NTP" if synchronised else "; compare it with a reliable clock")


async def _database(settings: Settings) -> str:
    database = Database(settings.database)
    if database.file is not None and not database.file.exists():
        return "will be made at the first start"
    try:
        at = await schema.present(database)
        if at != schema.newest():
            raise _Failed(f"schema {at or 'none'}, needed {schema.newest()}", "Run `consilium db upgrade`.")
        verdict = await audit.verify(database, AnchorFile(settings.data_dir / ANCHORS).read())
    except (OSError, schema.SQLAlchemyError) as problem:
        raise _Failed(
            f"cannot be used: {type(problem).__name__}", "Check CONSILIUM_DATABASE_URL and the server."
        ) from None
    finally:
        await database.close()
    if verdict.broken is not None:
        raise _Failed(
            f"audit row {verdict.broken.seq}: {verdict.broken.problem}",
            "Stop the server, keep a copy of the database, and find out who changed it.",
        )
    return f"schema {at}, {verdict.rows} audit rows whole"


async def _certificate(settings: Settings) -> str:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return "not needed: only this machine can connect"
    server_context(settings.tls_cert_file, settings.tls_key_file)
    end = expires_at(settings.tls_cert_file)
    if end - datetime.datetime.now(datetime.UTC) < datetime.timedelta(days=CERT_DAYS):
        raise _Failed(f"expires {end:%Y-%m-%d}", "Renew it now; running servers take the new file over by themselves.")
    return f"good until {end:%Y-%m-%d}"


async def _limits(_settings: Settings) -> str:
    limit = os.sysconf("SC_OPEN_MAX")
    if limit < OPEN_FILES:
        raise _Failed(f"{limit} open files allowed", f"Allow {OPEN_FILES} (LimitNOFILE= in the systemd unit).")
    return f"{limit} open files allowed"


async def _client(_settings: Settings) -> str:
    root = web_root()
    if root is None:
        raise _Failed("not found", NOT_BUILT.strip())
    return str(root)


CHECKS: dict[str, Check] = {
    "data folder": _data_dir,
    "disk": _disk,
    "open files": _limits,
    "clock": _clock,
    "database": _database,
    "web port": _web_port,
    "media port": _media_port,
    "media address": _media_addresses,
    "TURN": _turn,
    "forwarding": _forwarding,
    "media worker": _worker,
    "certificate": _certificate,
    "web client": _client,
}


def _existing(path: Path) -> Path:
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
