"""Network tests: a media path of one's own for two minutes, without a consult.

A person who is about to consult wants to know whether their network lets media through. A test that looks at
anything but the real thing gives wrong comfort, so this one gives the page a Router on the same worker, port and
addresses as a consult, through the same calls: a sending and a receiving Transport whose only Producer comes back to
whoever sent it. Signalling knows nothing of it: there is no consult, no patient, nobody else, nothing stored.

Bounds: one test per credential (a second replaces the first), so many at once in all, so many calls each, and an end
that comes by itself. What a caller may do is ``server.api.nettest``.
"""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, TypeAdapter

from signaling.core import messages as m
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.model import JsonObject
from signaling.core.ports import MediaPlane

LIFE_S = 120.0
"""Five steps of at most eight seconds, one of them for each TURN address, and a person who hesitates."""
CALLS = 60
AT_ONCE = 16
MEDIA_TIMEOUT_S = 10.0

TestCommand = Annotated[
    m.CreateTransport | m.ConnectTransport | m.Produce | m.Consume | m.ResumeConsumer | m.ProduceData,
    Field(discriminator="type"),
]
COMMANDS: TypeAdapter[TestCommand] = TypeAdapter(TestCommand)


def _somebody() -> ParticipantId:
    """Who a test belongs to: an owner of its own each time, since TURN servers count allocations by user name."""
    return ParticipantId(f"tester-{secrets.token_urlsafe(9)}")


@dataclass(slots=True)
class _Running:
    router: ConsultId
    end: asyncio.Task[None]
    owner: ParticipantId = field(default_factory=_somebody)
    calls: int = 0


class NetTests:
    """The tests that run on this node.

    Args:
        life_s: after which a test is closed, whoever still uses it.
    """

    def __init__(self, media: MediaPlane, life_s: float = LIFE_S, at_once: int = AT_ONCE) -> None:
        self._media = media
        self._life_s = life_s
        self._at_once = at_once
        self._running: dict[str, _Running] = {}
        """By credential."""
        self._endings: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """Tests that are open now."""
        return len(self._running)

    async def open(self, who: str) -> JsonObject:
        """Begin a test; one that ran before ends.

        Returns:
            The router's RTP capabilities.

        Raises:
            Refusal: ``too_busy``, ``conflict`` when it was ended or replaced while it began, or what the media plane
                says.
        """
        self._retire(who)
        if len(self._running) >= self._at_once:
            raise Refusal(ErrorCode.TOO_BUSY, "too many network tests")
        router = ConsultId(f"nettest:{secrets.token_urlsafe(9)}")
        mine = self._running[who] = _Running(router, asyncio.create_task(self._end_later(who, router)))
        try:
            async with asyncio.timeout(MEDIA_TIMEOUT_S):
                capabilities = await self._media.open(router)
        except BaseException as error:
            self._undo(who, mine)
            if isinstance(error, TimeoutError):
                raise Refusal(ErrorCode.MEDIA_UNAVAILABLE) from None
            raise
        if self._running.get(who) is not mine:
            self._undo(who, mine)
            raise Refusal(ErrorCode.CONFLICT, "this network test was ended while it began")
        return capabilities

    async def call(self, who: str, command: TestCommand) -> m.MediaResult:
        """Carry out one media command of a test.

        Raises:
            Refusal: ``not_found`` without a test, ``too_busy`` after too many calls, ``not_allowed``, or the media
                plane's own.
        """
        test = self._running.get(who)
        if test is None:
            raise Refusal(ErrorCode.NOT_FOUND)
        test.calls += 1
        if test.calls > CALLS:
            raise Refusal(ErrorCode.TOO_BUSY, "too many calls in one network test")
        if isinstance(command, m.ProduceData) and (command.label != "ctl" or command.waveform is not None):
            raise Refusal(ErrorCode.NOT_ALLOWED, "a network test sends no waveforms")
        try:
            async with asyncio.timeout(MEDIA_TIMEOUT_S):
                return await self._media.call(test.router, test.owner, command)
        except TimeoutError:
            raise Refusal(ErrorCode.MEDIA_UNAVAILABLE) from None

    def close(self, who: str) -> None:
        """The person is done; idempotent."""
        self._retire(who)

    async def stop(self) -> None:
        """End every test."""
        for who in list(self._running):
            self._retire(who)
        await asyncio.gather(*self._endings, return_exceptions=True)

    async def _end_later(self, who: str, router: ConsultId) -> None:
        await asyncio.sleep(self._life_s)
        test = self._running.get(who)
        if test is not None and test.router == router:
            del self._running[who]
        await self._close(router)

    def _retire(self, who: str) -> None:
        test = self._running.pop(who, None)
        if test is None:
            return
        test.end.cancel()
        self._end(test.router)

    def _undo(self, who: str, mine: _Running) -> None:
        """Close a test that did not begin, and no other that this person has begun meanwhile."""
        if self._running.get(who) is mine:
            self._retire(who)
        else:
            self._end(mine.router)  # again: the first time there may have been nothing to close yet

    def _end(self, router: ConsultId) -> None:
        ending = asyncio.create_task(self._close(router))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _close(self, router: ConsultId) -> None:
        # A media plane that does not answer is replaced, and forgets the Router with everything else.
        with contextlib.suppress(Refusal, TimeoutError):
            async with asyncio.timeout(MEDIA_TIMEOUT_S):
                await self._media.close(router)
