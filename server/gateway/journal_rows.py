"""The journal's rows, inside one transaction of its writer: what `journal.py` runs in the thread of `scribe.py`.

Each method is a job or part of one: it changes nothing but the database, since it may run twice, and whoever refuses
(`LockRefused`) does so before anything is written. A little longer than 500 lines, because every method here writes the
same two tables in one transaction and shares how a row is numbered, sealed and opened.
"""

import hashlib
import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgpack

from server.exits import Exit, StartError
from server.gateway.core.crossing import Crossing, LockRefused, Receipt, RefusalCode
from server.gateway.journal_awaiting import (
    any_awaits,
    await_patient,
    awaiting,
    is_registration,
    leave_to_operator,
    patient_macs,
)
from server.gateway.journal_schema import Meta, bound_to, delete_oldest, meta, sealed_with, set_meta, total
from server.gateway.sealing import NotAuthentic, SealingKeys
from server.lock.core.link import Arrived, Settled
from server.lock.core.proof import next_mark
from server.lock.core.wire import (
    GENESIS,
    MAX_FORMERS,
    OPERATOR_KIND,
    OUTCOME_KIND,
    OUTCOME_SOURCE,
    PATIENT_INCOMPLETE,
    Gap,
)

APPLIED = "applied"
MayCross = Callable[[str, Crossing], bool]
"""Whether the present policy still names what its source (first argument) put under an earlier one."""


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
    inward_count: int = 10_000
    """What the hub sent and no system here has taken yet; beyond it the hub keeps the rest."""
    inward_bytes: int = 512 * 1024**2
    keep_free_bytes: int = 64 * 1024**2
    """Of the disk, left for what is written when the hub has taken something: without it a journal that filled its disk
    could never let go of anything again."""


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
    formers: tuple[str, ...] = ()
    """Gateways that this machine was when it may have been sent before."""


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
    sent_again: int = 0
    """By what was done just now: waits anew, since its patient has become known. [LK25]"""


