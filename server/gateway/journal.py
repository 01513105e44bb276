"""Store-and-forward: what must cross, kept on disk until the other side has it.

Everything an adapter puts is in this SQLite file, sealed and synced, before the adapter hears of
it; it is sent in the order of its numbers and its content is dropped when the hub has committed it (the
metadata stays: that is the hospital's crossing log). What the hub sends is kept the same way until an inlet has
delivered it. Order comes from numbers alone, so a clock that jumps changes times in the log and nothing else.

One file, one writer (`scribe.py`), so a SIGKILL at any point leaves each crossing wholly there or not there
at all. Numbers belong to a *stream*: a new journal, or one that turns out to be an old copy, begins another
stream (`renew_stream`) and what waits is numbered again; the hub then recognises repeats by their keys.

Sealing is `sealing.py`; what may be put at all is `policy.py`; the tables are `journal_schema.py`.
"""

import asyncio
import hashlib
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgpack

from server.gateway.core.crossing import Crossing, LockRefused, Receipt, RefusalCode, check_crossing
from server.gateway.journal_schema import SCHEMA, Meta, bound_to, delete_oldest, meta, set_meta, total
from server.gateway.scribe import Scribe, ScribeBusy
from server.gateway.sealing import NotAuthentic, SealingKeys
from server.lock.core.link import Arrived, Settled
from server.lock.core.proof import next_mark
from server.lock.core.wire import GENESIS, OUTCOME_KIND, OUTCOME_SOURCE, Gap

APPLIED = "applied"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalLimits:
    """Bounds; beyond ``warn_share`` of one of them sources hear that it gets tight."""

    max_bytes: int = 2 * 1024**3
    max_count: int = 1_000_000
    warn_share: float = 0.8
    parked_bytes: int = 256 * 1024**2
    """Content of refused crossings, kept for the hospital's operator; the oldest goes first."""
    keep_rows: int = 1_000_000
    """Metadata of settled crossings; repeats are recognised as long as it is kept."""
    keep_log_rows: int = 200_000
    """Refusals and questions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A crossing of the journal, opened."""

    id: int
    sequence: int
    source: str
    crossing: Crossing
    received_us: int
    journaled_us: int
    digest: bytes
    mark: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """How full the journal is, and where its numbering stands."""

    stream: str
    last: int
    settled: int
    waiting: int
    waiting_bytes: int
    parked: int
    parked_bytes: int
    inward_up_to: int
    inward_mark: bytes
    inward_waiting: int


