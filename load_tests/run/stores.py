"""What a server of ours has written and said: rows and bytes of its database, of its archive, and redis's own counts.

Looked at before and after a run, the difference is what the run cost in stores (`Record.stores`). Rows are counted one
by one, tables and indexes by the pages they take; redis counts its commands, bytes and CPU itself (INFO).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import psycopg
import redis.asyncio as redis

from load_tests.run.subject import OwnServer

DATABASE = "consilium.db"
COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
OWN_COMMANDS = frozenset({"info", "ping", "hello", "client|setinfo", "auth", "select", "config"})
"""Of connecting and of looking, not of the hub's work."""


async def stock(server: OwnServer) -> dict[str, float]:
    """Totals now; differences of two say what happened between."""
    found = _files(server.data_dir)
    if server.postgres is not None:
        found |= await _postgres(server.postgres.url)
    else:
        found |= _sqlite(server.data_dir / DATABASE)
    if server.redis is not None:
        found |= await _redis(server.redis.url)
    return found


def _sqlite(path: Path) -> dict[str, float]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: db.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}  # noqa: S608 - ours
        (pages,), (size,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    return {"db_rows": float(sum(rows.values())), "db_events": float(rows.get("event", 0)), "db_bytes": pages * size}


async def _postgres(url: str) -> dict[str, float]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as db:
        answer = await db.execute("SELECT relname FROM pg_stat_user_tables")
        tables = [str(name) for (name,) in await answer.fetchall()]
        rows = {}
        for name in tables:
            row = await (await db.execute(f'SELECT count(*) FROM "{name}"')).fetchone()  # noqa: S608 - ours
            rows[name] = float(row[0]) if row else 0.0
        size = await (await db.execute("SELECT pg_database_size(current_database())")).fetchone()
        done = await (await db.execute(COMMITS)).fetchone()
    return {
        "db_rows": sum(rows.values()), "db_events": rows.get("event", 0.0), "db_bytes": float(size[0]) if size else 0.0,
        "db_commits": float(done[0]) if done else 0.0,
    }  # fmt: skip


async def _redis(url: str) -> dict[str, float]:
    client = redis.Redis.from_url(url, socket_timeout=5)
    try:
        everything = await client.info("everything")
    finally:
        await client.aclose()
    commands = {
        name.removeprefix("cmdstat_"): float(one["calls"])
        for name, one in everything.items()
        if name.startswith("cmdstat_")
    }
    ours = {name: calls for name, calls in commands.items() if name not in OWN_COMMANDS}
    found = {f"redis_{name.replace('|', '_')}": calls for name, calls in ours.items()}
    return found | {
        "redis_commands": sum(ours.values()),
        "redis_in_bytes": float(everything["total_net_input_bytes"]),
        "redis_out_bytes": float(everything["total_net_output_bytes"]),
        "redis_cpu_s": float(everything["used_cpu_user"]) + float(everything["used_cpu_sys"]),
    }


def _files(data_dir: Path) -> dict[str, float]:
    archive = data_dir / "waveforms"
    sizes = [_size(Path(place) / name) for place, _, names in os.walk(archive) for name in names]
    return {"archive_bytes": float(sum(sizes))}


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0
