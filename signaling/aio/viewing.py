"""Who saw what, and when: begun and ended here, kept by the view log. [VW1] [VW2] (G5, C21)

A page says what it shows; beginning and end are taken by the server's clock. What another patient, a lost socket or a
leave ends is ended here, whether the page still says so or not. Rows are gathered for a moment and written together,
since each write is a link of the audit chain; a showing that began and ended meanwhile is one row. A row that cannot be
written is tried again, and the beginning is written when it happens: after a crash the log knows that something was
shown, if not how long.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable

from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.model import Context, View
from signaling.core.ports import ViewLog, ViewShown

log = logging.getLogger(__name__)

GATHER_S = 1.0
BATCH_ROWS = 500
MAX_ROWS = 20_000
"""That wait for the store. Beyond, the oldest are given up and counted: by then it has been away for minutes."""
STOP_S = 5.0


class Viewing:
    """What each participant of this node is shown now, and the way of that into the log."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._log: ViewLog | None = None
        self._shown: dict[tuple[ConsultId, ParticipantId], ViewShown] = {}
        self._waiting: deque[ViewShown] = deque()
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self.lost = 0
        """Rows given up."""

    def use(self, view_log: ViewLog) -> None:
        """Where rows go; without, nothing is kept."""
        self._log = view_log

    def start(self) -> None:
        """Begin to write."""
        if self._log is not None:
            self._writer = asyncio.create_task(self._write_forever(self._log))

    async def stop(self) -> None:
        """End what is shown, and write what waits while the store answers; idempotent."""
        for key in list(self._shown):
            self.end(*key)
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            self._writer = None
            assert self._log is not None
            try:
                async with asyncio.timeout(STOP_S):
                    while self._waiting:
                        await self._write(self._log)
            except Exception:  # whatever the store's trouble is, stopping goes on; what is missing is told
                log.exception("views not kept", extra={"rows": len(self._waiting)})

    def show(self, consult: ConsultId, participant: ParticipantId, context: Context, view: View) -> None:
        """From now on the participant's page shows this; what it showed before ends."""
        now = self._shown.get((consult, participant))
        if now is not None and (now.context_version, now.view) == (context.version, view):
            return
        self.end(consult, participant)
        shown = ViewShown(
            id=secrets.token_hex(8),
            consult=consult,
            participant=participant,
            patient=context.patient.id,
            context_version=context.version,
            view=view,
            from_ms=self._now_ms(),
        )
        self._shown[consult, participant] = shown
        self._put(shown)

    def end(self, consult: ConsultId, participant: ParticipantId, at_ms: int | None = None) -> None:
        """The participant's page shows nothing of the record any more."""
        shown = self._shown.pop((consult, participant), None)
        if shown is None:
            return
        ended = shown.model_copy(update={"to_ms": max(shown.from_ms, self._now_ms() if at_ms is None else at_ms)})
        for place in range(len(self._waiting) - 1, max(-1, len(self._waiting) - BATCH_ROWS), -1):
            if self._waiting[place] is shown:
                self._waiting[place] = ended
                return
        self._put(ended)

    def end_all(self, consult: ConsultId, at_ms: int) -> None:
        """Nobody's page shows what it showed: another context is open, or none."""
        for key in [key for key in self._shown if key[0] == consult]:
            self.end(*key, at_ms)

    def _put(self, row: ViewShown) -> None:
        if self._log is None:
            return
        if len(self._waiting) >= MAX_ROWS:
            self._waiting.popleft()
            self.lost += 1
            if self.lost & (self.lost - 1) == 0:
                log.error("views not kept", extra={"rows": self.lost})
        self._waiting.append(row)
        self._wake.set()

    async def _write_forever(self, view_log: ViewLog) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            try:
                while self._waiting:
                    await self._write(view_log)
            except Exception as error:  # whatever the store's trouble is, what waits is tried again
                log.warning("views put off", extra={"error": type(error).__name__, "rows": len(self._waiting)})
            else:
                self._wake.clear()

    async def _write(self, view_log: ViewLog) -> None:
        """A batch leaves the line when it is written, not before."""
        batch = [self._waiting[place] for place in range(min(BATCH_ROWS, len(self._waiting)))]
        for _ in batch:
            self._waiting.popleft()
        try:
            async with asyncio.timeout(STOP_S):
                await view_log.views_shown(batch)
        except BaseException:
            self._waiting.extendleft(reversed(batch))
            raise