class Journal:
    """The journal of one gateway.

    Args:
        now_us: wall clock, for the log only.
    """

    def __init__(self, folder: Path, keys: SealingKeys, limits: JournalLimits, now_us: Callable[[], int]) -> None:
        """Open or make it.

        Raises:
            server.exits.StartError: the file cannot be used.
        """
        self._keys, self._limits, self._now_us = keys, limits, now_us
        self._scribe = Scribe(folder / "journal.db", SCHEMA, _begin)
        self._waiting = self._bytes = self._parked_bytes = 0
        self.put_event = asyncio.Event()
        """Set when something new waits to be sent; whoever waits clears it."""
        self.inward_event = asyncio.Event()
        """Likewise for what waits to be delivered inside."""
        self.refusals = 0

    async def start(self) -> Level:
        """Count what is there; before anything else."""
        level = await self._run(_level)
        self._waiting, self._bytes, self._parked_bytes = level.waiting, level.waiting_bytes, level.parked_bytes
        return level

    async def close(self) -> None:
        """Idempotent."""
        await self._scribe.close()

    async def level(self) -> Level:
        """As the file says."""
        return await self._run(_level, lazy=True)

    # ------------------------------------------------------------ outward

    async def put(self, source: str, crossing: Crossing, *, received_us: int) -> Receipt:
        """Keep a crossing; see `Outlet.put`.

        Raises:
            LockRefused: ``malformed``, ``too_large``, ``full``, ``key_reused`` or ``unavailable``.
        """
        check_crossing(crossing)
        receipt, size = await self._run(lambda db: self._put(db, source, crossing, received_us))
        if not receipt.repeated:
            self._waiting, self._bytes = self._waiting + 1, self._bytes + size
            self.put_event.set()
        return replace(receipt, almost_full=self.almost_full)

    @property
    def almost_full(self) -> bool:
        """Beyond the warning level."""
        share = self._limits.warn_share
        return self._waiting > share * self._limits.max_count or self._bytes > share * self._limits.max_bytes

    async def read(self, first: int, *, max_bytes: int, max_count: int = 16) -> list[Stored | Gap]:
        """The next of the present stream from number ``first`` on, at least one if there is one.

        A row that does not open any more is a `Gap`, as is one whose content is gone.
        """
        return await self._run(lambda db: self._read(db, first, max_bytes, max_count), lazy=True)

    async def settle(self, settled: Sequence[Settled], at_us: int, sent: Mapping[int, int]) -> None:
        """The hub has these: content goes, except of what it refused.

        Args:
            sent: when each number was sent last, as far as this connection sent it.
        """
        # Lazy: what a power cut forgets of it, the hub acknowledges again. [LK13]
        level = await self._run(lambda db: self._settle(db, settled, at_us, sent), lazy=True)
        self._waiting, self._bytes, self._parked_bytes = level.waiting, level.waiting_bytes, level.parked_bytes

    async def resume(self, up_to: int, mark: bytes) -> bool:
        """Whether the hub's word fits this journal; False: it is an old copy, or its twin went on. [LK9]"""
        return await self._run(lambda db: _fits(db, up_to, mark), lazy=True)

    async def renew_stream(self) -> None:
        """Number what waits from 1 in a new stream. [LK9]"""
        await self._run(self._renew)

    # ------------------------------------------------------------ inward

    async def keep_inward(self, arrived: Arrived | Gap) -> None:
        """Make what the hub sent durable; after this it may be acknowledged. [LK12]"""
        await self._run(lambda db: self._keep_inward(db, arrived))
        self.inward_event.set()

    async def reset_inward(self) -> None:
        """The hub numbers anew; what waits here stays, and keys still tell repeats. [LK9]"""

        def job(db: sqlite3.Connection) -> None:
            set_meta(db, Meta.INWARD_UP_TO, 0)
            set_meta(db, Meta.INWARD_MARK, GENESIS)

        await self._run(job)

    async def next_inward(self, kinds: Iterable[str]) -> Stored | None:
        """The oldest that waits for one of these kinds."""
        wanted = sorted(kinds)
        return await self._run(lambda db: self._next_inward(db, wanted), lazy=True)

    async def inward_kinds(self) -> set[str]:
        """Kinds for which something waits."""
        query = "SELECT DISTINCT kind FROM inward WHERE state = 'pending'"
        return await self._run(lambda db: {row["kind"] for row in db.execute(query)})

    async def delivered(self, stored: Stored, code: str = "") -> None:
        """The hospital has it, or it is refused for good with ``code``; the hub will be told, exactly once."""
        await self._run(lambda db: self._delivered(db, stored, code))
        self.put_event.set()

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
        await self._run(lambda db: _execute(db, query, code, count, size, took_us, question), lazy=True)

    # ------------------------------------------------------------ in the thread

    async def _run(self, job: Callable[[sqlite3.Connection], T], *, lazy: bool = False) -> T:
        try:
            return await self._scribe.run(job, lazy=lazy)
        except ScribeBusy:
            raise LockRefused(RefusalCode.UNAVAILABLE, "the disk is too slow") from None
        except sqlite3.Error as problem:
            name = getattr(problem, "sqlite_errorname", type(problem).__name__)
            raise LockRefused(RefusalCode.UNAVAILABLE, f"the journal cannot be written: {name}") from None

    def _put(self, db: sqlite3.Connection, source: str, crossing: Crossing, received_us: int) -> tuple[Receipt, int]:
        key_mac = self._keys.fingerprint(crossing.key.encode())
        content = (crossing.kind, crossing.media_type, crossing.patient, crossing.about, crossing.body)
        content_mac = self._keys.fingerprint(msgpack.packb(content))
        known = db.execute(
            "SELECT id, seq, content_mac FROM outward WHERE source = ? AND key_mac = ?", (source, key_mac)
        ).fetchone()
        if known is not None:
            if known["content_mac"] != content_mac:
                raise LockRefused(RefusalCode.KEY_REUSED, "the same control id came with other content")
            return Receipt(sequence=known["id"], repeated=True), 0
        size = len(crossing.body)
        if source != OUTCOME_SOURCE:
            waiting, waiting_bytes = total(db, "waiting")
            if waiting + 1 > self._limits.max_count or waiting_bytes + size > self._limits.max_bytes:
                raise LockRefused(RefusalCode.FULL, f"{waiting} crossings with {waiting_bytes} bytes wait")
        sequence, before = int(meta(db, Meta.LAST) or 0) + 1, bytes(meta(db, Meta.MARK) or GENESIS)
        digest = hashlib.sha256(crossing.body).digest()
        mark = next_mark(before, sequence, source, crossing.key, digest)
        id_ = int(meta(db, Meta.LAST_ID) or 0) + 1
        db.execute(
            "INSERT INTO outward (id, stream, seq, source, kind, key_mac, content_mac, media_type, size, made_us, "
            "received_us, journaled_us, state, code, mark, key_id, sealed) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', '', ?, ?, ?)",
            (
                id_, meta(db, Meta.STREAM), sequence, source, crossing.kind, key_mac, content_mac,
                crossing.media_type, size, crossing.made_us, received_us, self._now_us(), mark, self._keys.newest,
                self._seal("outward", id_, source, crossing, digest),
            ),
        )  # fmt: skip
        set_meta(db, Meta.LAST_ID, id_)
        set_meta(db, Meta.LAST, sequence)
        set_meta(db, Meta.MARK, mark)
        return Receipt(sequence=id_, repeated=False), size

    def _seal(self, table: str, id_: int, source: str, crossing: Crossing, digest: bytes) -> bytes:
        packed = msgpack.packb([crossing.key, crossing.patient, crossing.about, digest, crossing.body])
        return self._keys.seal(packed, bound_to(table, id_, source, crossing.kind))

    def _read(self, db: sqlite3.Connection, first: int, max_bytes: int, max_count: int) -> list[Stored | Gap]:
        rows = db.execute(
            "SELECT * FROM outward WHERE stream = ? AND seq >= ? ORDER BY seq LIMIT ?",
            (meta(db, Meta.STREAM), first, max_count),
        )
        found: list[Stored | Gap] = []
        size = 0
        for row in rows:
            size += row["size"]
            if found and size > max_bytes:
                break
            one = self._open("outward", row)
            if isinstance(one, Gap) and row["state"] == "pending":
                db.execute("UPDATE outward SET state = 'lost', code = ? WHERE id = ?", (one.code, row["id"]))
            found.append(one)
        return found

    def _open(self, table: str, row: sqlite3.Row) -> Stored | Gap:
        if row["sealed"] is None:
            return Gap(first=row["seq"], last=row["seq"], code="forgotten", mark=row["mark"])
        try:
            packed = self._keys.open(
                row["key_id"], row["sealed"], bound_to(table, row["id"], row["source"], row["kind"])
            )
            key, patient, about, digest, body = msgpack.unpackb(packed, use_list=False)
        except (NotAuthentic, ValueError):
            return Gap(first=row["seq"], last=row["seq"], code="corrupt", mark=row["mark"])
        crossing = Crossing(
            kind=row["kind"], key=key, patient=patient, about=about, media_type=row["media_type"], body=body,
            made_us=row["made_us"],
        )  # fmt: skip
        return Stored(
            id=row["id"], sequence=row["seq"], source=row["source"], crossing=crossing,
            received_us=row["received_us"], journaled_us=row["journaled_us"], digest=digest, mark=row["mark"],
        )  # fmt: skip

    def _settle(self, db: sqlite3.Connection, settled: Sequence[Settled], at_us: int, sent: Mapping[int, int]) -> Level:
        stream = meta(db, Meta.STREAM)
        for one in settled:
            gone = one.verdict == APPLIED or one.verdict == "repeated"
            state = "acknowledged" if gone else one.verdict
            db.execute(
                _SETTLE,
                (
                    state,
                    one.code,
                    one.received_us,
                    one.committed_us,
                    at_us,
                    sent.get(one.sequence),
                    gone,
                    stream,
                    one.sequence,
                ),
            )
        if settled and settled[-1].sequence > int(meta(db, Meta.SETTLED) or 0):
            set_meta(db, Meta.SETTLED, settled[-1].sequence)
        delete_oldest(db, "outward", self._limits.keep_rows, "state <> 'pending'")
        level = _level(db)
        return level if level.parked_bytes <= self._limits.parked_bytes else self._unpark(db)

    def _unpark(self, db: sqlite3.Connection) -> Level:
        while (level := _level(db)).parked_bytes > self._limits.parked_bytes:
            db.execute(
                "UPDATE outward SET sealed = NULL WHERE id = "
                "(SELECT min(id) FROM outward WHERE state <> 'pending' AND sealed IS NOT NULL)"
            )
        return level

    def _keep_inward(self, db: sqlite3.Connection, arrived: Arrived | Gap) -> None:
        if isinstance(arrived, Gap):
            set_meta(db, Meta.INWARD_UP_TO, arrived.last)
            set_meta(db, Meta.INWARD_MARK, arrived.mark)
            return
        frame = arrived.frame
        key_mac = self._keys.fingerprint(frame.key.encode())
        known = db.execute("SELECT id, state, code FROM inward WHERE key_mac = ?", (key_mac,)).fetchone()
        set_meta(db, Meta.INWARD_UP_TO, frame.sequence)
        set_meta(db, Meta.INWARD_MARK, frame.mark)
        if known is not None:
            if known["state"] != "pending":
                self._put_outcome(db, frame.key, known["code"], repeat=True)
            return
        crossing = Crossing(
            kind=frame.kind, key=frame.key, patient=frame.patient, about=frame.about, media_type=frame.media_type,
            body=arrived.body, made_us=frame.made_us,
        )  # fmt: skip
        id_ = int(meta(db, Meta.LAST_ID) or 0) + 1
        set_meta(db, Meta.LAST_ID, id_)
        db.execute(
            "INSERT INTO inward (id, seq, source, kind, key_mac, media_type, size, made_us, received_us, journaled_us, "
            "state, code, mark, key_id, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', '', ?, ?, ?)",
            (
                id_, frame.sequence, frame.source, frame.kind, key_mac, frame.media_type, frame.size, frame.made_us,
                arrived.received_us, self._now_us(), frame.mark, self._keys.newest,
                self._seal("inward", id_, frame.source, crossing, frame.digest),
            ),
        )  # fmt: skip

    def _renew(self, db: sqlite3.Connection) -> None:
        waiting = db.execute("SELECT * FROM outward WHERE state = 'pending' ORDER BY id").fetchall()
        stream = _set_stream(db)
        sequence, mark = 0, GENESIS
        for row in waiting:
            one = self._open("outward", row)
            if isinstance(one, Gap):
                db.execute("UPDATE outward SET state = 'lost', code = ? WHERE id = ?", (one.code, row["id"]))
                continue
            sequence += 1
            mark = next_mark(mark, sequence, one.source, one.crossing.key, one.digest)
            db.execute(
                "UPDATE outward SET stream = ?, seq = ?, mark = ? WHERE id = ?", (stream, sequence, mark, row["id"])
            )
        set_meta(db, Meta.LAST, sequence)
        set_meta(db, Meta.MARK, mark)

    def _next_inward(self, db: sqlite3.Connection, kinds: list[str]) -> Stored | None:
        marks = ", ".join("?" * len(kinds))
        query = f"SELECT * FROM inward WHERE state = 'pending' AND kind IN ({marks}) ORDER BY id"  # noqa: S608
        for row in db.execute(query, kinds).fetchall():
            one = self._open("inward", row)
            if isinstance(one, Stored):
                return one
            # Its key cannot be told to the hub: the hub's outbox shows it as never delivered.
            db.execute("UPDATE inward SET state = 'lost', code = 'corrupt' WHERE id = ?", (row["id"],))
        return None

    def _delivered(self, db: sqlite3.Connection, stored: Stored, code: str) -> None:
        state = "refused" if code else "delivered"
        db.execute(
            "UPDATE inward SET state = ?, code = ?, delivered_us = ?, sealed = NULL WHERE id = ?",
            (state, code, self._now_us(), stored.id),
        )
        delete_oldest(db, "inward", self._limits.keep_rows, "state <> 'pending'")
        self._put_outcome(db, stored.crossing.key, code)

    def _put_outcome(self, db: sqlite3.Connection, key: str, code: str, *, repeat: bool = False) -> None:
        now_us = self._now_us()
        body = msgpack.packb({"key": key, "code": code, "at_us": now_us})
        outcome = Crossing(
            kind=OUTCOME_KIND, key=f"{key}#{secrets.token_hex(4)}" if repeat else key, patient=(),
            media_type="application/msgpack", body=body, made_us=now_us,
        )  # fmt: skip
        self._put(db, OUTCOME_SOURCE, outcome, now_us)


