"""One connection of one gateway at the hub: after it was let in, until it ends.

Four tasks under one owner: a reader that checks and sorts frames, a writer, the inbox worker that commits crossings in
order and acknowledges them, and the sender of what goes into the hospital. Any of them ending ends all; what was not
acknowledged comes again on the next connection. Letting in is `admission.py`; who is connected is `desk.py`.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from server.gateway.core.crossing import is_identifier
from server.gateway.core.responder import QueryCode, QueryFailed
from server.gateway.sealing import NotAuthentic
from server.lock.aio.inbox import Fenced, From, Inbox, Verdict
from server.lock.aio.outbox import DAMAGED, Content, content_of, give_up_damaged, next_out, outbox_inside
from server.lock.aio.pipe import Pipe, PipeClosed
from server.lock.aio.vault import KeyAway, Vault
from server.lock.core.answers import Answers, WholeAnswer
from server.lock.core.clock import ClockOffset
from server.lock.core.link import Arrived, Receiver, Sender, Settled, parts_of
from server.lock.core.wire import (
    MAX_ITEMS,
    PART_BYTES,
    Ack,
    Answer,
    AnswerPart,
    Ask,
    Bye,
    Cancel,
    Cross,
    Frame,
    Gap,
    Part,
    Ping,
    Pong,
    WireError,
    decode,
    encode,
)
from server.storage.database import Database
from server.storage.lock_tables import GatewayRow, LockOutbox

log = structlog.get_logger(__name__)

WINDOW_COUNT = 64
WINDOW_BYTES = 16 * 1024 * 1024
PING_S = 10.0
SILENT_S = 25.0
"""A gateway says something at least every five seconds."""
LOOK_S = 5.0
"""How often the outbox is looked at without a hint: another node may have queued something."""
QUESTIONS = 32
"""Under way to one gateway."""
OUT_BATCH = 8
LATE_S = 1.0
"""More than the gateway was given, before its silence counts as none."""


class Ended(Exception):
    """The connection ends; ``code`` is what the other end hears."""

    def __init__(self, code: str, reason: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason


class LockSession:
    """A gateway that was let in.

    Args:
        origin: as it was admitted; ``sequence`` and ``source`` are not used.
        settled: what the gateway knows to be settled; what lies beyond is told again first. [LK13]
    """

    def __init__(
        self,
        pipe: Pipe,
        origin: From,
        instance: str,
        receiver: Receiver,
        sender: Sender,
        inbox: Inbox,
        vault: Vault,
        database: Database,
        now_us: Callable[[], int],
        settled: int,
    ) -> None:
        self.origin, self.instance, self._known = origin, instance, settled
        self.outbox_hint = asyncio.Event()
        self.ended = asyncio.Event()
        self._pipe, self._receiver, self._sender = pipe, receiver, sender
        self._inbox, self._vault, self._database, self._now_us = inbox, vault, database, now_us
        self._arrived: asyncio.Queue[Arrived | Gap] = asyncio.Queue(WINDOW_COUNT + 1)
        self._arrived_bytes = 0
        self._answers = Answers()
        self._waiting: dict[int, asyncio.Future[WholeAnswer]] = {}
        self._last_question = 0
        self._clock = ClockOffset()
        self._heard = asyncio.Event()
        self._ponged = asyncio.Event()
        self._window_moved = asyncio.Event()
        self._settled: list[Settled] = []
        self._settled_hint = asyncio.Event()
        self._over: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    def end(self, code: str, reason: str = "") -> None:
        """End the connection from outside: revoked, replaced, stopping."""
        if not self._over.done():
            self._over.set_result(Ended(code, reason))

    @property
    def offset_us(self) -> int | None:
        """The gateway's clock minus ours."""
        best = self._clock.best
        return None if best is None else best.offset_us

    async def answers_ping(self, within_s: float) -> bool:
        """Whether the other end is really there."""
        self._ponged.clear()
        try:
            self._pipe.say(Ping(at_us=self._now_us()))
            async with asyncio.timeout(within_s):
                await self._ponged.wait()
        except (PipeClosed, TimeoutError):
            return False
        return not self.ended.is_set()

    async def ask(self, question: Ask) -> WholeAnswer:
        """Ask the hospital; ``question.id`` is given here.

        Cancelling the call tells the gateway, which then stops asking inside. [LK22]

        Raises:
            QueryFailed: with the gateway's code, or ``busy``, ``timed_out``, ``unavailable``, ``malformed``.
        """
        if self.ended.is_set():
            raise QueryFailed(QueryCode.UNAVAILABLE)
        if len(self._waiting) >= QUESTIONS:
            raise QueryFailed(QueryCode.BUSY)
        self._last_question += 1
        id_ = self._last_question
        numbered = _checked(dataclasses.replace(question, id=id_))
        future: asyncio.Future[WholeAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[id_] = future
        self._answers.asked(id_, question.max_bytes)
        try:
            self._pipe.say(numbered)
            async with asyncio.timeout(question.timeout_ms / 1_000 + LATE_S):
                return await future
        except PipeClosed:
            raise QueryFailed(QueryCode.UNAVAILABLE) from None
        except TimeoutError:
            raise QueryFailed(QueryCode.TIMED_OUT) from None
        finally:
            self._answers.forget(id_)
            self._waiting.pop(id_, None)
            if not future.done() or future.cancelled():
                with contextlib.suppress(PipeClosed):
                    self._pipe.say(Cancel(id=id_))

    async def run(self) -> Ended:
        """Serve until it ends; says goodbye itself."""
        tasks = [
            asyncio.create_task(work, name=f"lock-{name}-{self.origin.gateway}")
            for name, work in (
                ("write", self._pipe.write()),
                ("read", self._read()),
                ("commit", self._commit()),
                ("send", self._send()),
                ("note", self._note()),
                ("ping", self._ping()),
                ("silence", self._silence()),
            )
        ]
        try:
            over: list[asyncio.Future[Any]] = [*tasks, self._over]
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
            ended = self._over.result() if self._over.done() else _why(tasks)
        finally:
            self.ended.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(QueryFailed(QueryCode.UNAVAILABLE))
        await self._pipe.leave(ended.code, ended.reason)
        return ended

    # ------------------------------------------------------------ tasks

    async def _read(self) -> None:
        while True:
            frame, _data = await self._pipe.read()
            self._heard.set()
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        match frame:
            case Cross() | Part() | Gap():
                self._arrive(self._receiver.take(frame, self._now_us()))
            case Answer() | AnswerPart():
                self._answered(self._answers.take(frame))
            case Ack():
                self._acknowledged(frame)
            case Ping():
                self._pipe.say(Pong(at_us=frame.at_us, now_us=self._now_us()))
            case Pong():
                self._clock.take(sent_us=frame.at_us, other_us=frame.now_us, returned_us=self._now_us())
                self._ponged.set()
            case Bye():
                raise PipeClosed(f"the gateway left: {frame.code}")
            case _:
                raise WireError(f"{type(frame).__name__} now")

    def _arrive(self, arrived: Arrived | Gap | None) -> None:
        if arrived is None:
            return
        size = arrived.frame.size if isinstance(arrived, Arrived) else 0
        if self._arrived.full() or (self._arrived_bytes and self._arrived_bytes + size > WINDOW_BYTES):
            raise WireError("beyond the window")
        self._arrived_bytes += size
        self._arrived.put_nowait(arrived)

    def _answered(self, answer: WholeAnswer | None) -> None:
        future = None if answer is None else self._waiting.get(answer.id)
        if answer is None or future is None or future.done():
            return
        if answer.code:
            code = answer.code if answer.code in set(QueryCode) else QueryCode.UNAVAILABLE
            future.set_exception(QueryFailed(QueryCode(code)))
        else:
            future.set_result(answer)

    async def _commit(self) -> None:
        while told := await self._inbox.verdicts(self.origin.gateway, self.origin.stream, self._known, MAX_ITEMS):
            self.acknowledge(self._known + 1, told)
            self._known += len(told)
        while True:
            arrived = await self._arrived.get()
            if isinstance(arrived, Gap):
                first, verdicts = arrived.first, await self._inbox.commit_gap(self.origin, arrived)
            else:
                frame = arrived.frame
                origin = _of(self.origin, frame)
                first, verdicts = frame.sequence, [await self._inbox.commit(origin, arrived)]
                self._arrived_bytes -= frame.size
            self.acknowledge(first, verdicts)

    def acknowledge(self, first: int, verdicts: list[Verdict]) -> None:
        """Tell what was committed. [LK12]"""
        for start in range(0, len(verdicts), MAX_ITEMS):
            self._pipe.say(Ack(first=first + start, items=tuple(verdicts[start : start + MAX_ITEMS])))

    async def _send(self) -> None:
        while True:
            self.outbox_hint.clear()
            async with self._database.read() as session:
                rows = await next_out(session, self.origin.gateway, self._sender.next, OUT_BATCH)
            for row in rows:
                await self._send_one(row)
            if not rows:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self.outbox_hint.wait()

    async def _send_one(self, row: LockOutbox) -> None:
        while not self._sender.may_send(row.size_bytes):
            self._window_moved.clear()
            await self._window_moved.wait()
        content = await self._content(row)
        if not isinstance(content, Content):
            self._sender.sent(row.sequence, 0)
            await self._pipe.carry(Gap(first=row.sequence, last=row.sequence, code=content, mark=row.mark))
            return
        key = (LockOutbox.gateway_id == row.gateway_id, LockOutbox.sequence == row.sequence)
        at_us = self._now_us()
        async with self._database.write() as session:
            await session.execute(update(LockOutbox).where(*key).values(sent_us=at_us))
        self._sender.sent(row.sequence, row.size_bytes)
        head = Cross(
            sequence=row.sequence, source=row.source, kind=row.kind, key=row.key,
            patient=content.patient, about=content.about, media_type=row.media_type, made_us=row.made_us,
            received_us=row.queued_us, journaled_us=row.queued_us, sent_us=at_us, size=row.size_bytes,
            digest=hashlib.sha256(content.body).digest(), mark=row.mark, body=content.body[:PART_BYTES],
        )  # fmt: skip
        await self._pipe.carry(head)
        for part in parts_of(row.sequence, content.body):
            await self._pipe.carry(part)

    async def _content(self, row: LockOutbox) -> Content | str:
        """What is to be sent, or the code of the gap in its place. [LK14]"""
        try:
            async with self._database.read() as session:
                return await content_of(session, self._vault, row.gateway_id, row.sequence) or "settled"
        except KeyAway:
            raise  # it waits until the key is back
        except NotAuthentic:
            log.error("what waits for a hospital is damaged", gateway=row.gateway_id, sequence=row.sequence)
        async with self._database.write() as session:
            await give_up_damaged(session, row.gateway_id, row.sequence)
        return DAMAGED

    def _acknowledged(self, frame: Ack) -> None:
        settled = self._sender.take(frame.first, frame.items)
        self._window_moved.set()
        self._settled.extend(settled)
        self._settled_hint.set()

    async def _note(self) -> None:
        """Write down what the gateway has; what is lost of it on a cut, the next handshake says (`outbox_inside`)."""
        while True:
            await self._settled_hint.wait()
            self._settled_hint.clear()
            settled, self._settled = self._settled, []
            async with self._database.write() as session:
                for one in settled:
                    await session.execute(
                        update(LockOutbox)
                        .where(
                            LockOutbox.gateway_id == self.origin.gateway,
                            LockOutbox.sequence == one.sequence,
                            LockOutbox.state == "waiting",
                        )
                        .values(state="inside", gateway_committed_us=one.committed_us)
                    )
                await outbox_inside(session, self.origin.gateway, settled[-1].sequence)

    async def _ping(self) -> None:
        while True:
            self._pipe.say(Ping(at_us=self._now_us()))
            await asyncio.sleep(PING_S)
            async with self._database.write() as session:
                mine = await session.execute(
                    update(GatewayRow)
                    .where(
                        GatewayRow.id == self.origin.gateway,
                        GatewayRow.connection == self.origin.connection,
                        GatewayRow.revoked_at_ms.is_(None),
                    )
                    .values(seen_at_ms=self._now_us() // 1_000, offset_us=self.offset_us)
                    .returning(GatewayRow.id)
                )
                if mine.one_or_none() is None:
                    raise Fenced  # another process of this hub has revoked it, or let another connection in

    async def _silence(self) -> None:
        while True:
            self._heard.clear()
            try:
                async with asyncio.timeout(SILENT_S):
                    await self._heard.wait()
            except TimeoutError:
                raise PipeClosed("silent") from None


def _why(tasks: list[asyncio.Task[None]]) -> Ended:
    """Of the tasks that ended, what to tell the gateway."""
    problem = next((task.exception() for task in tasks if task.done() and not task.cancelled()), None)
    match problem:
        case WireError():
            return Ended("protocol", problem.reason)
        case Fenced():
            return Ended("replaced")
        case PipeClosed():
            return Ended("", str(problem))
        case SQLAlchemyError() | OSError():
            return Ended("unavailable")
        case KeyAway():
            log.error("what waits for a hospital cannot be opened", key=problem.key)
            return Ended("unavailable")
        case _:
            log.error("lock session broke", exc_info=problem)
            return Ended("unavailable")


def _checked(question: Ask) -> Ask:
    """A question that the other end can read: one that it cannot would end the line for everybody.

    Raises:
        QueryFailed: ``malformed``, or ``not_found`` where no identifier is left that could be carried.
    """
    known = tuple(pair for pair in question.patient if is_identifier(*pair))
    if not known:
        raise QueryFailed(QueryCode.NOT_FOUND)
    question = dataclasses.replace(question, patient=known)
    try:
        decode(encode(question))
    except WireError:
        raise QueryFailed(QueryCode.MALFORMED, "question") from None
    return question


def _of(origin: From, frame: Cross) -> From:
    return dataclasses.replace(origin, sequence=frame.sequence, source=frame.source)
