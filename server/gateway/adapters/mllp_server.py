"""HL7 v2 over MLLP into the gateway: one message, one crossing, one acknowledgement, in this order.

AA leaves only after `Outlet.put` has returned, so a sender that has its AA may forget the message, and one that has
none sends it again under the same control id; the journal knows it by its key and the answer is the same.

Bounds: connections, bytes of a message (`framing.Deframer`), time from a message's first byte to its last, time a
connection may be silent, time an answer may take to be read, time the journal may take. Messages of one connection are
handled one after another and nothing is read ahead, so a full queue slows its sender down.
"""

import asyncio
import contextlib
import ipaddress
import itertools
import secrets
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from server.gateway.adapters import counts
from server.gateway.adapters.bugs import where
from server.gateway.adapters.keepalive import keep_alive
from server.gateway.adapters.waveform_spool import WaveformRoutes, WaveformSpool, is_waveform
from server.gateway.core.crossing import LockRefused, Outlet, RefusalCode
from server.gateway.hl7v2.acks import ReplyTo, replies, reply_to, reply_to_bytes
from server.gateway.hl7v2.convert import Converted, convert
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.framing import Cut, Deframer, Flaw, Framed, frame
from server.gateway.hl7v2.message import Message, parse
from server.gateway.hl7v2.profile import Profile

log = structlog.get_logger(__name__)

READ_BYTES: Final = 64 * 1024
IN_THREAD_BYTES: Final = 64 * 1024
"""Longer messages are parsed in a thread: a report of megabytes would hold up every other connection."""

