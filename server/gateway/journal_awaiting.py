"""What the hub refused until its patient is known, found again by the patient's identifiers. [LK25]

Kept in the table ``awaiting``: a fingerprint for each identifier, system and value together, of each such row. A row
leaves it with its content (`journal_schema`), whoever sent it again or gave it up.
"""

import sqlite3
from collections.abc import Sequence

import msgpack

from server.gateway.core.crossing import Crossing
from server.gateway.sealing import SealingKeys

AT_ONCE = 256
"""Crossings that one registration brings back; the patient's next one brings the next."""


def is_registration(kind: str) -> bool:
    """Whether a crossing of this kind says who somebody is."""
    return kind.startswith("ADT^") or kind == "FHIR Patient"


def any_awaits(db: sqlite3.Connection) -> bool:
    """Whether a registration has to be looked at."""
    return db.execute("SELECT 1 FROM awaiting LIMIT 1").fetchone() is not None


def await_patient(db: sqlite3.Connection, id_: int, macs: Sequence[bytes]) -> None:
    """The row waits until somebody is known by one of these."""
    db.executemany("INSERT OR IGNORE INTO awaiting VALUES (?, ?)", [(mac, id_) for mac in macs])


def awaiting(db: sqlite3.Connection, macs: Sequence[bytes]) -> list[int]:
    """Rows that wait for who is known by one of these, in their order, some at a time."""
    marks = ", ".join("?" * len(macs))
    query = f"SELECT DISTINCT id FROM awaiting WHERE mac IN ({marks}) ORDER BY id LIMIT ?"  # noqa: S608 - only marks
    return [row["id"] for row in db.execute(query, (*macs, AT_ONCE)).fetchall()]


def leave_to_operator(db: sqlite3.Connection, id_: int) -> None:
    """It is not sent again by itself any more."""
    db.execute("DELETE FROM awaiting WHERE id = ?", (id_,))


def patient_macs(keys: SealingKeys, crossing: Crossing) -> list[bytes]:
    """By what its patient may be found. A number without a system may be another hospital's."""
    return [keys.fingerprint(msgpack.packb(pair)) for pair in crossing.patient if pair[0]]
