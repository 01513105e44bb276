"""Composition root: gives each port its adapter, and each part its place in the order of start and stop.

Start: data folder, database schema, media worker, signalling, housekeeping.
Stop is the reverse; sockets are told goodbye before anything they need goes away.
"""

import contextlib
import ipaddress
import itertools
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import structlog
from aiohttp import web
from alembic.util.exc import CommandError
from sqlalchemy.exc import SQLAlchemyError

from media.aio.clock import start_clock
from media.aio.supervisor import WorkerSettings
from media.core.control import MediaError
from media.core.ortc_transport import PROTOCOLS, Protocol
from media.core.placement import LoadLimits
from server.api.gateways import LOCK
from server.api.nettest import NETTESTS
from server.api.services import SERVICES, DemoInfo, DemoLogin, Services
from server.api.waveforms import HEARTS, OFFICE, SNAPSHOTS
from server.api.whip import SESSIONS as WHIP
from server.clock import server_clock, server_clock_us
from server.exits import Exit, StartError
from server.fhircast.aio.service import FHIRCAST_SERVICE, FhircastService, FhircastSettings
from server.housekeeping import Housekeeper
from server.http import build_web, web_root
from server.identity.aio.devices import Devices
from server.identity.aio.invites import Invites
from server.identity.aio.passwords import Passwords
from server.identity.aio.sessions import Sessions
from server.identity.aio.throttle import Attempts
from server.identity.aio.tokens import ConsultTokens, token_key
from server.identity.aio.walls import Walls
from server.identity.core.rules import SessionLimits
from server.identity.core.tokens import TokenInvalid
from server.live import LiveSessions
from server.lock.aio.gateways import lock_key
from server.lock.aio.leaving import EndBindings
from server.lock.aio.parts import LockParts, build_lock, vault_of
from server.media_plane import WorkerMediaPlane
from server.metrics import ARRIVALS, ARRIVALS_BOUND, ARRIVALS_RATE, ARRIVALS_WAITING, TOKENS
from server.nettest import NetTests
from server.record.aio.reindex import reindex
from server.record.aio.writes import apply_bundle
from server.settings import Settings, is_local
from server.storage import schema
from server.storage.audit import AnchorFile
from server.storage.consult_store import SqlConsultStore
from server.storage.database import Database
from server.turn import turn_servers
from server.waveforms.blobs import FolderBlobs
from server.waveforms.desk import WaveformDesk
from server.waveforms.feed import WaveformFeed
from server.waveforms.heart import Hearts
from server.waveforms.office import Office, software
from server.waveforms.redis_ring import RedisRing
from server.waveforms.ring import LiveRing, MemoryRing
from server.waveforms.snapshots import Snapshots
from server.whip.sessions import WhipSessions
from signaling.aio.gateway import SignalingGateway, VerifyToken
from signaling.aio.memory import MemoryBus
from signaling.aio.redis_bus import RedisBus
from signaling.aio.service import ConsultService, ServiceSettings
from signaling.core.admission import Admission
from signaling.core.arrivals import Arrivals
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId
from signaling.core.ports import EventBus

log = structlog.get_logger(__name__)

ANCHORS = "audit-anchors.jsonl"
GATEWAY: web.AppKey[SignalingGateway] = web.AppKey("gateway", SignalingGateway)
MEDIA: web.AppKey[WorkerMediaPlane] = web.AppKey("media", WorkerMediaPlane)

__all__ = [
    "ANCHORS",
    "GATEWAY",
    "MEDIA",
    "SERVICES",
    "DemoInfo",
    "DemoLogin",
    "build_app",
    "build_services",
    "open_database",
    "port_range",
    "prepare_data_dir",
    "worker_settings",
]


