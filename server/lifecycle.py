"""Run the application on a port until somebody says stop.

The port is taken first: an address in use must be told at once, not after a
media worker has started. First signal: readiness goes, no consult begins any more, people
in running consults are told, and these get ``drain_s`` to end. Second signal: sockets hear goodbye now.
The next one: no ceremony. SIGHUP: media workers are replaced, each when its last consult has ended.
"""

import asyncio
import contextlib
import errno
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from media.aio.scheduling import give_way
from media.core.control import MediaError
from media.core.precedence import Policy
from server.api.services import SERVICES, DemoInfo
from server.app import GATEWAY, MEDIA, build_app
from server.exits import Exit, StartError
from server.garbage import GarbageKeeper
from server.media_plane import WorkerMediaPlane
from server.metrics import ASYNCIO_TASKS, MEDIA_FIRST, OUTBOX_FULLEST, SOCKETS, WRITES_WAITING
from server.settings import Settings
from server.tls import AuthorityFiles, CertificateWatch, server_context
from server.trust import build_trust_app

log = structlog.get_logger(__name__)

BACKLOG = 512
REQUESTS_S = 10.0
"""What requests under way get once sockets have heard goodbye."""
TASKS_EVERY_S = 10.0
"""Between counts of tasks: each walks all of them."""


def free_port(host: str = "127.0.0.1", wanted: int = 0) -> int:
    """``wanted`` if it is free, else any free port."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), contextlib.closing(_bound(host, port)) as probe:
            return int(probe.getsockname()[1])
    raise StartError(Exit.PORT_IN_USE, f"No free port on {host}.")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        StartError: the port is taken, or the address is not this machine's.
    """
    try:
        sock = _bound(host, port)
        sock.listen(BACKLOG)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            raise StartError(
                Exit.PORT_IN_USE,
                f"Port {port} on {host} is in use by another program. "
                "Stop it, or choose another with --port or CONSILIUM_PORT.",
            ) from None
        raise StartError(Exit.PORT_IN_USE, f"Cannot listen on {host} port {port}: {problem.strerror}.") from None
    return sock


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as problem:
        raise StartError(Exit.SETTINGS, f"{host} is not an address of this machine: {problem.strerror}.") from None
    sock = socket.socket(family, kind, proto)
    try:
        # A restarted server must not wait for the old one's closed connections.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.asynccontextmanager
async def serving(settings: Settings, demo: DemoInfo | None = None) -> AsyncIterator[web.Application]:
    """The server, ready for the length of the block.

    Raises:
        StartError: a port, a certificate, the data folder, the database or the media worker cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        tls = await _tls(settings, stack)
        sock = stack.enter_context(contextlib.closing(listen(settings.host, settings.port)))
        app = build_app(settings, demo)
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=REQUESTS_S)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.SockSite(runner, sock, ssl_context=tls).start()
        await _start_metrics(settings, stack, app)
        await _start_trust_page(settings, stack)
        state = app[SERVICES].state
        state.ready = True
        log.info("ready", origin=settings.main_origin)
        try:
            yield app
        finally:
            state.stopping = True
            log.info("stopping")


async def run(settings: Settings, demo: DemoInfo | None = None) -> None:
    """Serve until SIGINT or SIGTERM, and then until the running consults have ended or their time is over."""
    with stop_signals() as stop:
        async with serving(settings, demo) as app, _renewing_workers(app):
            garbage = GarbageKeeper(lambda: not app[GATEWAY].sessions)
            garbage.start()
            if settings.media_first:
                let_media_go_first(app[MEDIA])
            try:
                await stop.wait()
                await _drain(app, settings.drain_s, stop)
            finally:
                garbage.stop()


def let_media_go_first(media: WorkerMediaPlane) -> None:
    """For good: nothing of this is given back. So only a process that does nothing but serve may do it."""
    now = give_way(but=[media.pool.spawner_thread])
    MEDIA_FIRST.set(now.policy is Policy.BATCH)
    log.info("media goes first", policy=str(now.policy), nice=now.nice, session_nice=now.session_nice)


async def _drain(app: web.Application, at_most_s: float, stop: "StopSignals") -> None:
    services, gateway = app[SERVICES], app[GATEWAY]
    services.state.stopping = True
    if not gateway.running:
        return
    log.info("draining", consults=gateway.running, at_most_s=at_most_s)
    quiet = asyncio.create_task(gateway.drain(services.now_ms() + round(at_most_s * 1_000)), name="drain")
    hurry = asyncio.create_task(stop.hurry.wait(), name="hurry")
    try:
        with stop.draining():
            await asyncio.wait({quiet, hurry}, timeout=at_most_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        quiet.cancel()
        hurry.cancel()
        await asyncio.gather(quiet, hurry, return_exceptions=True)
    log.info("drained", consults=gateway.running)


@contextlib.asynccontextmanager
async def _renewing_workers(app: web.Application) -> AsyncIterator[None]:
    """SIGHUP replaces the media workers without a consult noticing; a second one while that goes on changes nothing."""
    loop = asyncio.get_running_loop()
    renewal: asyncio.Task[None] | None = None

    async def renew() -> None:
        log.info("media workers are replaced as they run empty")
        try:
            await app[MEDIA].renew_workers()
        except (MediaError, TimeoutError) as problem:
            log.error("media workers not replaced", reason=str(problem) or type(problem).__name__)
        else:
            log.info("media workers replaced")

    def on_hangup() -> None:
        nonlocal renewal
        if renewal is None or renewal.done():
            renewal = asyncio.create_task(renew(), name="renew-workers")

    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        if renewal is not None:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)


async def _tls(settings: Settings, stack: contextlib.AsyncExitStack) -> ssl.SSLContext | None:
    """The TLS context, watched for a renewed certificate."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    context = server_context(settings.tls_cert_file, settings.tls_key_file)
    watch = CertificateWatch(context, settings.tls_cert_file, settings.tls_key_file)
    watch.start()
    stack.push_async_callback(watch.stop)
    return context


