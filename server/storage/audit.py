"""Append to the chain, walk it, and anchor its head outside the database (G5, C21, C23, C34).

Every append takes the one row of ``chain_head`` as its lock, so it must be the
last thing a transaction does: transactions then always lock their own rows
first and the head last, and cannot wait for each other in a circle.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.storage.at_once import Hand, Prepared
from server.storage.chain import Break, Link, Walk, canonical_json, link_hash
from server.storage.database import Database
from server.storage.models import ChainHead, EventRow

PAGE_ROWS = 2_000
SERVER = "server"
"""Actor of what the server did of its own accord."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One thing to record.

    ``body`` holds ids, codes and counts; never a name, an identifier of a patient or a token (G8).
    """

    kind: str
    at_ms: int
    actor: str = SERVER
    body: Mapping[str, Any] = field(default_factory=dict)
    consult_id: str | None = None
    revision: int | None = None


_HEAD = Prepared(select(ChainHead.seq, ChainHead.hash).where(ChainHead.id == 1).with_for_update())
_MOVE = Prepared(update(ChainHead).where(ChainHead.id == 1).values(seq=bindparam("to_seq"), hash=bindparam("to_hash")))
_LINK = Prepared(insert(EventRow))


async def append(session: AsyncSession, entries: Sequence[Entry]) -> None:
    """Chain ``entries`` to the head, inside the caller's write transaction."""
    if not entries:
        return
    head = (
        await session.execute(select(ChainHead.seq, ChainHead.hash).where(ChainHead.id == 1).with_for_update())
    ).one()
    rows = _links(head.seq, bytes(head.hash), entries)
    await session.execute(insert(EventRow), rows)
    await session.execute(update(ChainHead).where(ChainHead.id == 1).values(seq=rows[-1]["seq"], hash=rows[-1]["hash"]))


def append_at_once(hand: Hand, entries: Sequence[Entry]) -> None:
    """The same within `Database.at_once`; the head is locked when all who share the transaction have done their own."""
    if entries:
        hand.at_end(_append_now, entries)


def _append_now(hand: Hand, entries: Sequence[Entry]) -> None:
    """Three visits, however many they are: the head is locked for no longer than that and the commit."""
    [(seq, last)] = hand.rows(_HEAD)
    rows = _links(seq, bytes(last), entries)
    hand.many(_LINK, rows)
    hand.rows(_MOVE, to_seq=rows[-1]["seq"], to_hash=rows[-1]["hash"])


def _links(seq: int, last: bytes, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Rows that follow link ``seq``, whose hash is ``last``."""
    rows: list[dict[str, Any]] = []
    for entry in entries:
        seq += 1
        body = canonical_json(dict(entry.body))
        digest = link_hash(last, seq, entry.consult_id, entry.revision, entry.kind, entry.at_ms, entry.actor, body)
        rows.append(
            {
                "seq": seq,
                "consult_id": entry.consult_id,
                "revision": entry.revision,
                "kind": entry.kind,
                "at_ms": entry.at_ms,
                "actor": entry.actor,
                "body": body,
                "prev_hash": last,
                "hash": digest,
            }
        )
        last = digest
    return rows


async def head(database: Database) -> tuple[int, bytes]:
    """Number and hash of the last row."""
    async with database.read() as session:
        row = (await session.execute(select(ChainHead.seq, ChainHead.hash).where(ChainHead.id == 1))).one_or_none()
    return (row.seq, bytes(row.hash)) if row is not None else (0, b"")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Result of a walk: ``broken`` is None when every row is as it was written."""

    rows: int
    head: bytes
    anchors: int
    broken: Break | None


async def verify(database: Database, anchors: Mapping[int, bytes]) -> Verdict:
    """Walk the whole chain in pages; memory does not grow with its length."""
    walk = Walk(anchors)
    # The head is read first: rows appended during the walk are then beyond it, not missing before it.
    head_seq, head_hash = await head(database)
    broken = None
    while broken is None and walk.seq < head_seq:
        links = await _page(database, walk.seq, head_seq)
        if not links:
            break
        broken = next((found for link in links if (found := walk.step(link)) is not None), None)
    if broken is None:
        broken = walk.finish(head_seq, head_hash) or await _beyond(database, head_seq)
    return Verdict(rows=walk.seq, head=walk.hash, anchors=len(anchors), broken=broken)


async def _page(database: Database, after: int, upto: int) -> list[Link]:
    query = select(EventRow).where(EventRow.seq > after, EventRow.seq <= upto).order_by(EventRow.seq).limit(PAGE_ROWS)
    async with database.read() as session:
        rows = (await session.scalars(query)).all()
    return [_link(row) for row in rows]


async def _beyond(database: Database, head_seq: int) -> Break | None:
    """A row after the stored head that the head, read again, still does not cover."""
    query = select(EventRow.seq).order_by(EventRow.seq.desc()).limit(1)
    async with database.read() as session:
        last = await session.scalar(query)
        now = await session.scalar(select(ChainHead.seq).where(ChainHead.id == 1))
    if last is not None and last > max(head_seq, now or 0):
        return Break(seq=last, problem="the row lies beyond the stored head (added by hand)")
    return None


def _link(row: EventRow) -> Link:
    return Link(
        seq=row.seq,
        consult_id=row.consult_id,
        revision=row.revision,
        kind=row.kind,
        at_ms=row.at_ms,
        actor=row.actor,
        body=row.body,
        prev_hash=bytes(row.prev_hash),
        hash=bytes(row.hash),
    )


class AnchorFile:
    """Heads of the chain, one JSON line each, in a file outside the database.

    Whoever can change the database can often change this file too, so the same
    line also goes to the log, which a hospital ships to another machine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[int, bytes]:
        """Hash by row number; a line that is not an anchor is skipped (a torn last write)."""
        anchors: dict[int, bytes] = {}
        if not self.path.exists():
            return anchors
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                value = json.loads(line)
                anchors[int(value["seq"])] = bytes.fromhex(value["hash"])
            except (ValueError, KeyError, TypeError):
                continue
        return anchors

    def write(self, seq: int, digest: bytes, at_ms: int) -> bool:
        """Append the head unless it is the last one recorded; whether it was."""
        if seq == 0 or seq in self.read():
            return False
        with self.path.open("a", encoding="utf-8") as file:
            file.write(canonical_json({"seq": seq, "hash": digest.hex(), "at_ms": at_ms}) + "\n")
        return True