_SETTLE = """
UPDATE outward SET state = ?, code = ?, hub_received_us = ?, hub_committed_us = ?, acked_us = ?, sent_us = ?,
  sealed = CASE WHEN ? THEN NULL ELSE sealed END
WHERE stream = ? AND seq = ? AND state = 'pending'
"""


def _execute(db: sqlite3.Connection, query: str, *values: Any) -> None:
    db.execute(query, values)


def _begin(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    if meta(db, Meta.STREAM) is None:
        _set_stream(db)
        set_meta(db, Meta.INWARD_UP_TO, 0)
        set_meta(db, Meta.INWARD_MARK, GENESIS)
    db.execute("COMMIT")


def _level(db: sqlite3.Connection) -> Level:
    (waiting, waiting_bytes), (parked, parked_bytes) = total(db, "waiting"), total(db, "parked")
    inward = db.execute("SELECT count(*) AS n FROM inward WHERE state = 'pending'").fetchone()
    return Level(
        stream=str(meta(db, Meta.STREAM)),
        last=int(meta(db, Meta.LAST) or 0),
        settled=int(meta(db, Meta.SETTLED) or 0),
        waiting=waiting,
        waiting_bytes=waiting_bytes,
        parked=parked,
        parked_bytes=parked_bytes,
        inward_up_to=int(meta(db, Meta.INWARD_UP_TO) or 0),
        inward_mark=bytes(meta(db, Meta.INWARD_MARK) or GENESIS),
        inward_waiting=inward["n"],
    )


def _fits(db: sqlite3.Connection, up_to: int, mark: bytes) -> bool:
    last = int(meta(db, Meta.LAST) or 0)
    if up_to > last or (up_to < last and _mark_of(db, up_to + 1) is None):
        return False  # beyond this journal, or before what it still remembers
    return mark == (GENESIS if up_to == 0 else _mark_of(db, up_to))


def _mark_of(db: sqlite3.Connection, sequence: int) -> bytes | None:
    query = "SELECT mark FROM outward WHERE stream = ? AND seq = ?"
    row = db.execute(query, (meta(db, Meta.STREAM), sequence)).fetchone()
    return None if row is None else bytes(row["mark"])


def _set_stream(db: sqlite3.Connection) -> str:
    stream = secrets.token_hex(12)
    set_meta(db, Meta.STREAM, stream)
    set_meta(db, Meta.LAST, 0)
    set_meta(db, Meta.SETTLED, 0)
    set_meta(db, Meta.MARK, GENESIS)
    return stream