class StopSignals(asyncio.Event):
    """Set by the first SIGINT or SIGTERM."""

    def __init__(self) -> None:
        super().__init__()
        self.hurry = asyncio.Event()
        """Set by the next one, if it comes while consults are waited for."""
        self._is_draining = False

    @contextlib.contextmanager
    def draining(self) -> Iterator[None]:
        """While consults are waited for, a signal ends the wait and not the process."""
        self._is_draining = True
        try:
            yield
        finally:
            self._is_draining = False

    def next(self) -> bool:
        """Take in a signal; False when there is nothing left to hurry."""
        if not self.is_set():
            self.set()
        elif self._is_draining and not self.hurry.is_set():
            self.hurry.set()
        else:
            return False
        return True


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """SIGINT and SIGTERM as events; when these are used up the next signal ends the process without ceremony."""
    loop, stop = asyncio.get_running_loop(), StopSignals()

    def on_signal(number: signal.Signals) -> None:
        if not stop.next():
            log.warning("stopped without ceremony")
            for one in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(one)
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _start_metrics(settings: Settings, stack: contextlib.AsyncExitStack, served: web.Application) -> None:
    """``/metrics`` on an address of its own, so that a firewall can tell it from the rest."""
    if settings.metrics_port is None:
        return
    app = web.Application()
    app.router.add_get("/metrics", Scraped(served).answer)
    await _start_plain(app, settings.metrics_host, settings.metrics_port, stack)


async def _start_trust_page(settings: Settings, stack: contextlib.AsyncExitStack) -> None:
    """Where machines get the local authority's certificate, if there is one."""
    ca_file = AuthorityFiles(folder=settings.data_dir / "tls").ca_cert
    if settings.trust_port is None:
        return
    if not ca_file.exists():
        raise StartError(Exit.TLS, "trust_port is set, but there is no local authority. Run `consilium ca` first.")
    await _start_plain(build_trust_app(ca_file, settings.main_origin), settings.host, settings.trust_port, stack)


async def _start_plain(app: web.Application, host: str, port: int, stack: contextlib.AsyncExitStack) -> None:
    sock = stack.enter_context(contextlib.closing(listen(host, port)))
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    await web.SockSite(runner, sock).start()


class Scraped:
    """``/metrics``: what is looked up only when somebody asks."""

    def __init__(self, served: web.Application) -> None:
        self._gateway, self._writes = served[GATEWAY], served[SERVICES].database.at_once
        self._counted_s = -TASKS_EVERY_S

    async def answer(self, _request: web.Request) -> web.Response:
        """All metrics of this process."""
        SOCKETS.set(self._gateway.sessions)
        OUTBOX_FULLEST.set(self._gateway.fullest_outbox)
        WRITES_WAITING.set(self._writes.waiting)
        now_s = asyncio.get_running_loop().time()
        if now_s - self._counted_s >= TASKS_EVERY_S:
            self._counted_s = now_s
            ASYNCIO_TASKS.set(len(asyncio.all_tasks()))
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
