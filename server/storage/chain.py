"""The hash chain of the ``event`` table (G5, C21, C34): any later change of any row shows.

Each row is hashed together with the hash of the row before it, so a changed,
removed, added or moved row breaks every hash from there on. A chain alone
cannot tell that its *end* was cut off, or that somebody rewrote all of it:
that is what anchors are for (`audit.py` writes the head to a file outside the
database, and to the log, where it can be shipped away).

Pure: no database here.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = bytes(32)
"""What stands before the first row."""


def canonical_json(value: Any) -> str:
    """The one text of a JSON value: sorted keys, no spaces, no NaN, characters as they are."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """One row of the chain.

    ``body`` is text, hashed as it stands: two spellings of one JSON value are two bodies.
    """

    seq: int
    consult_id: str | None
    revision: int | None
    kind: str
    at_ms: int
    actor: str
    body: str
    prev_hash: bytes
    hash: bytes


def link_hash(
    prev_hash: bytes,
    seq: int,
    consult_id: str | None,
    revision: int | None,
    kind: str,
    at_ms: int,
    actor: str,
    body: str,
) -> bytes:
    """SHA-256 over the previous hash and the canonical JSON array of the row's fields."""
    row = canonical_json([seq, consult_id, revision, kind, at_ms, actor, body])
    return hashlib.sha256(prev_hash + row.encode()).digest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Break:
    """The first place where the chain is broken."""

    seq: int
    problem: str


class Walk:
    """Walk a chain from its first row; feed rows in order of ``seq``.

    Args:
        anchors: hash by ``seq`` as recorded outside the database at an earlier time.
    """

    def __init__(self, anchors: Mapping[int, bytes]) -> None:
        self.seq = 0
        self.hash = GENESIS
        self._anchors = anchors

    def step(self, link: Link) -> Break | None:
        """Check the next row; None when it fits."""
        expected = self.seq + 1
        if link.seq != expected:
            return Break(seq=expected, problem=f"row {expected} is missing; the next row found is {link.seq}")
        if link.prev_hash != self.hash:
            return Break(seq=link.seq, problem="the row does not follow the row before it (moved, added or replaced)")
        computed = link_hash(
            link.prev_hash, link.seq, link.consult_id, link.revision, link.kind, link.at_ms, link.actor, link.body
        )
        if computed != link.hash:
            return Break(seq=link.seq, problem="the content of the row is not what was written")
        anchor = self._anchors.get(link.seq)
        if anchor is not None and anchor != link.hash:
            return Break(seq=link.seq, problem="the row differs from the anchor kept outside the database")
        self.seq, self.hash = link.seq, link.hash
        return None

    def finish(self, head_seq: int, head_hash: bytes) -> Break | None:
        """After the last row: compare with the stored head and with the newest anchor."""
        last_anchor = max(self._anchors, default=0)
        if self.seq < max(head_seq, last_anchor):
            return Break(seq=self.seq + 1, problem="the end of the chain was cut off here")
        if (self.seq, self.hash) != (head_seq, head_hash):
            return Break(seq=self.seq, problem="the stored head does not name the last row")
        return None


def first_break(links: Iterable[Link], head_seq: int, head_hash: bytes, anchors: Mapping[int, bytes]) -> Break | None:
    """Check a whole chain that is in memory."""
    walk = Walk(anchors)
    for link in links:
        broken = walk.step(link)
        if broken is not None:
            return broken
    return walk.finish(head_seq, head_hash)
