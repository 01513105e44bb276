"""Store-and-forward: what must cross, kept on disk until the other side has it.

Everything an adapter puts is in this SQLite file, sealed and synced, before the adapter hears of
it; it is sent in the order of its numbers and its content is dropped when the hub has committed it (the
metadata stays: that is the hospital's crossing log). What the hub sends is kept the same way until an inlet has
delivered it. Order comes from numbers alone, so a clock that jumps changes times in the log and nothing else.

One file, one writer (`scribe.py`), so a SIGKILL at any point leaves each crossing wholly there or not there
at all. Numbers belong to a *stream*: a new journal, or one that turns out to be an old copy, begins another
stream (`renew_stream`) and what waits is numbered again; the hub then recognises repeats by their keys.

What is done with the rows is `journal_rows.py`, the tables are `journal_schema.py`, sealing is `sealing.py`; what may
be put at all is `policy.py`.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from server.gateway.core.crossing import Crossing, LockRefused, Receipt, RefusalCode, check_crossing
from server.gateway.journal_rows import (
    JournalLimits,
    Level,
    MayCross,
    Rows,
    Stored,
    begin,
    execute,
    fits,
    level_of,
)
from server.gateway.journal_schema import SCHEMA, Meta, delete_oldest, set_meta
from server.gateway.scribe import Scribe, ScribeBusy
from server.gateway.sealing import SealingKeys
from server.lock.core.link import Arrived, Settled
from server.lock.core.wire import GENESIS, Gap

__all__ = ["Journal", "JournalLimits", "Level", "Stored"]
T = TypeVar("T")
FILE = "journal.db"


class Journal:
    """The journal of one gateway.

    Args:
        now_us: wall clock, for the log only.
        may_cross: asked, in the journal's thread, before a crossing is sent again without an operator. [LK25]
    """

    def __init__(
        self,
        folder: Path,
        keys: SealingKeys,
        limits: JournalLimits,
        now_us: Callable[[], int],
        may_cross: MayCross = lambda _source, _crossing: True,
    ) -> None:
        """Open or make it.

        Raises:
            server.exits.StartError: the file cannot be used, or its keys are not here.
        """
        self._limits, self._now_us = limits, now_us
        self._rows = Rows(keys, limits, now_us, lambda: _free_bytes(folder / FILE), may_cross)
        self._scribe = Scribe(folder / FILE, SCHEMA, lambda db: begin(db, keys))
        self._waiting = self._bytes = self._parked_bytes = 0
        self.put_event = asyncio.Event()
        """Set when something new waits to be sent; whoever waits clears it."""
        self.inward_event = asyncio.Event()
        """Likewise for what waits to be delivered inside."""
        self.refusals = 0

    async def start(self, gateway: str = "") -> Level:
        """Count what is there; before anything else.

        Args:
            gateway: who this journal's machine is now. Enrolled again it is another gateway, whose hub has heard none
                of the former one's numbers: what waits is numbered anew.
        """
        level = await self._run(lambda db: self._rows.begin_as(db, gateway))
        self._waiting, self._bytes, self._parked_bytes = level.waiting, level.waiting_bytes, level.parked_bytes
        return level

    async def close(self) -> None:
        """Idempotent."""
        await self._scribe.close()

    async def level(self) -> Level:
        """As the file says."""
        return await self._run(level_of, lazy=True)

    # ------------------------------------------------------------ outward

    async def put(self, source: str, crossing: Crossing, *, received_us: int) -> Receipt:
        """Keep a crossing; see `Outlet.put`.

        Raises:
            LockRefused: ``malformed``, ``too_large``, ``full``, ``key_reused`` or ``unavailable``.
        """
        check_crossing(crossing)
        receipt, _size = await self._run(
            lambda db: self._rows.put(db, source, crossing, received_us), after=self._was_put
        )
        return replace(receipt, almost_full=self.almost_full)

    def _was_put(self, done: tuple[Receipt, int]) -> None:
        receipt, size = done
        if not receipt.repeated:
            self._waiting, self._bytes = self._waiting + 1, self._bytes + size
            self.put_event.set()

    @property
    def almost_full(self) -> bool:
        """Beyond the warning level."""
        share = self._limits.warn_share
        return self._waiting > share * self._limits.max_count or self._bytes > share * self._limits.max_bytes

    async def read(self, first: int, *, max_bytes: int, max_count: int = 16) -> list[Stored | Gap]:
        """The next of the present stream from number ``first`` on, at least one if there is one.

        A row that does not open any more is a `Gap`, as is one whose content is gone.
        """
        return await self._run(lambda db: self._rows.read(db, first, max_bytes, max_count), lazy=True)

    async def settle(self, settled: Sequence[Settled], at_us: int, sent: Mapping[int, int]) -> int:
        """The hub has these: content goes, except of what it refused.

        Args:
            sent: when each number was sent last, as far as this connection sent it.

        Returns:
            How many that were refused wait anew, because one of these made their patient known. [LK25]
        """
        # Lazy: what a power cut forgets of it, the hub acknowledges again. [LK13]
        level = await self._run(
            lambda db: self._rows.settle(db, settled, at_us, sent), lazy=True, after=self._was_settled
        )
        return level.sent_again

    def _was_settled(self, level: Level) -> None:
        self._waiting, self._bytes, self._parked_bytes = level.waiting, level.waiting_bytes, level.parked_bytes
        if level.sent_again:
            self.put_event.set()

    async def resume(self, up_to: int, mark: bytes) -> bool:
        """Whether the hub's word fits this journal; False: it is an old copy, or its twin went on. [LK9]"""
        return await self._run(lambda db: fits(db, up_to, mark), lazy=True)

    async def renew_stream(self) -> None:
        """Number what waits from 1 in a new stream. [LK9]"""
        await self._run(self._rows.renew)

    # ------------------------------------------------------------ inward

    async def keep_inward(self, arrived: Arrived | Gap) -> None:
        """Make what the hub sent durable; after this it may be acknowledged. [LK12]

        Raises:
            LockRefused: ``full``: too much waits for the systems here; ``unavailable``.
        """
        await self._run(lambda db: self._rows.keep_inward(db, arrived), after=lambda _done: self.inward_event.set())
        self.put_event.set()  # of a repeat the hub is told again

    async def reset_inward(self) -> None:
        """The hub numbers anew; what waits here stays, and keys still tell repeats. [LK9]"""

        def job(db: sqlite3.Connection) -> None:
            set_meta(db, Meta.INWARD_UP_TO, 0)
            set_meta(db, Meta.INWARD_MARK, GENESIS)

        await self._run(job)

    async def next_inward(self, kinds: Iterable[str]) -> Stored | None:
        """The oldest that waits for one of these kinds."""
        wanted = sorted(kinds)
        return await self._run(lambda db: self._rows.next_inward(db, wanted), lazy=True)

    async def inward_kinds(self) -> set[str]:
        """Kinds for which something waits."""
        query = "SELECT DISTINCT kind FROM inward WHERE state = 'pending'"
        return await self._run(lambda db: {row["kind"] for row in db.execute(query)})

    async def delivered(self, stored: Stored, code: str = "") -> None:
        """The hospital has it, or it is refused for good with ``code``; the hub will be told, exactly once."""
        await self._run(lambda db: self._rows.delivered(db, stored, code), after=lambda _done: self.put_event.set())

    # ------------------------------------------------------------ the hospital's operator

    async def resend(self, id_: int, reason: str, who: str) -> bool:
        """Number a crossing again that the hub refused or never got; False: there is no such, or its content is gone.

        Raises:
            LockRefused: ``full`` or ``unavailable``.
        """
        done = await self._run(lambda db: self._rows.resend(db, id_, reason, who))
        self.put_event.set()
        return done

    async def discard(self, id_: int, reason: str, who: str) -> bool:
        """Give up a crossing that waits or was refused, and its content; False: there is no such. The hub is told."""
        done = await self._run(lambda db: self._rows.discard(db, id_, reason, who))
        self.put_event.set()
        return done

    # ------------------------------------------------------------ log

    async def note_refusal(self, direction: str, source: str, kind: str, code: str, reason: str) -> None:
        """A crossing was refused; nothing of its content is kept."""
        self.refusals += 1
        row = (self._now_us(), direction, source[:64], kind[:64], code, reason[:200])

        def job(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO refusal (at_us, direction, source, kind, code, reason) VALUES (?, ?, ?, ?, ?, ?)", row
            )
            delete_oldest(db, "refusal", self._limits.keep_log_rows)

        await self._run(job, lazy=True)

    async def note_question(self, **row: Any) -> int:
        """A question of the hub, before it is asked inside; the id of its row."""

        def job(db: sqlite3.Connection) -> int:
            names = ", ".join(row)
            added = db.execute(
                f"INSERT INTO question ({names}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 - our own names
                tuple(row.values()),
            )
            delete_oldest(db, "question", self._limits.keep_log_rows)
            return int(added.lastrowid or 0)

        # Lazy: the hub's audit chain has the question too, synced before the answer leaves there.
        return await self._run(job, lazy=True)

    async def note_answer(self, question: int, *, code: str, count: int, size: int, took_us: int) -> None:
        """How a question ended."""
        query = "UPDATE question SET code = ?, count = ?, size = ?, took_us = ? WHERE id = ?"
        await self._run(lambda db: execute(db, query, code, count, size, took_us, question), lazy=True)

    async def _run(
        self, job: Callable[[sqlite3.Connection], T], *, lazy: bool = False, after: Callable[[T], None] | None = None
    ) -> T:
        try:
            return await self._scribe.run(job, lazy=lazy, after=after)
        except ScribeBusy:
            raise LockRefused(RefusalCode.UNAVAILABLE, "the disk is too slow") from None
        except sqlite3.Error as problem:
            name = getattr(problem, "sqlite_errorname", type(problem).__name__)
            raise LockRefused(RefusalCode.UNAVAILABLE, f"the journal cannot be written: {name}") from None


def _free_bytes(file: Path) -> int:
    """Of the disk, what is free when SQLite has copied into the file what lies in its write-ahead log."""
    try:
        log_bytes = file.with_name(f"{file.name}-wal").stat().st_size
    except FileNotFoundError:
        log_bytes = 0
    return shutil.disk_usage(file.parent).free - log_bytes
