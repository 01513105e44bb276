"""The beat of each consult: what the store has is fetched first, so that a beat vouches for the state. (W19)

When the store cannot be reached no beat is sent, and the clinical views blank themselves.
"""

import asyncio
import logging

from signaling.aio.audience import BEAT_PARTS, Audience
from signaling.aio.changes import Changes
from signaling.aio.this_node import ThisNode
from signaling.core.ids import PatientId
from signaling.core.surnames import namesakes

log = logging.getLogger(__name__)


class Beats:
    """All beats of this node."""

    def __init__(self, node: ThisNode, changes: Changes) -> None:
        self._node = node
        self._changes = changes
        self._task: asyncio.Task[None] | None = None
        self._comparing = False
        """Family names are being asked for."""
        self._surnames: dict[PatientId, frozenset[str]] = {}
        """Of who is open now."""

    def start(self) -> None:
        """Begin to beat."""
        self._task = asyncio.create_task(self._beat_forever())

    async def stop(self) -> None:
        """Beat no more; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _beat_forever(self) -> None:
        """Each consult at its own moment of the interval: the beats of hundreds at once would hold up the loop.

        None waits for another's store. One that is still waiting for its own has no beat, and so vouches for nothing.
        """
        loop, part_s = asyncio.get_running_loop(), self._node.settings.beat_s / BEAT_PARTS
        due_s, part = loop.time(), 0
        while True:
            due_s = max(due_s + part_s, loop.time())
            await asyncio.sleep(due_s - loop.time())
            part = (part + 1) % BEAT_PARTS
            if part == 0 and not self._comparing:
                self._comparing = True
                self._node.spawn(self._find_namesakes())
            for audience in self._node.audiences.values():
                if audience.beats_at == part and not audience.refreshing:
                    audience.refreshing = True
                    self._node.spawn(self._refresh(audience))

    async def _refresh(self, audience: Audience) -> None:
        try:
            async with asyncio.timeout(self._node.settings.beat_s):
                await self._changes.catch_up(audience)
                await self._changes.expire(audience)
        except Exception as error:  # any store failure means the same: what we know may be old, so do not vouch for it
            log.warning("no beat", extra={"consult": audience.state.id, "error": type(error).__name__})
        else:
            self._node.beat(audience)
        finally:
            audience.refreshing = False

    async def _find_namesakes(self) -> None:
        """[SN1] (W25) While the store cannot be asked, what was known before counts."""
        node = self._node
        shown = {a.state.id: a.state.context.patient.id for a in node.audiences.values() if a.state.context}
        try:
            async with node.store_time():
                if not node.settings.sole_node and shown:
                    shown = {**await node.store.shown_elsewhere(), **shown}
                for patient in set(shown.values()) - self._surnames.keys():
                    self._surnames[patient] = await node.store.surnames(patient)
        except Exception as error:  # whatever the store's trouble is: a beat does not wait for this
            log.warning("family names put off", extra={"error": type(error).__name__})
            return
        finally:
            self._comparing = False
        self._surnames = {patient: self._surnames[patient] for patient in shown.values()}
        node.namesakes = frozenset(namesakes(shown, self._surnames))