def build_app(settings: Settings, demo: DemoInfo | None = None) -> web.Application:
    """The whole server as one application; nothing runs until it is started.

    Args:
        demo: sample logins and the demo station; only with ``settings.demo``.

    Raises:
        StartError: the data folder or the signing key cannot be used.
    """
    assert demo is None or settings.demo, "sample logins belong to a demo"
    prepare_data_dir(settings.data_dir)
    services = build_services(settings, demo)
    servers = turn_servers(settings, services.now_ms)
    blobs = FolderBlobs(settings.waveforms)
    ring: LiveRing = RedisRing(settings.redis_url) if settings.redis_url else MemoryRing()
    desk = WaveformDesk(services.database, blobs, ring, services.now_ms)
    media = WorkerMediaPlane(worker_settings(settings), settings.media_workers, load_limits(settings), servers, desk)
    bus: EventBus = RedisBus(settings.redis_url) if settings.redis_url else MemoryBus()
    limits = ServiceSettings(sole_node=not settings.redis_url)
    service = ConsultService(services.store, bus, media, services.now_ms, limits)
    service.use_view_log(SqlConsultStore(services.database))
    gateway = SignalingGateway(service, admit_with(services.tokens), settings.origins, arrivals=services.arrivals)
    show_arrivals(services.arrivals)
    app = build_web(services, web_root())
    gateway.attach(app)
    app[GATEWAY], app[MEDIA] = gateway, media
    app[WHIP] = WhipSessions(service)
    app[NETTESTS] = NetTests(media)
    lock = app[LOCK] = lock_of(services, service.end_bindings)
    alone = FhircastSettings(sole_node=not settings.redis_url)
    fhircast = app[FHIRCAST_SERVICE] = FhircastService(
        services.database, services.store, bus, service, services.now_ms, alone
    )
    service.use_followers(fhircast.is_followed)
    office = app[OFFICE] = Office(desk, blobs, software(), institution="Consilium")
    snapshots = app[SNAPSHOTS] = Snapshots(desk, office.prints)
    service.use_archive(snapshots)
    hub_clock = start_clock(media.pool.clock_anchor_ns)
    hearts = app[HEARTS] = Hearts(desk, lambda consult, rate: service.heart_rate(ConsultId(consult), rate), hub_clock)
    feed = WaveformFeed(desk, services.store, services.tokens, hub_clock, services.arrivals)
    feed.attach(app)
    anchors = AnchorFile(settings.data_dir / ANCHORS)
    housekeeper = Housekeeper(services.database, anchors, services.now_ms)

    async def database_part(_app: web.Application) -> AsyncIterator[None]:
        await check_schema(services.database)
        await reindex(services.database)
        await lock.vault.open(services.database)
        yield
        await services.database.close()

    async def waveforms_part(_app: web.Application) -> AsyncIterator[None]:
        office.jobs.clear()
        await desk.start()
        hearts.start()
        yield
        await hearts.stop()
        await desk.stop()

    async def media_part(_app: web.Application) -> AsyncIterator[None]:
        check_media_ports(settings)
        try:
            await media.start()
        except MediaError as problem:
            raise StartError(Exit.MEDIA, f"The media worker does not start: {problem}.") from None
        port = media.pool.workers[0].port
        log.info("media ready", addresses=list(settings.media_addresses), port=port, workers=settings.media_workers)
        yield
        await media.stop()

    async def signalling_part(_app: web.Application) -> AsyncIterator[None]:
        await gateway.start()
        services.live.start(gateway)
        fhircast.start()
        await lock.start()
        yield
        await fhircast.stop()
        await services.live.stop()
        await app[WHIP].stop()
        await app[NETTESTS].stop()
        await gateway.stop()

    async def say_goodbye(_app: web.Application) -> None:
        # Before aiohttp waits for open connections: these would never end by themselves.
        await feed.stop()
        await fhircast.stop()
        await lock.stop()
        await gateway.stop()

    async def housekeeping_part(_app: web.Application) -> AsyncIterator[None]:
        housekeeper.start()
        yield
        await housekeeper.stop()

    app.cleanup_ctx.extend([database_part, waveforms_part, media_part, signalling_part, housekeeping_part])
    app.on_shutdown.append(say_goodbye)
    return app


