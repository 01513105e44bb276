"""Questions of the hub, answered from inside or refused: the gateway decides again by the hospital's policy.

Each is a task that ends when its answer is sent, its time is up, the hub cancels it (the consult ended) or the
connection goes. That it was asked is in the journal before the answer leaves, at the same time as the hospital's
server is asked, so the log costs the doctor no wait. What is answered is filtered field by field and kept nowhere.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

from server.decimals import text_of
from server.gateway.adapters.bugs import where
from server.gateway.core.crossing import LockRefused
from server.gateway.core.policy import Policy
from server.gateway.core.responder import QueryCode, QueryFailed, RecordAnswer, RecordQuery, Responder
from server.gateway.journal import Journal
from server.gateway.sealing import SealingKeys
from server.lock.aio.pipe import Pipe, PipeClosed
from server.lock.core.answers import answer_frames, refusal_frame
from server.lock.core.wire import MAX_TEXT, Ask

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 64
MINUTE_NS = 60 * 10**9


class Asking:
    """Answers questions of one connection; `close` ends those under way.

    Args:
        responder: None where the hospital has no FHIR server: every question is then ``unavailable``.
    """

    def __init__(
        self,
        journal: Journal,
        keys: SealingKeys,
        responder: Responder | None,
        policy: Callable[[], Policy],
        now_us: Callable[[], int],
    ) -> None:
        self._journal, self._keys, self._responder = journal, keys, responder
        self._policy, self._now_us = policy, now_us
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._recent: deque[int] = deque()
        self._notes: set[asyncio.Task[None]] = set()

    def take(self, pipe: Pipe, ask: Ask) -> None:
        """Begin to answer."""
        if ask.id in self._tasks or len(self._tasks) >= MOST_AT_ONCE:
            pipe.say(refusal_frame(ask.id, QueryCode.BUSY.value))
            return
        task = asyncio.create_task(self._answer(pipe, ask), name="lock-question")
        self._tasks[ask.id] = task
        task.add_done_callback(lambda _task: self._tasks.pop(ask.id, None))

    def cancel(self, id_: int) -> None:
        """The hub wants no answer any more. [LK22]"""
        task = self._tasks.get(id_)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """End everything that is under way, and finish what is to be written down."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._notes, return_exceptions=True)

    async def _answer(self, pipe: Pipe, ask: Ask) -> None:
        began = time.monotonic_ns()
        row: int | None = None
        code, count, size = "", 0, 0
        noting = asyncio.create_task(self._journal.note_question(**self._row(ask)))
        try:
            try:
                async with asyncio.timeout(ask.timeout_ms / 1_000):
                    answer = await self._ask(ask)
                    body = self._body(ask, answer)
                    row = noting.result() if noting.done() else await asyncio.shield(noting)
            except TimeoutError:
                raise QueryFailed(QueryCode.TIMED_OUT) from None
            except LockRefused:
                # What is not on record is not answered.
                raise QueryFailed(QueryCode.UNAVAILABLE, "the journal cannot be written") from None
            for frame in answer_frames(ask.id, body[0], count=body[1], next_page=answer.next_page):
                await pipe.answer(frame)
            count, size = body[1], len(body[0])
        except QueryFailed as failed:
            code = failed.code.value
            log.info("question not answered", type=ask.type, code_=code, reason=failed.reason)
            pipe.say(refusal_frame(ask.id, code))
        except asyncio.CancelledError:
            code = QueryCode.CANCELLED.value
            raise
        except PipeClosed:
            code = QueryCode.CANCELLED.value
        except Exception as problem:  # a responder's own mistake must not end the line, nor keep the doctor waiting
            log.error("question broke", problem=type(problem).__name__, where=where(problem))
            code = QueryCode.UNAVAILABLE.value
            pipe.say(refusal_frame(ask.id, code))
        finally:
            took_us = (time.monotonic_ns() - began) // 1_000
            self._later(self._note(noting, row, code, count, size, took_us))

    async def _ask(self, ask: Ask) -> RecordAnswer:
        policy = self._policy()
        query = RecordQuery(
            type=ask.type, resource_id=ask.resource_id or None, params=ask.params, patient=ask.patient,
            max_bytes=ask.max_bytes, max_count=ask.max_count, page=ask.page,
        )  # fmt: skip
        allowed = policy.question(query, role=ask.role, organisation=ask.organisation, purpose=ask.purpose)
        self._count(policy)
        if self._responder is None:
            raise QueryFailed(QueryCode.UNAVAILABLE, "no FHIR server inside")
        return await self._responder.answer(allowed)

    def _count(self, policy: Policy) -> None:
        questions = policy.file.questions
        assert questions is not None, "the policy has allowed it"
        now = time.monotonic_ns()
        while self._recent and now - self._recent[0] > MINUTE_NS:
            self._recent.popleft()
        if len(self._recent) >= questions.per_minute or len(self._tasks) > questions.at_once:
            raise QueryFailed(QueryCode.BUSY)
        self._recent.append(now)

    def _body(self, ask: Ask, answer: RecordAnswer) -> tuple[bytes, int]:
        """What may cross of the answer, as FHIR JSON, and how many resources: nothing that was not asked for. [LK21]"""
        policy = self._policy()
        questions = policy.file.questions
        asked = [one for one in answer.resources if _is_asked(ask, one)]
        kept = [one for resource in asked if (one := policy.answer(resource)) is not None]
        most = min(ask.max_count, questions.max_count if questions else 0)
        if len(kept) > most or len(answer.next_page) > MAX_TEXT or not answer.next_page.isprintable():
            raise QueryFailed(QueryCode.TOO_LARGE, "more than was asked for")
        if ask.resource_id:
            if not kept:
                raise QueryFailed(QueryCode.NOT_FOUND)
            value: object = kept[0]
        else:
            entries = [{"resource": one, "search": {"mode": "match"}} for one in kept]
            value = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
        try:
            body = text_of(value).encode()
        except ValueError:  # NaN, or half a surrogate pair: read as JSON, and not to be written
            raise QueryFailed(QueryCode.MALFORMED) from None
        if len(body) > min(ask.max_bytes, questions.max_bytes if questions else 0):
            raise QueryFailed(QueryCode.TOO_LARGE)
        return body, len(kept)

    def _row(self, ask: Ask) -> dict[str, object]:
        patient = self._keys.fingerprint("\n".join(f"{system}|{value}" for system, value in ask.patient).encode())
        return {
            "at_us": self._now_us(), "consult": ask.consult, "type": ask.type, "role": ask.role,
            "organisation": ask.organisation, "purpose": ask.purpose, "patient_mac": patient,
        }  # fmt: skip

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _note(
        self, noting: asyncio.Task[int], row: int | None, code: str, count: int, size: int, took_us: int
    ) -> None:
        try:
            row = await noting if row is None else row
            await self._journal.note_answer(row, code=code, count=count, size=size, took_us=took_us)
        except LockRefused as refused:
            log.error("end of a question not written down", code_=refused.code.value)


def _is_asked(ask: Ask, resource: Mapping[str, object]) -> bool:
    """A responder answers for a server that may send more than it was asked for."""
    if resource.get("resourceType") != ask.type:
        return False
    return not ask.resource_id or resource.get("id") == ask.resource_id