_REFUSALS: Final = {
    RefusalCode.NOT_ALLOWED: Hl7Code.NOT_ALLOWED,
    RefusalCode.FULL: Hl7Code.FULL,
    RefusalCode.MALFORMED: Hl7Code.VALUE,
    RefusalCode.TOO_LARGE: Hl7Code.TOO_LARGE,
    RefusalCode.UNAVAILABLE: Hl7Code.UNAVAILABLE,
    RefusalCode.KEY_REUSED: Hl7Code.KEY_REUSED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MllpListen:
    """Where and how much."""

    name: str
    host: str
    """An address inside the hospital; never a public one."""
    port: int
    peers: tuple[str, ...] = ()
    """Addresses or networks that may connect; empty: all that reach the port."""
    tls: ssl.SSLContext | None = None
    max_message_bytes: int = 8 * 1024 * 1024
    """A PDF of 6 MB in base64."""
    max_connections: int = 64
    message_s: float = 60
    """From the first byte of a message to its last."""
    idle_s: float = 24 * 3600
    """Interfaces stay connected over a quiet night; a dead peer is found by TCP keep-alive."""
    answer_s: float = 30
    put_s: float = 30
    waveforms: WaveformRoutes | None = None
    """Where results with samples go instead of the record; None: they are taken as results without their samples."""


@dataclass(slots=True)
class _Session:
    """One connection."""

    writer: asyncio.StreamWriter
    told: set[str] = field(default_factory=set)
    """Refusals already logged for it: one line each, however many messages."""


class MllpServer:
    """See the module.

    Args:
        now: the wall clock, for MSH-7 of answers.
    """

    def __init__(
        self, listen: MllpListen, profile: Profile, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.name = listen.name
        self.port = listen.port
        """Where it listens; known once `listening` is set, if 0 was asked for."""
        self.listening = asyncio.Event()
        self._listen, self._profile, self._now = listen, profile, now
        self._networks = tuple(ipaddress.ip_network(peer, strict=False) for peer in listen.peers)
        self._spool = None if listen.waveforms is None else WaveformSpool(listen.waveforms)
        self._sessions: set[asyncio.Task[None]] = set()
        self._is_full = False
        self._ids = _control_ids()

    async def run(self, outlet: Outlet) -> None:
        """See `Adapter`.

        Raises:
            OSError: the address or a folder for waveforms cannot be used.
        """
        if self._spool is not None:
            await asyncio.to_thread(self._spool.prepare)

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._session(reader, writer, outlet), name=f"{self.name}-session")
            self._sessions.add(task)
            task.add_done_callback(self._sessions.discard)

        server = await asyncio.start_server(
            connected, self._listen.host, self._listen.port, ssl=self._listen.tls, limit=READ_BYTES
        )
        self.port = server.sockets[0].getsockname()[1]
        self.listening.set()
        try:
            await (asyncio.Event().wait() if self._spool is None else self._spool.keep())
        finally:
            self.listening.clear()
            server.close()
            for task in list(self._sessions):
                task.cancel()
            await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, outlet: Outlet) -> None:
        result = "closed"
        try:
            if not self._admitted(writer):
                result = "refused"
                return
            keep_alive(writer)
            result = await self._messages(reader, _Session(writer), outlet)
        except (TimeoutError, OSError):
            result = "lost"
        finally:
            counts.CONNECTIONS.labels(self.name, result).inc()
            writer.close()
            with contextlib.suppress(TimeoutError, OSError):
                await asyncio.wait_for(writer.wait_closed(), 5)

    def _admitted(self, writer: asyncio.StreamWriter) -> bool:
        if len(self._sessions) > self._listen.max_connections:
            if not self._is_full:  # one line for each time that it fills up, however many knock
                self._is_full = True
                log.warning("interface has no free connection", adapter=self.name, limit=self._listen.max_connections)
            return False
        self._is_full = False
        peer = writer.get_extra_info("peername")
        if not self._networks:
            return True
        address = ipaddress.ip_address(peer[0].partition("%")[0])
        return any(address in network for network in self._networks)

    async def _messages(self, reader: asyncio.StreamReader, session: _Session, outlet: Outlet) -> str:
        deframer = Deframer(self._listen.max_message_bytes)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._listen.idle_s
        while True:
            begun = deframer.inside
            try:
                async with asyncio.timeout_at(deadline):
                    data = await reader.read(READ_BYTES)
            except TimeoutError:
                return "slow" if begun else "idle"
            before = dict(deframer.flaws)
            for found in deframer.feed(data) if data else deframer.end():
                await self._handle(found, session, outlet)
                begun = False
            self._count_flaws(before, deframer.flaws)
            if not data:
                return "closed"
            if not deframer.inside:
                deadline = loop.time() + self._listen.idle_s
            elif not begun:
                deadline = loop.time() + self._listen.message_s

    def _count_flaws(self, before: dict[Flaw, int], after: dict[Flaw, int]) -> None:
        for flaw, times in after.items():
            if times > before[flaw]:
                counts.TOLERATED.labels(self.name, f"frame_{flaw.value}").inc(times - before[flaw])

    async def _handle(self, found: Framed | Cut, session: _Session, outlet: Outlet) -> None:
        """One message to its acknowledgement."""
        to, problem = ReplyTo(), None
        try:
            if isinstance(found, Cut):
                to = reply_to_bytes(found.head)
                raise Hl7Refused(Hl7Code.TOO_LARGE if found.flaw is Flaw.TOO_LARGE else Hl7Code.NOT_HL7)
            to = reply_to_bytes(found.body)
            message = await self._parsed(found.body)
            to = reply_to(message)
            if self._spool is not None and is_waveform(message):
                await self._spool.take(message, found.body)
                counts.TAKEN.labels(self.name, "live waveform").inc()
            else:
                await self._put(await self._converted(message, len(found.body)), outlet)
        except Hl7Refused as refused:
            problem = refused
        except Exception as bug:
            # Our own bug must not cost the hospital its interface: the sender keeps the message. Where it was, without
            # the text of the error, which may quote a patient's data (G8).
            log.error("message could not be handled", adapter=self.name, error=type(bug).__name__, where=where(bug))
            problem = Hl7Refused(Hl7Code.INTERNAL)
        if problem is not None:
            self._tell(problem, session)
        await self._answer(replies(to, problem, now=self._now(), ids=self._ids), session)

    async def _parsed(self, body: bytes) -> Message:
        if len(body) <= IN_THREAD_BYTES:
            return parse(body, default_charset=self._profile.charset)
        return await asyncio.to_thread(parse, body, default_charset=self._profile.charset)

    async def _converted(self, message: Message, size_bytes: int) -> Converted:
        try:
            if size_bytes <= IN_THREAD_BYTES:
                return convert(message, self._profile)
            return await asyncio.to_thread(convert, message, self._profile)
        finally:
            counts.tolerated(self.name, message.seen)

    async def _put(self, converted: Converted, outlet: Outlet) -> None:
        try:
            async with asyncio.timeout(self._listen.put_s):
                receipt = await outlet.put(converted.crossing())
        except LockRefused as refused:
            raise Hl7Refused(_REFUSALS[refused.code]) from None
        except TimeoutError:
            raise Hl7Refused(Hl7Code.UNAVAILABLE) from None
        counts.TAKEN.labels(self.name, converted.kind).inc()
        if receipt.repeated:
            counts.REPEATED.labels(self.name).inc()

    def _tell(self, problem: Hl7Refused, session: _Session) -> None:
        counts.REFUSED.labels(self.name, problem.code.value).inc()
        if problem.code.value not in session.told:
            session.told.add(problem.code.value)
            log.warning("message refused", adapter=self.name, reason=problem.code.value, place=problem.place)

    async def _answer(self, answers: list[bytes], session: _Session) -> None:
        for answer in answers:
            session.writer.write(frame(answer))
        async with asyncio.timeout(self._listen.answer_s):
            await session.writer.drain()


def _control_ids() -> Iterator[str]:
    """Unique over restarts: a random start, then counting."""
    start = secrets.token_hex(5).upper()
    return (f"{start}{number:08d}" for number in itertools.count(1))
