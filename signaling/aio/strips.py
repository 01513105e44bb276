"""Strips of a trace, from the order to the word of how it ended. [EC5] (W33)

An order is lasting before it is answered; 10 s of the strip are still to come then. What a process did not bring to
its end the next one takes up.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Sequence

from signaling.aio.audience import Audience
from signaling.aio.changes import Changes
from signaling.aio.this_node import ThisNode
from signaling.core import ecg
from signaling.core.admission import Admission
from signaling.core.case import Case
from signaling.core.consult import NOTHING_KNOWN, handle
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.messages import SnapshotOrdered, TakeEcgSnapshot
from signaling.core.ports import SnapshotOrder, WaveformArchive

log = logging.getLogger(__name__)


class Strips:
    """Orders of strips, and their outcomes."""

    def __init__(self, node: ThisNode, changes: Changes) -> None:
        self._node = node
        self._changes = changes
        self._archive: WaveformArchive | None = None

    def use(self, archive: WaveformArchive) -> None:
        """Keep strips here; without, they are refused."""
        self._archive = archive

    def start(self) -> None:
        """Take up what an earlier process did not bring to its end."""
        if self._archive is not None:
            self._node.spawn(self._resume(self._archive))

    async def order(self, audience: Audience, actor: Admission, command: TakeEcgSnapshot) -> SnapshotOrdered:
        """Have a strip taken.

        Raises:
            Refusal: the rules', the archive's, or ``archive_unavailable``.
        """
        handle(audience.state, actor, command, self._node.now_ms())
        if self._archive is None:
            raise Refusal(ErrorCode.ARCHIVE_UNAVAILABLE)
        case = Case(audience.state, actor, NOTHING_KNOWN, self._node.now_ms())
        order = ecg.snapshot_order(case, command, secrets.token_hex(8))
        try:
            async with self._node.store_time():
                await self._archive.order_snapshot(order)
        except TimeoutError:
            raise Refusal(ErrorCode.ARCHIVE_UNAVAILABLE, "archive did not answer in time") from None
        self._node.spawn(self._keep(self._archive, audience, order))
        return SnapshotOrdered(snapshot=order.id)

    async def _keep(self, archive: WaveformArchive, audience: Audience, order: SnapshotOrder) -> None:
        """Tell everyone how it ended, once the 10 s after are in."""
        changes, now_ms = self._changes, self._node.now_ms
        code = ErrorCode.INTERNAL
        try:
            async with asyncio.timeout(self._node.settings.strip_s):
                stored = await archive.snapshot_stored(order.id)
        except TimeoutError:
            code = ErrorCode.ARCHIVE_UNAVAILABLE
        except Refusal as refusal:
            code = refusal.code
        except Exception:  # whatever went wrong in the archive, whoever asked must hear that there is no strip
            log.exception("strip failed", extra={"consult": order.consult})
        else:
            await changes.insist(audience, lambda state: ecg.snapshot_taken(state, stored, now_ms()))
            return
        with contextlib.suppress(Exception):  # taken up again at the next start, then
            async with self._node.store_time():
                await archive.snapshot_failed(order.id, code.value)
        await changes.insist(audience, lambda state: ecg.snapshot_failed(state, order.id, order.by, code, now_ms()))

    async def _resume(self, archive: WaveformArchive) -> None:
        settings = self._node.settings
        if not settings.sole_node:
            await asyncio.sleep(settings.strip_s)  # by then another node's are done
        since_ms = self._node.now_ms() - (0 if settings.sole_node else int(settings.strip_s * 1000))
        for order in await self._unfinished(archive):
            if order.at_ms > since_ms:
                continue
            audience = await self._node.heard_or_not(order.consult)
            if audience is not None:
                await self._keep(archive, audience, order)

    async def _unfinished(self, archive: WaveformArchive) -> Sequence[SnapshotOrder]:
        while True:
            try:
                async with self._node.store_time():
                    return await archive.unfinished()
            except Exception as error:  # whatever the archive's trouble is, the orders are not forgotten
                log.warning("strips put off", extra={"error": type(error).__name__})
            await asyncio.sleep(self._node.settings.retry_s)
