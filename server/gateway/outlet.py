"""The way out for one adapter: policy first, then the journal; every refusal is logged without content."""

import asyncio
from collections.abc import Callable

import structlog

from server.gateway.core.crossing import Crossing, LockRefused, Receipt, check_crossing
from server.gateway.core.policy import Policy
from server.gateway.journal import Journal
from server.lock.core.wire import OUTCOME_SOURCE

log = structlog.get_logger(__name__)

IN_THREAD_BYTES = 64 * 1024
"""Larger bodies are filtered in a thread: a document of megabytes must not hold up other adapters' answers."""


class JournalOutlet:
    """`server.gateway.core.crossing.Outlet` of one adapter.

    Args:
        policy: asked at each crossing, because a running gateway may take over another one.
    """

    def __init__(self, source: str, journal: Journal, policy: Callable[[], Policy], now_us: Callable[[], int]) -> None:
        assert source != OUTCOME_SOURCE, "the lock's own source"
        self._source, self._journal, self._policy, self._now_us = source, journal, policy, now_us
        self._is_tight = False

    async def put(self, crossing: Crossing) -> Receipt:
        """See `Outlet.put`.

        Raises:
            LockRefused: with a stable code; it is in the crossing log.
        """
        received_us = self._now_us()
        try:
            check_crossing(crossing)
            admitted = await self._admitted(crossing)
            receipt = await self._journal.put(self._source, admitted, received_us=received_us)
        except LockRefused as refused:
            log.warning("crossing refused", source=self._source, code_=refused.code.value)
            await self._note(crossing, refused)
            raise
        if receipt.almost_full != self._is_tight:
            self._is_tight = receipt.almost_full
            log.warning("journal almost full" if self._is_tight else "journal has room again", source=self._source)
        return receipt

    async def _admitted(self, crossing: Crossing) -> Crossing:
        decide = self._policy().outward
        if len(crossing.body) <= IN_THREAD_BYTES:
            return decide(self._source, crossing).crossing
        return (await asyncio.to_thread(decide, self._source, crossing)).crossing

    async def _note(self, crossing: Crossing, refused: LockRefused) -> None:
        try:
            await self._journal.note_refusal("out", self._source, crossing.kind, refused.code.value, refused.reason)
        except LockRefused:
            # The disk takes nothing now; the source heard its refusal, and the program's log has it.
            log.error("refusal not written down", source=self._source, code_=refused.code.value)
