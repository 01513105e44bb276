"""One connection: an ordered inbox worked off by one task, and a bounded outbox.

python-socketio would run one client's handlers side by side; here a client's
commands take effect, and are answered, in the order in which they were sent.
[SE1] A client that asks faster than it is served is told ``too_busy`` at once.

Who the others are is ``attendance.py``; the socket itself is ``gateway.py``.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from signaling.aio.outbox import Outbox
from signaling.core.admission import Admission
from signaling.core.bucket import TokenBucket
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.frames import encode_ack, encode_event
from signaling.core.messages import COMMANDS, AnyCommand, Goodbye, RefusalBody
from signaling.core.model import Value

log = logging.getLogger(__name__)

Execute = Callable[["Session", AnyCommand], Awaitable[Value]]


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionLimits:
    """How much one connection may ask for and leave unread."""

    commands_hz: float = 50.0
    """A lead who scrolls and points sends about 40 a second."""
    commands_burst: int = 100
    """A join with a full room: two Transports and 40 consumers at once."""
    inbox: int = 100
    outbox: int = 256
    """Events and answers; about a minute of a lively consult."""
    command_timeout_s: float = 20.0
    """Longer than any wait inside, so that this only ever ends a bug."""


class Session:
    """One socket of one participant.

    Args:
        admission: what the token said.
        send_now: puts a frame on the wire if that needs no waiting; whether it did.
        send: puts a frame on the wire; returns when there is room for the next.
        execute: carries out one command.
        finished: called once, when a goodbye was said: the gateway flushes and closes.
        now_s: monotonic clock.
    """

    def __init__(
        self,
        admission: Admission,
        send_now: Callable[[bytes], bool],
        send: Callable[[bytes], Awaitable[None]],
        execute: Execute,
        finished: Callable[[], None],
        now_s: Callable[[], float],
        limits: SessionLimits,
    ) -> None:
        self.admission = admission
        self.goodbye_reason: str | None = None
        self.hears = True
        self.finished = False
        """A goodbye was said."""
        self.too_busy = 0
        self._execute = execute
        self._when_finished = finished
        self._now_s = now_s
        self._limits = limits
        self._bucket = TokenBucket(limits.commands_hz, limits.commands_burst)
        self._inbox: deque[tuple[int, dict[str, Any]]] = deque()
        self._outbox = Outbox(send_now, send, limits.outbox, lambda: self.goodbye("too_slow"))
        self._answering = False
        self._held: list[bytes] | None = None
        self._stopped = False
        self._worker: asyncio.Task[None] | None = None
        """Works off the inbox; None when it is empty."""

    async def stop(self) -> None:
        """End what is under way, and begin nothing more; idempotent."""
        self._stopped = True
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            (outcome,) = await asyncio.gather(worker, return_exceptions=True)
            if isinstance(outcome, Exception):
                log.error("session task failed", exc_info=outcome)
        try:
            await self._outbox.stop()
        except (
            Exception
        ):  # the socket is gone; what its sender met says why, and must not keep the loss from being told
            log.exception("session task failed")

    async def answered(self) -> None:
        """Wait until no command is being carried out; after `goodbye` there is one at most."""
        if self._worker is not None:
            await asyncio.wait([self._worker])

    async def flushed(self, timeout_s: float) -> None:
        """Wait until the goodbye is on the wire, at most ``timeout_s``."""
        await self._outbox.flushed(timeout_s)

    @property
    def pending(self) -> int:
        """Frames that wait for the socket."""
        return len(self._outbox)

    def receive(self, ack_id: int, payload: dict[str, Any]) -> bool:
        """Take a command without waiting.

        Returns:
            False when it was answered with ``too_busy``.
        """
        if self._bucket.take(self._now_s()) and len(self._inbox) < self._limits.inbox:
            self._inbox.append((ack_id, payload))
            if self._worker is None and not self._stopped:
                self._worker = asyncio.create_task(self._work())
            return True
        self.too_busy += 1
        self._answer(ack_id, _refused(Refusal(ErrorCode.TOO_BUSY)))
        return False

    def deliver(self, frame: bytes, key: str | None = None) -> None:
        """Send an event, or with ``key`` a signal."""
        if self._held is not None and key is None:
            self._held.append(frame)
        else:
            self._outbox.offer(frame, key)

    def hold_events(self) -> None:
        """Keep events back until the running command (``join``) is answered: its snapshot comes first. [CO2]"""
        self._held = []

    def goodbye(self, reason: str, *, at_once: bool = False) -> None:
        """Say why, then close; the first reason stands. Who asked for the end still hears the answer first.

        Args:
            at_once: not even the answer to a running command is owed any more.
        """
        if self.goodbye_reason is None:
            self.goodbye_reason = reason
        elif not at_once:
            return
        if at_once or not self._answering or reason not in ("ended", "removed"):
            self._farewell()

    def _farewell(self) -> None:
        if not self.finished:
            self.finished = True
            goodbye = Goodbye.model_validate({"reason": self.goodbye_reason})
            self._outbox.finish(encode_event("signal", goodbye.model_dump(mode="json")))
            self._when_finished()

    async def _work(self) -> None:
        while self._inbox:
            ack_id, payload = self._inbox.popleft()
            if self.goodbye_reason is not None:
                return  # what was still queued has no effect
            self._answering = True
            self._answer(ack_id, await self._carry_out(payload))
            self._answering = False
            held, self._held = self._held, None
            for frame in held or ():
                self._outbox.offer(frame)
            if self.goodbye_reason is not None:
                self._farewell()
        self._worker = None

    async def _carry_out(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The acknowledgement; never raises, so that no client waits for ever. [SE2]"""
        try:
            command = COMMANDS.validate_python(payload)
        except (ValidationError, RecursionError):
            return _refused(Refusal(ErrorCode.MALFORMED))
        try:
            async with asyncio.timeout(self._limits.command_timeout_s):
                result = await self._execute(self, command)
        except Refusal as refusal:
            return _refused(refusal)
        except Exception:  # a bug in one command must end neither the session nor the asker's wait
            log.exception("command failed", extra={"command": command.type, "consult": self.admission.consult})
            return _refused(Refusal(ErrorCode.INTERNAL))
        return {"ok": True, "result": result.model_dump(mode="json")}

    def _answer(self, ack_id: int, ack: dict[str, Any]) -> None:
        self._outbox.offer(encode_ack(ack_id, ack))


def _refused(refusal: Refusal) -> dict[str, Any]:
    body = RefusalBody(code=refusal.code.value, en=refusal.en, zh=refusal.zh)
    return {"ok": False, "refusal": body.model_dump(mode="json")}
