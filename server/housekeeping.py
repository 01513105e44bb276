"""What has to be done now and then: forget what has expired, anchor the audit chain, watch the loop."""

import asyncio

import structlog
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError

from media.aio.lag import LagProbe
from server.clock import NowMs
from server.metrics import AUDIT_ROWS, LAG_STEP_S, LOOP_LAGS
from server.storage import audit
from server.storage.audit import AnchorFile
from server.storage.database import Database
from server.storage.models import Pairing, UsedToken, WebSession
from server.storage.smart_tables import SmartGrant, SmartLaunch, SmartToken

log = structlog.get_logger(__name__)

EVERY_S = 60.0
KEEP_SESSIONS_MS = 24 * 3_600_000
"""Dead sessions stay a day, so that a support call can still see that there was one; the audit chain keeps all."""


class Housekeeper:
    """One task and one timer; ``start`` and ``stop`` belong to the application's lifecycle."""

    def __init__(self, database: Database, anchors: AnchorFile, now_ms: NowMs) -> None:
        self._database = database
        self._anchors = anchors
        self._now_ms = now_ms
        self._task: asyncio.Task[None] | None = None
        self._lag = LagProbe(LAG_STEP_S, LOOP_LAGS.server)

    def start(self) -> None:
        """Begin; the first round comes at once."""
        self._lag.start()
        self._task = asyncio.create_task(self._run(), name="housekeeping")

    async def stop(self) -> None:
        """End, and anchor the chain a last time; idempotent."""
        self._lag.stop()
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.anchor()

    async def _run(self) -> None:
        while True:
            try:
                await self.round()
            except (SQLAlchemyError, OSError):
                # The database or the disk is away; requests say so to the people concerned.
                log.exception("housekeeping failed")
            await asyncio.sleep(EVERY_S)

    async def round(self) -> None:
        """One round."""
        now_ms = self._now_ms()
        async with self._database.write() as session:
            await session.execute(delete(UsedToken).where(UsedToken.expires_at_ms <= now_ms))
            await session.execute(delete(Pairing).where(Pairing.expires_at_ms <= now_ms))
            await session.execute(delete(WebSession).where(WebSession.expires_at_ms <= now_ms - KEEP_SESSIONS_MS))
            await session.execute(delete(SmartLaunch).where(SmartLaunch.expires_at_ms <= now_ms))
            # A used token stays as long as its grant could: a second use must be known for what it is.
            old = SmartGrant.expires_at_ms <= now_ms - KEEP_SESSIONS_MS
            await session.execute(delete(SmartToken).where(SmartToken.grant_id.in_(select(SmartGrant.id).where(old))))
            await session.execute(delete(SmartGrant).where(old))
        await self.anchor()

    async def anchor(self) -> None:
        """Write the head of the audit chain to its file and to the log."""
        seq, digest = await audit.head(self._database)
        AUDIT_ROWS.set(seq)
        if await asyncio.to_thread(self._anchors.write, seq, digest, self._now_ms()):
            log.info("audit chain anchored", seq=seq, head_hash=digest.hex())
