"""The one connection out: dialled, proved at both ends, used, and dialled again.

Everything that matters is in the journal; a connection is only a way to empty it. Six tasks run on it under one owner,
and when any ends all end: reader, writer, the sender of crossings, the keeper of what comes in, the one that writes
acknowledgements down, and pings. Pauses between dials grow and are jittered, so that a hundred gateways
do not come back to a restarted hub in one second.

Numbering is `server.lock.core.link`, questions `asking.py`, words for people `sentences.py`.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version

import aiohttp
import structlog

from server.gateway.asking import Asking
from server.gateway.core.crossing import LockRefused, RefusalCode
from server.gateway.core.policy import Policy
from server.gateway.identity import Identity, only_to, reason_of
from server.gateway.journal import Journal, Stored
from server.gateway.sentences import SLOW, code_of, sentence
from server.lock.aio.pipe import Pipe, PipeClosed
from server.lock.core.clock import ClockOffset, is_suspect
from server.lock.core.link import Arrived, Receiver, Sender, Settled, parts_of
from server.lock.core.proof import gateway_statement, hub_statement, verified
from server.lock.core.wire import (
    FORMER,
    FRAME_BYTES,
    PART_BYTES,
    PATH,
    VERSION,
    Ack,
    Ask,
    Bye,
    Cancel,
    Challenge,
    Cross,
    Frame,
    Gap,
    Hello,
    Part,
    Ping,
    Pong,
    Proof,
    Welcome,
    WireError,
)

log = structlog.get_logger(__name__)

DIAL_S = 15.0
HANDSHAKE_S = 15.0
PING_S = 5.0
SILENT_S = 20.0
FIRST_PAUSE_S, LONGEST_PAUSE_S, SLOW_PAUSE_S = 0.5, 30.0, 60.0
STEADY_S = 30.0
"""A connection that lasted this long was a good one: the next pause starts small again."""
FULL_S = 1.0
READ_BYTES = 4 * 1024 * 1024
KEEP_QUEUE = 64
KEEP_BYTES = 16 * 1024 * 1024
"""Of what the hub sends, what may wait for this disk, or one crossing however large: the hub's window says the same."""
LOOK_S = 5.0
"""How often the journal is looked at without a hint: another process may have put something (`commands.resend`)."""
DRAIN_LOOK_S = 0.05
SOFTWARE = f"consilium {version('consilium')}"


class LinkEnded(Exception):
    """The connection is over; ``code`` is one of `sentences.CODES`."""

    def __init__(self, code: str, reason: str = "") -> None:
        super().__init__(f"{code}: {reason}" if reason else code)
        self.code = code
        self.reason = reason


@dataclass(slots=True)
class LinkState:
    """How the line is, for status and log."""

    code: str = "starting"
    reason: str = ""
    connected: bool = False
    since_us: int = 0
    attempts: int = 0
    offset_us: int | None = None
    renewals: int = 0

    @property
    def text(self) -> str:
        """For people."""
        said = sentence(self.code)
        return f"{said} ({self.reason})" if self.reason else said


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """The clocks a link lives by; tests bring their own."""

    now_us: Callable[[], int]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = field(default=random.random)