def lock_of(services: Services, end_bindings: EndBindings | None = None) -> LockParts:
    """The hub's end of the lock.

    Raises:
        StartError: its key cannot be used.
    """
    settings = services.settings
    try:
        key = lock_key(settings.data_dir)
    except ValueError as problem:
        raise StartError(Exit.DATA_DIR, f"The lock's key cannot be used: {problem}.") from None
    return build_lock(
        services.database,
        key,
        settings.origins,
        apply_bundle,
        vault_of(settings),
        services.now_ms,
        server_clock_us(),
        end_bindings,
        settings.redis_url,
    )


def admit_with(tokens: ConsultTokens) -> VerifyToken:
    """The gateway's question, answered by identity: why a token is refused stays in our counters."""

    async def verify(token: str) -> Admission:
        try:
            admission = await tokens.accept(token)
        except TokenInvalid as problem:
            TOKENS.labels("refused").inc()
            raise Refusal(ErrorCode.TOKEN_INVALID, str(problem)) from None
        TOKENS.labels("accepted").inc()
        return admission

    return verify


def show_arrivals(arrivals: Arrivals) -> None:
    """The gauges of who is on the way in, read when they are asked for."""
    ARRIVALS.set_function(lambda: arrivals.under_way)
    ARRIVALS_BOUND.set_function(lambda: arrivals.bound)
    ARRIVALS_WAITING.set_function(lambda: arrivals.waiting)
    ARRIVALS_RATE.set_function(lambda: arrivals.rate_hz)


def check_media_ports(settings: Settings) -> None:
    """Take each media port for a moment: a worker could only say that it did not start.

    Raises:
        StartError: one is taken.
    """
    worker = worker_settings(settings)
    for port, protocol in itertools.product(settings.media_ports, worker.protocols):
        try:
            probe_port(protocol, worker.bind, port)
        except OSError as problem:
            many = f"{settings.media_workers} media workers need {port_range(settings)}. "
            raise StartError(
                Exit.PORT_IN_USE,
                f"The media port, {protocol.upper()} {port} on {worker.bind}, cannot be used: {problem.strerror}. "
                f"{many if settings.media_workers > 1 else ''}"
                "Stop what uses it, or choose another with CONSILIUM_MEDIA_PORT.",
            ) from None


def port_range(settings: Settings) -> str:
    """The media ports in words: ``8441`` or ``8441 to 8444``."""
    if not settings.media_port:
        return "any free port"
    first, last = settings.media_ports[0], settings.media_ports[-1]
    return str(first) if first == last else f"{first} to {last}"


def load_limits(settings: Settings) -> LoadLimits:
    """When a media worker is full."""
    return LoadLimits(
        consult=settings.media_full, participant=settings.media_crowded, loop_lag_ms=settings.media_loop_lag_ms
    )


