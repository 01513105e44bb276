"""Tables of the journal file and the few words that read and write them.

Totals are kept by triggers, in the same transaction as the rows they count: a journal with a million waiting
crossings is not counted anew for each message. ``awaiting`` finds what was refused until its patient is known, by
fingerprints of the patient's identifiers; a row of it goes with the content that it finds. Times are UTC microseconds
and order nothing.
"""

import sqlite3
from enum import StrEnum
from typing import Any

_ROW = """
  id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL,
  key_mac BLOB NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL, made_us INTEGER NOT NULL,
  received_us INTEGER NOT NULL, journaled_us INTEGER NOT NULL, state TEXT NOT NULL, code TEXT NOT NULL,
  mark BLOB NOT NULL, key_id TEXT NOT NULL, sealed BLOB
"""
_CLASS = "CASE WHEN {0}.state = 'pending' THEN 'waiting' WHEN {0}.sealed IS NOT NULL THEN 'parked' ELSE 'past' END"
_LESS = f"UPDATE totals SET n = n - 1, size = size - OLD.size WHERE class = {_CLASS.format('OLD')};"  # noqa: S608 - constants
_MORE = f"UPDATE totals SET n = n + 1, size = size + NEW.size WHERE class = {_CLASS.format('NEW')};"  # noqa: S608 - constants

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value);
CREATE TABLE IF NOT EXISTS totals (class TEXT PRIMARY KEY, n INTEGER NOT NULL, size INTEGER NOT NULL);
INSERT OR IGNORE INTO totals VALUES ('waiting', 0, 0), ('parked', 0, 0), ('past', 0, 0);
CREATE TABLE IF NOT EXISTS outward ({_ROW}, stream TEXT NOT NULL, content_mac BLOB NOT NULL,
  sent_us INTEGER, hub_received_us INTEGER, hub_committed_us INTEGER, acked_us INTEGER);
CREATE UNIQUE INDEX IF NOT EXISTS outward_key ON outward (source, key_mac);
CREATE UNIQUE INDEX IF NOT EXISTS outward_number ON outward (stream, seq);
CREATE INDEX IF NOT EXISTS outward_parked ON outward (id) WHERE state <> 'pending' AND sealed IS NOT NULL;
CREATE TRIGGER IF NOT EXISTS outward_added AFTER INSERT ON outward BEGIN {_MORE} END;
CREATE TRIGGER IF NOT EXISTS outward_changed AFTER UPDATE OF state, sealed ON outward BEGIN {_LESS} {_MORE} END;
CREATE TRIGGER IF NOT EXISTS outward_removed AFTER DELETE ON outward BEGIN {_LESS} END;
CREATE TABLE IF NOT EXISTS awaiting (mac BLOB NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (mac, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS awaiting_row ON awaiting (id);
CREATE TRIGGER IF NOT EXISTS awaiting_changed AFTER UPDATE OF state, sealed ON outward
  WHEN OLD.state = 'refused' AND (NEW.state <> 'refused' OR NEW.sealed IS NULL)
  BEGIN DELETE FROM awaiting WHERE id = NEW.id; END;
CREATE TRIGGER IF NOT EXISTS awaiting_removed AFTER DELETE ON outward WHEN OLD.state = 'refused'
  BEGIN DELETE FROM awaiting WHERE id = OLD.id; END;
CREATE TABLE IF NOT EXISTS inward ({_ROW}, delivered_us INTEGER);
CREATE UNIQUE INDEX IF NOT EXISTS inward_key ON inward (key_mac);
CREATE INDEX IF NOT EXISTS inward_waiting ON inward (kind, id, size) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS outward_sealed ON outward (key_id) WHERE sealed IS NOT NULL;
CREATE INDEX IF NOT EXISTS inward_sealed ON inward (key_id) WHERE sealed IS NOT NULL;
CREATE TABLE IF NOT EXISTS operation (id INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL,
  action TEXT NOT NULL, crossing INTEGER NOT NULL, direction TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL,
  who TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS refusal (id INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL,
  direction TEXT NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS question (id INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL,
  consult TEXT NOT NULL, type TEXT NOT NULL, role TEXT NOT NULL, organisation TEXT NOT NULL, purpose TEXT NOT NULL,
  patient_mac BLOB NOT NULL, code TEXT, count INTEGER, size INTEGER, took_us INTEGER);
"""  # noqa: S608 - constants


class Meta(StrEnum):
    """Single values of a journal."""

    STREAM = "stream"
    LAST = "last"
    LAST_ID = "last_id"
    SETTLED = "settled"
    MARK = "mark"
    INWARD_UP_TO = "inward_up_to"
    INWARD_MARK = "inward_mark"
    GATEWAY = "gateway"
    """As whom the machine is enrolled."""
    FORMERS = "formers"
    """As whom it was enrolled before, each with the last row it had then: JSON list of (gateway, id)."""
    KEYS = "keys"
    """A fingerprint by which the journal knows its keys again."""


def meta(db: sqlite3.Connection, name: Meta) -> Any:
    """A value, None when it was never set."""
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name.value,)).fetchone()
    return None if row is None else row["value"]


def set_meta(db: sqlite3.Connection, name: Meta, value: Any) -> None:
    """Set a value in the present transaction."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name.value, value))


def total(db: sqlite3.Connection, kind: str) -> tuple[int, int]:
    """Count and bytes of ``waiting``, ``parked`` or ``past`` outward rows."""
    row = db.execute("SELECT n, size FROM totals WHERE class = ?", (kind,)).fetchone()
    return row["n"], row["size"]


def sealed_with(db: sqlite3.Connection) -> dict[str, int]:
    """How many rows each key is still needed for."""
    query = (
        "SELECT key_id, count(*) AS n FROM (SELECT key_id FROM outward WHERE sealed IS NOT NULL "
        "UNION ALL SELECT key_id FROM inward WHERE sealed IS NOT NULL) GROUP BY key_id"
    )
    return {row["key_id"]: row["n"] for row in db.execute(query)}


def bound_to(table: str, id_: int, source: str, kind: str) -> bytes:
    """What a sealed value belongs to: moved to another row it does not open."""
    return f"{table}\0{id_}\0{source}\0{kind}".encode()


def delete_oldest(db: sqlite3.Connection, table: str, keep: int, condition: str = "TRUE") -> None:
    """Let go of rows whose id lies more than ``keep`` behind the newest; a few at a time."""
    db.execute(
        f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} "  # noqa: S608 - our own names
        f"WHERE id < (SELECT max(id) FROM {table}) - ? AND {condition} ORDER BY id LIMIT 100)",
        (keep,),
    )