class Link:
    """Keeps this gateway connected as long as it runs.

    Args:
        changed: called when ``state`` has changed.
    """

    def __init__(
        self,
        identity: Identity,
        journal: Journal,
        asking: Asking,
        policy: Callable[[], Policy],
        timing: Timing,
        *,
        proxy: str | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.state = LinkState()
        self.instance = secrets.token_hex(12)
        self._identity, self._journal, self._asking, self._policy = identity, journal, asking, policy
        self._timing, self._proxy, self._changed = timing, proxy, changed
        self._current: _Connection | None = None

    async def run(self) -> None:
        """Dial, use, dial again; until cancelled, which says goodbye."""
        pause_s = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await self._once()
            except LinkEnded as ended:
                self._say(ended.code, ended.reason)
                if ended.code == "journal_behind":
                    await self._renew()
                    continue
                longest = SLOW_PAUSE_S if ended.code in SLOW else LONGEST_PAUSE_S
                if time.monotonic() - began > STEADY_S:
                    pause_s = FIRST_PAUSE_S
                if ended.code in SLOW:
                    pause_s = SLOW_PAUSE_S
                await self._timing.sleep(pause_s * (0.5 + self._timing.jitter()))
                pause_s = min(2 * pause_s, longest)

    async def drained(self, within_s: float) -> bool:
        """Wait until the hub has everything, as long as it is connected; whether it has."""
        with contextlib.suppress(TimeoutError, LockRefused):
            async with asyncio.timeout(within_s):
                while self.state.connected:
                    if not (await self._journal.level()).waiting:
                        return True
                    await self._timing.sleep(DRAIN_LOOK_S)
        return False

    async def _renew(self) -> None:
        self.state.renewals += 1
        try:
            await self._journal.renew_stream()
        except LockRefused as refused:
            self._say("journal", refused.reason)
            await self._timing.sleep(LONGEST_PAUSE_S)
        if self.state.renewals > 1:
            await self._timing.sleep(LONGEST_PAUSE_S * self._timing.jitter())

    async def _once(self) -> None:
        """One connection, from dialling to its end.

        Raises:
            LinkEnded: always.
        """
        self.state.attempts += 1
        tls = self._identity.tls()
        try:
            async with (
                aiohttp.ClientSession(middlewares=(only_to(self._identity.origin),)) as http,
                asyncio.timeout(None) as deadline,
            ):
                deadline.reschedule(asyncio.get_running_loop().time() + DIAL_S)
                socket = await http.ws_connect(
                    self._identity.origin + PATH,
                    ssl=tls if tls is not None else True,
                    proxy=self._proxy,
                    max_msg_size=FRAME_BYTES,
                    compress=0,
                    autoping=True,
                )
                deadline.reschedule(None)
                pipe = Pipe(socket)
                try:
                    await self._use(pipe)
                finally:
                    self.state.connected = False
                    await pipe.leave("stopping")
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            raise LinkEnded(code_of(problem), reason_of(problem)[:200]) from None
        except PipeClosed as closed:
            raise LinkEnded("lost", str(closed)) from None
        except LockRefused as refused:
            raise LinkEnded("journal", refused.reason) from None
        except WireError as wrong:
            raise LinkEnded("protocol", wrong.reason) from None

    async def _use(self, pipe: Pipe) -> None:
        level = await self._journal.level()
        async with asyncio.timeout(HANDSHAKE_S):
            welcome = await self._handshake(pipe, level.stream, level.last, level.settled)
            if not await self._journal.resume(welcome.up_to, welcome.mark):
                raise LinkEnded("journal_behind")
            if welcome.inward_reset:
                await self._journal.reset_inward()
            level = await self._journal.level()
        if welcome.up_to < level.settled:
            log.error("the hub has forgotten crossings", hub=welcome.up_to, gateway=level.settled)
        sender = Sender(
            up_to=welcome.up_to,
            settled=level.settled,
            window_count=welcome.window_count,
            window_bytes=welcome.window_bytes,
        )
        receiver = Receiver(up_to=level.inward_up_to, mark=level.inward_mark)
        self.state.connected, self.state.renewals = True, 0
        self._say("connected")
        connection = _Connection(
            pipe, sender, receiver, self._journal, self._asking, self._timing.now_us, self._clocked
        )
        await connection.run()

    async def _handshake(self, pipe: Pipe, stream: str, last: int, settled: int) -> Welcome:
        identity, level = self._identity, await self._journal.level()
        hello = Hello(
            versions=(VERSION,), gateway=identity.gateway, instance=self.instance, origin=identity.origin,
            stream=stream, last=last, settled=settled, nonce=secrets.token_bytes(32), now_us=self._timing.now_us(),
            policy=self._policy().fingerprint, software=SOFTWARE,
        )  # fmt: skip
        hello_bytes = await pipe.send_now(hello)
        challenge, challenge_bytes = await pipe.read()
        if isinstance(challenge, Bye):
            raise LinkEnded(challenge.code, challenge.reason)
        if not isinstance(challenge, Challenge) or challenge.version != VERSION:
            raise WireError("Challenge then")
        statement = hub_statement(hello_bytes, challenge.nonce, challenge.now_us)
        if not verified(identity.hub_key, challenge.signature, statement):
            raise LinkEnded("hub_unproved")
        signature = identity.key.sign(
            gateway_statement(hello_bytes, challenge_bytes, level.inward_up_to, level.inward_mark)
        )
        await pipe.send_now(Proof(up_to=level.inward_up_to, mark=level.inward_mark, signature=signature))
        welcome, _data = await pipe.read()
        if isinstance(welcome, Bye):
            raise LinkEnded(welcome.code, welcome.reason)
        if not isinstance(welcome, Welcome):
            raise WireError("Welcome then")
        return welcome

    def _clocked(self, clock: ClockOffset) -> None:
        best = clock.best
        self.state.offset_us = None if best is None else best.offset_us
        if is_suspect(best):
            assert best is not None, "an unknown offset is not suspect"
            said = sentence("clock", seconds=round(best.offset_us / 1e6, 1))
            if self.state.reason != said:
                log.warning(said)
            self.state.reason = said
        elif self.state.connected:
            self.state.reason = ""
        self._changed()

    def _say(self, code: str, reason: str = "") -> None:
        if (code, reason) != (self.state.code, self.state.reason):
            log.warning(sentence(code), reason=reason) if code != "connected" else log.info(sentence(code))
        self.state.code, self.state.reason = code, reason
        self.state.since_us = self._timing.now_us()
        self._changed()


class _Connection:
    """One connection after its handshake."""

    def __init__(
        self,
        pipe: Pipe,
        sender: Sender,
        receiver: Receiver,
        journal: Journal,
        asking: Asking,
        now_us: Callable[[], int],
        clocked: Callable[[ClockOffset], None],
    ) -> None:
        self._pipe, self._sender, self._receiver = pipe, sender, receiver
        self._journal, self._asking, self._now_us, self._clocked = journal, asking, now_us, clocked
        self._clock = ClockOffset()
        self._heard = asyncio.Event()
        self._window_moved = asyncio.Event()
        self._settled: list[Settled] = []
        self._settled_hint = asyncio.Event()
        self._sent: dict[int, int] = {}
        self._arrived: asyncio.Queue[Arrived | Gap] = asyncio.Queue(KEEP_QUEUE + 1)
        self._arrived_bytes = 0

    async def run(self) -> None:
        """Until it ends.

        Raises:
            LinkEnded, PipeClosed, WireError: how it ended.
        """
        works = (self._pipe.write(), self._read(), self._send(), self._settle(), self._keep(), self._ping())
        tasks = [asyncio.ensure_future(work) for work in (*works, self._silence())]
        try:
            done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._asking.close()
        problem = next(problem for task in done if (problem := task.exception()) is not None)
        raise problem

    async def _read(self) -> None:
        while True:
            frame, _data = await self._pipe.read()
            self._heard.set()
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        match frame:
            case Ask():
                self._asking.take(self._pipe, frame)
            case Cancel():
                self._asking.cancel(frame.id)
            case Ack():
                self._settled.extend(self._sender.take(frame.first, frame.items))
                self._settled_hint.set()
                self._window_moved.set()
            case Cross() | Part() | Gap():
                arrived = self._receiver.take(frame, self._now_us())
                if arrived is not None:
                    self._arrive(arrived)
            case Ping():
                self._pipe.say(Pong(at_us=frame.at_us, now_us=self._now_us()))
            case Pong():
                self._clock.take(sent_us=frame.at_us, other_us=frame.now_us, returned_us=self._now_us())
                self._clocked(self._clock)
            case Bye():
                raise LinkEnded(frame.code, frame.reason)
            case _:
                raise WireError(f"{type(frame).__name__} now")

    def _arrive(self, arrived: Arrived | Gap) -> None:
        size = arrived.frame.size if isinstance(arrived, Arrived) else 0
        if self._arrived.full() or (self._arrived_bytes and self._arrived_bytes + size > KEEP_BYTES):
            raise WireError("beyond the window")
        self._arrived_bytes += size
        self._arrived.put_nowait(arrived)

    async def _send(self) -> None:
        while True:
            self._journal.put_event.clear()
            found = await self._journal.read(self._sender.next, max_bytes=READ_BYTES)
            if not found:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._journal.put_event.wait()
                continue
            for one in found:
                await self._send_one(one)

    async def _send_one(self, one: Stored | Gap) -> None:
        size = len(one.crossing.body) if isinstance(one, Stored) else 0
        while not self._sender.may_send(size):
            self._window_moved.clear()
            await self._window_moved.wait()
        if isinstance(one, Gap):
            self._sender.sent(one.last, 0)
            await self._pipe.carry(one)
            return
        at_us = self._sent[one.sequence] = self._now_us()
        self._sender.sent(one.sequence, size)
        crossing = one.crossing
        about = crossing.about + tuple((FORMER, gateway) for gateway in one.formers)
        head = Cross(
            sequence=one.sequence, source=one.source, kind=crossing.kind, key=crossing.key, patient=crossing.patient,
            about=about, media_type=crossing.media_type, made_us=crossing.made_us, received_us=one.received_us,
            journaled_us=one.journaled_us, sent_us=at_us, size=size, digest=one.digest, mark=one.mark,
            body=crossing.body[:PART_BYTES],
        )  # fmt: skip
        await self._pipe.carry(head)
        for part in parts_of(one.sequence, crossing.body):
            await self._pipe.carry(part)

    async def _settle(self) -> None:
        while True:
            await self._settled_hint.wait()
            self._settled_hint.clear()
            settled, self._settled = self._settled, []
            sent_again = await self._journal.settle(settled, self._now_us(), self._sent)
            if sent_again:
                log.info("sent again, since their patient is known now", count=sent_again)
            for one in settled:
                self._sent.pop(one.sequence, None)
                if one.verdict not in ("applied", "repeated"):
                    log.error("not taken by the hub", sequence=one.sequence, verdict=one.verdict, code_=one.code)

    async def _keep(self) -> None:
        while True:
            arrived = await self._arrived.get()
            received_us = arrived.received_us if isinstance(arrived, Arrived) else self._now_us()
            await self._keep_one(arrived)
            self._arrived_bytes -= arrived.frame.size if isinstance(arrived, Arrived) else 0
            first, last = (arrived.first, arrived.last) if isinstance(arrived, Gap) else (arrived.frame.sequence,) * 2
            item = ("inside", "", received_us, self._now_us())
            self._pipe.say(Ack(first=first, items=(item,) * (last - first + 1)))

    async def _keep_one(self, arrived: Arrived | Gap) -> None:
        """Keep it, or wait until systems here have taken something: unacknowledged, the hub's window closes."""
        told = False
        while True:
            try:
                return await self._journal.keep_inward(arrived)
            except LockRefused as refused:
                if refused.code is not RefusalCode.FULL:
                    raise
                if not told:
                    log.warning("no room for what the hub sends", reason=refused.reason)
                told = True
                await asyncio.sleep(FULL_S)

    async def _ping(self) -> None:
        while True:
            self._pipe.say(Ping(at_us=self._now_us()))
            await asyncio.sleep(PING_S)

    async def _silence(self) -> None:
        while True:
            self._heard.clear()
            try:
                async with asyncio.timeout(SILENT_S):
                    await self._heard.wait()
            except TimeoutError:
                raise PipeClosed("silent") from None
