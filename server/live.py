"""Open sockets whose right to be there has ended: they end too.

A consult token is looked at once, when its socket connects; the socket may then
live for hours. What the right rests on can end meanwhile: a sign-out, a closed
account, a membership taken back, a display taken off its screen. Whoever ends a
right in this process says so (`revoked`) and its sockets end at once. What ends
anywhere else, on another node or in the database, is found by looking at every
open right again every few seconds: a hint may be lost, the database may not.
Spread over the time there is, one after the other and with thousands a few at a time: with a hundred viewers all at
once would be half a second in which every page turn waits for the database.

Time alone ends nobody here: a session that has run out of its shift or was idle
opens no new socket, but a doctor in a running consult is not thrown out of it (G3).
"""

import asyncio
from collections.abc import Collection
from functools import partial

import structlog
from sqlalchemy.exc import SQLAlchemyError

from server.identity.aio.tokens import ConsultTokens, grant_of
from signaling.aio.gateway import SignalingGateway
from signaling.core.admission import Admission

log = structlog.get_logger(__name__)

EVERY_S = 10.0
PAUSE_S = 0.1
"""At most, between two looks."""
LEAST_PAUSE_S = 0.02
"""At least: with more than two hundred and fifty rights each look is at several."""


class LiveSessions:
    """Between identity, which knows rights, and the gateway, which has the sockets; one task."""

    def __init__(self, tokens: ConsultTokens) -> None:
        self._tokens = tokens
        self._gateway: SignalingGateway | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, gateway: SignalingGateway) -> None:
        """Watch over this gateway's sockets."""
        self._gateway = gateway
        self._task = asyncio.create_task(self._run(), name="live-sessions")

    async def stop(self) -> None:
        """Idempotent."""
        task, self._task = self._task, None
        self._gateway = None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def revoked(self, kind: str, credentials: Collection[str]) -> None:
        """End what rests on these credentials (hashes) of one kind of principal."""
        if self._gateway is not None:
            over = {grant_of(kind, credential) for credential in credentials}
            self._gateway.drop(lambda admission: admission.grant in over)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S / 2)
            try:
                await self._look_again()
            except (SQLAlchemyError, OSError):
                # Without the store there are no beats either, and clinical views blank themselves (W19).
                log.exception("rights could not be looked at again")

    async def _look_again(self) -> None:
        if self._gateway is None:
            return
        admissions = self._gateway.admissions
        together = 1 + int(len(admissions) * LEAST_PAUSE_S / (EVERY_S / 2))
        for first in range(0, len(admissions), together):
            looked_at = admissions[first : first + together]
            good = await asyncio.gather(*map(self._tokens.still_good, looked_at))
            over = [one for one, is_good in zip(looked_at, good, strict=True) if not is_good]
            if over and self._gateway is not None:
                log.info("sessions ended with their right", consults=[one.consult for one in over])
                self._gateway.drop(partial(_is_one_of, frozenset(map(id, over))))
            await asyncio.sleep(min(PAUSE_S, EVERY_S / 2 * together / len(admissions)))


def _is_one_of(over: frozenset[int], admission: Admission) -> bool:
    return id(admission) in over
