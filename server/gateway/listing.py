"""What `consilium gateway status` and `crossings` show, read beside the running program without disturbing it."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

from server.exits import Exit, StartError
from server.gateway.config import Folder
from server.gateway.identity import Identity
from server.gateway.journal_schema import sealed_with, total
from server.gateway.sealing import SealingKeys
from server.gateway.sentences import sentence

QUEUE_LISTED = 200
OLD_US = 15_000_000
"""A status older than this is that of a program that no longer runs, or hangs."""


@contextmanager
def reading(folder: Folder) -> Iterator[sqlite3.Connection]:
    """The journal, for reading only.

    Raises:
        StartError: there is none, or it cannot be read.
    """
    if not folder.journal.exists():
        raise StartError(Exit.DATA_DIR, f"There is no journal in {folder.path}: nothing has crossed here yet.")
    try:
        with closing(sqlite3.connect(f"file:{folder.journal}?mode=ro", uri=True, timeout=5)) as db:
            db.row_factory = sqlite3.Row
            yield db
    except sqlite3.Error as problem:
        raise StartError(Exit.DATABASE, f"{folder.journal} cannot be read: {problem}.") from None


def key_line(folder: Folder, keys: SealingKeys) -> str:
    """Which of the journal's keys are still needed: one that is not may be taken out of the file."""
    with reading(folder) as db:
        needed = sealed_with(db)
    old = [f"{name} for {needed[name]} rows" if needed.get(name) else f"{name} not any more" for name in keys.by_id]
    old.remove(next(one for one in old if one.startswith(keys.newest)))
    return f"Keys     {keys.newest} seals" + (f"; needed: {', '.join(old)}" if old else "")


def status_lines(folder: Folder, identity: Identity) -> list[str]:
    """How the gateway is, in sentences."""
    lines = [
        f"Gateway  {identity.gateway} ({identity.name}), {identity.hospital_name}",
        f"Hub      {identity.origin}",
    ]
    value = _status(folder)
    if value is None or value["code"] == "stopped":
        return [*lines, "Line     Not running. 未运行。"]
    age_us = time.time_ns() // 1_000 - value["at_us"]
    if age_us > OLD_US:
        lines.append(f"Line     Not running, or it hangs: last heard of {age_us // 1_000_000} s ago.")
    said = sentence(value["code"])
    lines.append(f"Line     {said}" + (f" ({value['reason']})" if value["reason"] else ""))
    if value["offset_us"] is not None:
        lines.append(f"Clock    hub {value['offset_us'] / 1_000:+.1f} ms")
    full = "  ALMOST FULL 即将存满" if value["almost_full"] else ""
    lines.append(f"Waiting  {value['waiting']} to the hub ({value['waiting_bytes']} bytes){full}")
    lines.append(
        f"         {value['inward_waiting']} to systems here, {value['parked']} refused by the hub and kept here"
    )
    lines.append(f"Policy   {value['policy']}")
    lines.append(f"Adapters {', '.join(value['adapters']) or 'none'}")
    return lines


def is_connected(folder: Folder) -> bool:
    """Whether the running program said lately that it is."""
    value = _status(folder)
    return value is not None and value["connected"] and time.time_ns() // 1_000 - value["at_us"] <= OLD_US


def crossing_rows(folder: Folder, limit: int) -> list[dict[str, Any]]:
    """What crossed, was refused or was asked, newest first; times in microseconds."""
    with reading(folder) as db:
        outward = db.execute(
            "SELECT 'out' AS direction, id, source, kind, size, state, code, made_us, received_us, journaled_us, "
            "sent_us, hub_received_us, hub_committed_us, acked_us FROM outward ORDER BY id DESC LIMIT ?",
            (limit,),
        ).fetchall()
        inward = db.execute(
            "SELECT 'in' AS direction, id, source, kind, size, state, code, made_us, received_us, journaled_us, "
            "delivered_us FROM inward ORDER BY id DESC LIMIT ?",
            (limit,),
        ).fetchall()
        refused = db.execute(
            "SELECT direction, source, kind, 'refused' AS state, code, reason, at_us AS received_us FROM refusal "
            "ORDER BY id DESC LIMIT ?",
            (limit,),
        ).fetchall()
        asked = db.execute(
            "SELECT 'question' AS direction, consult AS source, type AS kind, coalesce(code, 'asked') AS code, count, "
            "size, took_us, role, organisation, at_us AS received_us FROM question ORDER BY id DESC LIMIT ?",
            (limit,),
        ).fetchall()
        by_hand = db.execute(
            "SELECT 'operator' AS direction, direction AS source, kind, action AS state, reason AS code, crossing, "
            "who, at_us AS received_us FROM operation ORDER BY id DESC LIMIT ?",
            (limit,),
        ).fetchall()
    rows = [dict(row) for row in (*outward, *inward, *refused, *asked, *by_hand)]
    return sorted(rows, key=lambda row: row["received_us"], reverse=True)[:limit]


def queue_lines(folder: Folder) -> list[str]:
    """What waits or was refused, oldest first, then how much of each there is."""
    with reading(folder) as db:
        rows = db.execute(
            "SELECT 'out' AS direction, id, source, kind, size, state, code, received_us FROM outward "
            "WHERE state IN ('pending', 'refused', 'lost') AND sealed IS NOT NULL "
            "UNION ALL SELECT 'in', id, source, kind, size, state, code, received_us FROM inward "
            "WHERE state = 'pending' ORDER BY id LIMIT ?",
            (QUEUE_LISTED,),
        ).fetchall()
        waiting, parked = total(db, "waiting"), total(db, "parked")
    lines = [f"{row['id']:>8}  {crossing_line(dict(row))}" for row in rows]
    if len(rows) == QUEUE_LISTED:
        lines.append(f"... the oldest {QUEUE_LISTED}")
    lines.append(
        f"{waiting[0]} wait for the hub ({waiting[1]} bytes), {parked[0]} refused and kept ({parked[1]} bytes)"
    )
    return lines


def crossing_line(row: dict[str, Any]) -> str:
    """One row for people: when, what, and its time in the lock."""
    at = datetime.fromtimestamp(row["received_us"] / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    what = f"{at}Z {row['direction']:<8} {row['source']:<14} {row['kind']:<18}"
    if row["direction"] == "question":
        return f"{what} {row['code'] or 'answered'}, {row['count'] or 0} resources, {row['took_us'] or 0} us"
    if row["direction"] == "operator":
        return f"{what} {row['state']} of {row['crossing']}, {row['code']}, by {row['who']}"
    said = row["state"] + (f" ({row['code']})" if row["code"] else "")
    if "id" in row:
        said = f"#{row['id']} {said}"
    if "reason" in row:
        return f"{what} {said} {row['reason']}"
    return f"{what} {said:<14} {row['size']} bytes{_lock_time(row)}"


def _lock_time(row: dict[str, Any]) -> str:
    """From the moment the source had handed it over to the moment the other side had it durably, one clock."""
    until = row.get("acked_us") or row.get("delivered_us")
    if not until:
        return ""
    parts = [f"in lock {until - row['received_us']} us", f"journal {row['journaled_us'] - row['received_us']}"]
    if row.get("sent_us"):
        parts.append(f"waited {row['sent_us'] - row['journaled_us']}")
        parts.append(f"hub {row['hub_committed_us'] - row['hub_received_us']}")
    return f"  {', '.join(parts)}"


def _status(folder: Folder) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(folder.status.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value