def prepare_data_dir(path: Path) -> None:
    """Make the data folder and try to write in it.

    Raises:
        StartError: with what the administrator can do.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as problem:
        raise StartError(
            Exit.DATA_DIR,
            f"The data folder {path} cannot be written: {problem.strerror}. "
            "Choose another with --data-dir or CONSILIUM_DATA_DIR.",
        ) from None


async def open_database(settings: Settings) -> Database:
    """The database at this version's schema, for programs that run beside or before the server.

    Raises:
        StartError: it cannot be reached, or has the wrong schema.
    """
    prepare_data_dir(settings.data_dir)
    database = Database(settings.database)
    await check_schema(database)
    return database


async def check_schema(database: Database) -> None:
    """Bring a SQLite file up to date; of PostgreSQL only demand it, because other nodes may be running.

    Raises:
        StartError: unreachable, or not at this version's schema.
    """
    if database.is_sqlite:
        with database_errors():
            copy = await schema.upgrade(database)
        if copy is not None:
            log.info("database upgraded", copy=str(copy))
    await require_schema(database)


async def require_schema(database: Database) -> None:
    """Check, and change nothing.

    Raises:
        StartError: unreachable, or not at this version's schema.
    """
    if database.file is not None and not database.file.exists():
        raise StartError(Exit.DATABASE, f"There is no database {database.file}.")
    with database_errors():
        at = await schema.present(database)
    if at != schema.newest():
        raise StartError(
            Exit.DATABASE,
            f"The database is at schema {at or 'none'}, this version needs {schema.newest()}. "
            "Run `consilium db upgrade`.",
        )


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """What a database says when it cannot be used, as one sentence.

    Raises:
        StartError: instead of whatever the driver raised.
    """
    try:
        yield
    except (SQLAlchemyError, CommandError, OSError) as problem:
        raise StartError(Exit.DATABASE, f"The database cannot be used: {_reason(problem)}.") from None


def _reason(problem: Exception) -> str:
    original = getattr(problem, "orig", None) or problem
    return str(original).strip().splitlines()[0] if str(original).strip() else type(original).__name__


def build_services(settings: Settings, demo: DemoInfo | None) -> Services:
    """Everything behind the HTTP API.

    Raises:
        StartError: the signing key cannot be used.
    """
    now_ms = server_clock()
    database = Database(settings.database)
    store = SqlConsultStore(database)
    limits = SessionLimits(idle_ms=settings.session_idle_s * 1_000, length_ms=settings.session_length_s * 1_000)
    attempts = Attempts(settings.redis_url, now_ms)
    sessions = Sessions(database, Passwords(), attempts, limits, now_ms)
    walls, devices = Walls(database, now_ms), Devices(database)
    try:
        key = token_key(settings.data_dir)
    except (OSError, ValueError) as problem:
        raise StartError(Exit.DATA_DIR, f"The signing key cannot be used: {problem}.") from None
    tokens = ConsultTokens(key, database, sessions, walls, devices, now_ms)
    return Services(
        settings=settings,
        now_ms=now_ms,
        database=database,
        store=store,
        sessions=sessions,
        invites=Invites(database, limits, now_ms),
        walls=walls,
        devices=devices,
        tokens=tokens,
        live=LiveSessions(tokens),
        attempts=attempts,
        demo=demo,
    )


def worker_settings(settings: Settings) -> WorkerSettings:
    """How the media worker is started."""
    return WorkerSettings(
        addresses=settings.media_addresses,
        bind=media_bind(settings),
        port=settings.media_port,
        protocols=tuple(protocol for protocol in PROTOCOLS if protocol in settings.media_protocols),
        forward=settings.forward,
        first=settings.media_first,
        log_level=logging.getLogger().getEffectiveLevel(),  # the worker says as much as this process does
    )


def media_bind(settings: Settings) -> str:
    """The address media ports are bound to; ``::`` takes IPv4 too."""
    if settings.media_bind:
        return settings.media_bind
    versions = {ipaddress.ip_address(address).version for address in settings.media_addresses}
    if len(versions) == 1 and all(is_local(address) for address in settings.media_addresses):
        # Nobody else can reach these addresses: do not listen for anybody else.
        return "127.0.0.1" if versions == {4} else "::1"
    if len(settings.media_addresses) == 1 and _is_own(settings.media_addresses[0]):
        # Bound to all, the kernel chooses where answers come from, and browsers drop what comes from elsewhere.
        return settings.media_addresses[0]
    return "0.0.0.0" if versions == {4} else "::"  # noqa: S104 - peers authenticate by ICE and DTLS


def _is_own(address: str) -> bool:
    """One of this machine's network cards has the address: it is not one that a router passes on."""
    try:
        probe_port("udp", address, 0)
    except OSError:
        return False
    return True


def probe_port(protocol: Protocol, bind: str, port: int) -> None:
    """Take a port for a moment, as a media worker would.

    Raises:
        OSError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with contextlib.closing(socket.socket(family, kind)) as probe:
        if protocol == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bind != "::"))
        probe.bind((bind, port))