class Rows:
    """What may be done with the rows of one journal."""

    def __init__(
        self, keys: SealingKeys, limits: JournalLimits, now_us: Callable[[], int], free_bytes: Callable[[], int],
        may_cross: MayCross,
    ) -> None:  # fmt: skip
        self._keys, self._limits, self._now_us, self._free_bytes = keys, limits, now_us, free_bytes
        self._may_cross = may_cross

    def begin_as(self, db: sqlite3.Connection, gateway: str) -> Level:
        """See `Journal.start`."""
        former = meta(db, Meta.GATEWAY)
        if former is not None and gateway != former:
            # What waits may have crossed under that name, its acknowledgement lost: the hub is told whose it was. [LK1]
            formers = [*_formers(db), (former, int(meta(db, Meta.LAST_ID) or 0))]
            set_meta(db, Meta.FORMERS, json.dumps(formers[-MAX_FORMERS:]))
            self.renew(db)
            set_meta(db, Meta.INWARD_UP_TO, 0)
            set_meta(db, Meta.INWARD_MARK, GENESIS)
        if gateway:
            set_meta(db, Meta.GATEWAY, gateway)
        return level_of(db)

    def put(self, db: sqlite3.Connection, source: str, crossing: Crossing, received_us: int) -> tuple[Receipt, int]:
        key_mac, content_mac = macs = self._macs(crossing)
        known = db.execute(
            "SELECT id, seq, content_mac FROM outward WHERE source = ? AND key_mac = ?", (source, key_mac)
        ).fetchone()
        if known is not None:
            if known["content_mac"] != content_mac:
                raise LockRefused(RefusalCode.KEY_REUSED, "the same control id came with other content")
            return Receipt(sequence=known["id"], repeated=True), 0
        if source != OUTCOME_SOURCE:
            self._check_room(db, len(crossing.body))
        return Receipt(sequence=self._add(db, source, crossing, received_us, macs), repeated=False), len(crossing.body)

    def _macs(self, crossing: Crossing) -> tuple[bytes, bytes]:
        """Of key and content."""
        content = (crossing.kind, crossing.media_type, crossing.patient, crossing.about, crossing.body)
        return self._keys.fingerprint(crossing.key.encode()), self._keys.fingerprint(msgpack.packb(content))

    def _add(
        self, db: sqlite3.Connection, source: str, crossing: Crossing, received_us: int, macs: tuple[bytes, bytes]
    ) -> int:
        """Give it the next number; the id of its row. There is room, and no row has its key."""
        key_mac, content_mac = macs
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
                crossing.media_type, len(crossing.body), crossing.made_us, received_us, self._now_us(), mark,
                self._keys.newest, self._seal("outward", id_, source, crossing, digest),
            ),
        )  # fmt: skip
        set_meta(db, Meta.LAST_ID, id_)
        set_meta(db, Meta.LAST, sequence)
        set_meta(db, Meta.MARK, mark)
        return id_

    def _check_room(self, db: sqlite3.Connection, size: int) -> None:
        waiting, waiting_bytes = total(db, "waiting")
        if waiting + 1 > self._limits.max_count or waiting_bytes + size > self._limits.max_bytes:
            raise LockRefused(RefusalCode.FULL, f"{waiting} crossings with {waiting_bytes} bytes wait")
        self._check_disk(db, size)

    def _check_disk(self, db: sqlite3.Connection, size: int) -> None:
        # Pages that settled rows gave back stay in the file: they are room too.
        inside = db.execute("PRAGMA freelist_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0]
        if self._free_bytes() + inside - size < self._limits.keep_free_bytes:
            raise LockRefused(RefusalCode.FULL, "the disk is full")

    def _seal(self, table: str, id_: int, source: str, crossing: Crossing, digest: bytes) -> bytes:
        packed = msgpack.packb([crossing.key, crossing.patient, crossing.about, digest, crossing.body])
        return self._keys.seal(packed, bound_to(table, id_, source, crossing.kind))

    def read(self, db: sqlite3.Connection, first: int, max_bytes: int, max_count: int) -> list[Stored | Gap]:
        rows = db.execute(
            "SELECT * FROM outward WHERE stream = ? AND seq >= ? ORDER BY seq LIMIT ?",
            (meta(db, Meta.STREAM), first, max_count),
        )
        found: list[Stored | Gap] = []
        size, formers = 0, _formers(db)
        for row in rows:
            size += row["size"]
            if found and size > max_bytes:
                break
            one = self._open("outward", row)
            if isinstance(one, Stored) and formers:
                one = replace(one, formers=tuple(gateway for gateway, last in formers if one.id <= last))
            if isinstance(one, Gap) and row["state"] == "pending":
                db.execute("UPDATE outward SET state = 'lost', code = ? WHERE id = ?", (one.code, row["id"]))
            found.append(one)
        return found

    def _open(self, table: str, row: sqlite3.Row) -> Stored | Gap:
        if row["sealed"] is None:
            return Gap(first=row["seq"], last=row["seq"], code=row["code"] or "forgotten", mark=row["mark"])
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

    def settle(self, db: sqlite3.Connection, settled: Sequence[Settled], at_us: int, sent: Mapping[int, int]) -> Level:
        stream, sent_again = meta(db, Meta.STREAM), 0
        for one in settled:
            gone = one.verdict == APPLIED or one.verdict == "repeated"
            state = "acknowledged" if gone else one.verdict
            registered = self._registered(db, stream, one.sequence) if gone else ()
            done = db.execute(
                _SETTLE,
                (
                    state, one.code, one.received_us, one.committed_us, at_us, sent.get(one.sequence), gone, stream,
                    one.sequence, gone,
                ),
            )  # fmt: skip
            if done.rowcount and registered:
                sent_again += self._send_again(db, registered)
            elif done.rowcount and one.code == PATIENT_INCOMPLETE:
                self._await_patient(db, stream, one.sequence)
        if settled and settled[-1].sequence > int(meta(db, Meta.SETTLED) or 0):
            set_meta(db, Meta.SETTLED, settled[-1].sequence)
        delete_oldest(db, "outward", self._limits.keep_rows, "state <> 'pending'")
        level = level_of(db)
        level = level if level.parked_bytes <= self._limits.parked_bytes else self._unpark(db)
        return replace(level, sent_again=sent_again)

    def _registered(self, db: sqlite3.Connection, stream: str, sequence: int) -> list[bytes]:
        """By what the patient is known whom a number registers; nothing while nobody's registration is awaited."""
        row = self._row(db, stream, sequence) if any_awaits(db) else None
        one = self._open("outward", row) if row is not None and is_registration(row["kind"]) else None
        return patient_macs(self._keys, one.crossing) if isinstance(one, Stored) else []

    def _await_patient(self, db: sqlite3.Connection, stream: str, sequence: int) -> None:
        row = self._row(db, stream, sequence)
        # A registration that is sent again behind a newer one would be older news.
        one = None if is_registration(row["kind"]) else self._open("outward", row)
        if isinstance(one, Stored):
            await_patient(db, one.id, patient_macs(self._keys, one.crossing))

    def _row(self, db: sqlite3.Connection, stream: str, sequence: int) -> Any:
        return db.execute("SELECT * FROM outward WHERE stream = ? AND seq = ?", (stream, sequence)).fetchone()

    def _send_again(self, db: sqlite3.Connection, macs: list[bytes]) -> int:
        """Number anew, in their order, what was refused until this patient is known; what finds no room stays."""
        done = 0
        for id_ in awaiting(db, macs):
            row = db.execute("SELECT * FROM outward WHERE id = ?", (id_,)).fetchone()
            one = self._open("outward", row)
            if not isinstance(one, Stored) or not self._may_cross(one.source, one.crossing):
                leave_to_operator(db, id_)
                continue
            try:
                self._check_room(db, row["size"])
            except LockRefused:
                break
            self._number_anew(db, one)
            done += 1
        return done

    def _unpark(self, db: sqlite3.Connection) -> Level:
        while (level := level_of(db)).parked_bytes > self._limits.parked_bytes:
            db.execute(
                "UPDATE outward SET sealed = NULL WHERE id = "
                "(SELECT min(id) FROM outward WHERE state <> 'pending' AND sealed IS NOT NULL)"
            )
        return level

    def keep_inward(self, db: sqlite3.Connection, arrived: Arrived | Gap) -> None:
        if isinstance(arrived, Gap):
            set_meta(db, Meta.INWARD_UP_TO, arrived.last)
            set_meta(db, Meta.INWARD_MARK, arrived.mark)
            return
        frame = arrived.frame
        key_mac = self._keys.fingerprint(frame.key.encode())
        known = db.execute("SELECT id, state, code FROM inward WHERE key_mac = ?", (key_mac,)).fetchone()
        if known is None:
            self._check_inward_room(db, frame.size)
        set_meta(db, Meta.INWARD_UP_TO, frame.sequence)
        set_meta(db, Meta.INWARD_MARK, frame.mark)
        if known is not None:
            if known["state"] != "pending":
                self._put_outcome(db, frame.key, known["code"])
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

    def _check_inward_room(self, db: sqlite3.Connection, size: int) -> None:
        query = "SELECT count(*) AS n, coalesce(sum(size), 0) AS size FROM inward WHERE state = 'pending'"
        waiting = db.execute(query).fetchone()
        if waiting["n"] and (
            waiting["n"] + 1 > self._limits.inward_count or waiting["size"] + size > self._limits.inward_bytes
        ):
            raise LockRefused(RefusalCode.FULL, f"{waiting['n']} wait for systems here")
        self._check_disk(db, size)

    def renew(self, db: sqlite3.Connection) -> None:
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

    def resend(self, db: sqlite3.Connection, id_: int, reason: str, who: str) -> bool:
        """See `Journal.resend`: the former number stays what it was, the content gets the next one."""
        row = db.execute(
            "SELECT * FROM outward WHERE id = ? AND state IN ('refused', 'lost') AND sealed IS NOT NULL", (id_,)
        ).fetchone()
        one = None if row is None else self._open("outward", row)
        if row is None or not isinstance(one, Stored):
            return False
        self._check_room(db, row["size"])
        self._number_anew(db, one)
        self._note_operation(db, "resend", "outward", row, reason, who)
        return True

    def _number_anew(self, db: sqlite3.Connection, one: Stored) -> None:
        # The key goes with the content: it is by the newer number that a repeat is recognised.
        db.execute(
            "UPDATE outward SET state = 'resent', sealed = NULL, key_mac = ? WHERE id = ?",
            (secrets.token_bytes(16), one.id),
        )
        self._add(db, one.source, one.crossing, one.received_us, self._macs(one.crossing))

    def discard(self, db: sqlite3.Connection, id_: int, reason: str, who: str) -> bool:
        """See `Journal.discard`: a number that waits becomes a gap, a message from the hub an outcome."""
        row = db.execute(
            "SELECT * FROM outward WHERE id = ? AND state IN ('pending', 'refused', 'lost') AND source <> ?",
            (id_, OUTCOME_SOURCE),
        ).fetchone()
        if row is not None:
            db.execute("UPDATE outward SET state = 'discarded', code = 'discarded', sealed = NULL WHERE id = ?", (id_,))
            self._note_operation(db, "discard", "outward", row, reason, who)
            return True
        row = db.execute("SELECT * FROM inward WHERE id = ? AND state = 'pending'", (id_,)).fetchone()
        one = None if row is None else self._open("inward", row)
        if row is None or not isinstance(one, Stored):
            return False
        self.delivered(db, one, "discarded")
        self._note_operation(db, "discard", "inward", row, reason, who)
        return True

    def _note_operation(
        self, db: sqlite3.Connection, action: str, direction: str, row: sqlite3.Row, reason: str, who: str
    ) -> None:
        """On both sides: a row here, and a crossing of the lock's own that the hub writes into its audit chain."""
        now_us = self._now_us()
        db.execute(
            "INSERT INTO operation (at_us, action, crossing, direction, kind, reason, who) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (now_us, action, row["id"], direction, row["kind"], reason, who[:64]),
        )
        delete_oldest(db, "operation", self._limits.keep_log_rows)
        stream = row["stream"] if direction == "outward" else ""
        told = {
            "action": action, "direction": direction, "stream": stream, "sequence": row["seq"], "reason": reason,
            "at_us": now_us,
        }  # fmt: skip
        crossing = Crossing(
            kind=OPERATOR_KIND, key=secrets.token_hex(16), patient=(), media_type="application/msgpack",
            body=msgpack.packb(told), made_us=now_us,
        )  # fmt: skip
        self.put(db, OUTCOME_SOURCE, crossing, now_us)

    def next_inward(self, db: sqlite3.Connection, kinds: list[str]) -> Stored | None:
        marks = ", ".join("?" * len(kinds))
        query = f"SELECT * FROM inward WHERE state = 'pending' AND kind IN ({marks}) ORDER BY id"  # noqa: S608
        for row in db.execute(query, kinds).fetchall():
            one = self._open("inward", row)
            if isinstance(one, Stored):
                return one
            # Its key cannot be told to the hub: the hub's outbox shows it as never delivered.
            db.execute("UPDATE inward SET state = 'lost', code = 'corrupt' WHERE id = ?", (row["id"],))
        return None

    def delivered(self, db: sqlite3.Connection, stored: Stored, code: str) -> None:
        state = "refused" if code else "delivered"
        db.execute(
            "UPDATE inward SET state = ?, code = ?, delivered_us = ?, sealed = NULL WHERE id = ?",
            (state, code, self._now_us(), stored.id),
        )
        delete_oldest(db, "inward", self._limits.keep_rows, "state <> 'pending'")
        self._put_outcome(db, stored.crossing.key, code)

    def _put_outcome(self, db: sqlite3.Connection, key: str, code: str) -> None:
        now_us = self._now_us()
        body = msgpack.packb({"key": key, "code": code, "at_us": now_us})
        # A key of its own: it comes once because it is put in the transaction of what it tells, and the hub's key may
        # be as long as a key may be, or come again when the hub has forgotten.
        outcome = Crossing(
            kind=OUTCOME_KIND, key=secrets.token_hex(16), patient=(), media_type="application/msgpack", body=body,
            made_us=now_us,
        )  # fmt: skip
        self.put(db, OUTCOME_SOURCE, outcome, now_us)


_SETTLE = """
UPDATE outward SET state = ?, code = ?, hub_received_us = ?, hub_committed_us = ?, acked_us = ?, sent_us = ?,
  sealed = CASE WHEN ? THEN NULL ELSE sealed END
WHERE stream = ? AND seq = ? AND (state = 'pending' OR (state = 'discarded' AND ?))
"""
"""What was discarded while it was on its way, and was applied all the same, is shown as what it is."""


def execute(db: sqlite3.Connection, query: str, *values: Any) -> None:
    db.execute(query, values)


def begin(db: sqlite3.Connection, keys: SealingKeys) -> None:
    """Begin a journal, or check that this one's keys are here: without them what waits would be given up as damaged.

    Raises:
        StartError: they are not.
    """
    db.execute("BEGIN IMMEDIATE")
    check = keys.fingerprint(b"journal")
    if meta(db, Meta.KEYS) is None:
        set_meta(db, Meta.KEYS, check)
    elif meta(db, Meta.KEYS) != check or not set(sealed_with(db)) <= set(keys.by_id):
        raise StartError(
            Exit.SETTINGS,
            "The journal was sealed with keys that are not here. Bring its journal.keys back (or move journal.db away: "
            "what waits in it is then lost).",
        )
    if meta(db, Meta.STREAM) is None:
        _set_stream(db)
        set_meta(db, Meta.INWARD_UP_TO, 0)
        set_meta(db, Meta.INWARD_MARK, GENESIS)
    db.execute("COMMIT")


def level_of(db: sqlite3.Connection) -> Level:
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


def fits(db: sqlite3.Connection, up_to: int, mark: bytes) -> bool:
    last = int(meta(db, Meta.LAST) or 0)
    if up_to > last or (up_to < last and _mark_of(db, up_to + 1) is None):
        return False  # beyond this journal, or before what it still remembers
    return mark == (GENESIS if up_to == 0 else _mark_of(db, up_to))


def _formers(db: sqlite3.Connection) -> list[tuple[str, int]]:
    """Who the machine was, and the last row it had then; the oldest first."""
    return [(str(gateway), int(last)) for gateway, last in json.loads(meta(db, Meta.FORMERS) or "[]")]


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
