"""A fault of a load run took place, or is not said to have: each is shown by what it did."""

from __future__ import annotations

import contextlib
import email.utils
import os
import re
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any, cast

import pytest
import redis.asyncio as redis
from aiohttp import web

from load_tests.plan.scenario import Fault
from load_tests.run import faults, guard
from load_tests.run.crew import Hand
from load_tests.run.faults import KINDS, Breaker, NotDone, fill, is_full
from load_tests.run.kept import Asked
from load_tests.run.kept_process import check
from load_tests.run.services import Redis
from server.app import check_schema, prepare_data_dir
from server.settings import load_settings
from server.storage import audit
from server.storage.database import Database


class Owned:
    """A server of the run's own, as far as a fault takes hold of it."""

    def __init__(self, folder: Path) -> None:
        self.data_dir, self.no_drive, self.postgres = folder, "", None
        self.redis = Redis()
        self.off_s, self.moves, self.origin = 0.0, True, ""
        self.worker: int | None = None

    def step_clock(self, off_s: float) -> None:
        self.off_s = off_s if self.moves else 0.0

    def kill_worker(self) -> int | None:
        return self.worker

    async def date(self, _request: web.Request) -> web.Response:
        return web.Response(headers={"Date": email.utils.formatdate(time.time() + self.off_s, usegmt=True)})


async def broken(server: object, kind: Any) -> str:
    """What proves the fault."""
    return await KINDS[kind](cast("Any", server), Fault(at_s=1, kind=kind, for_s=0.05))


async def test_redis_is_really_another_process_and_empty(tmp_path: Path) -> None:
    if guard.command_of("redis-server") is None:
        pytest.skip("redis-server is not installed")
    owned = Owned(tmp_path)
    try:
        await owned.redis.start()
        for kind in ("restart_redis", "kill_redis"):
            before = owned.redis.pid
            async with redis.Redis.from_url(owned.redis.url) as client:
                await client.set("there", "before")
            assert (await broken(owned, kind)).startswith(f"redis {before} is gone, {owned.redis.pid} is in its place")
            assert owned.redis.pid != before
            async with redis.Redis.from_url(owned.redis.url) as client:
                assert await client.get("there") is None
    finally:
        owned.redis.stop()


async def test_a_database_is_really_locked_for_whoever_else_writes(tmp_path: Path) -> None:
    file = tmp_path / "consilium.db"
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE t (x)")
    assert await broken(Owned(tmp_path), "stall_database") == (
        "the write lock was held for 0.05 s, and another writer turned away"
    )
    with contextlib.closing(sqlite3.connect(file, timeout=0)) as db, db:
        db.execute("INSERT INTO t VALUES (1)")  # it was given back


async def test_a_clock_that_did_not_move_is_no_fault(tmp_path: Path) -> None:
    owned, app = Owned(tmp_path), web.Application()
    app.router.add_get("/readyz", owned.date)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        owned.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
        assert re.match(r"the server's own Date was off by 3(600|59\d) s", await broken(owned, "step_clock"))
        assert owned.off_s == 0  # it is set back
        owned.moves = False
        with pytest.raises(NotDone, match="the server's own Date was off by"):
            await broken(owned, "step_clock")
    finally:
        await runner.cleanup()
    with pytest.raises(NotDone, match="nothing that it said"):
        await broken(owned, "step_clock")


async def test_a_process_that_is_still_there_was_not_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "ANSWER_S", 0.05)
    owned = Owned(tmp_path)
    with pytest.raises(NotDone, match="there is no media worker"):
        await broken(owned, "kill_worker")
    owned.worker = os.getpid()
    with pytest.raises(NotDone, match=f"{os.getpid()} is still there"):
        await broken(owned, "kill_worker")
    gone = subprocess.Popen(["true"])
    gone.wait()
    owned.worker = gone.pid
    assert "is gone" in await broken(owned, "kill_worker")
    mine, another = os.getpid(), os.getppid()
    for before, after in ((mine, gone.pid), (mine, mine), (mine, another), (gone.pid, None), (None, mine)):
        with pytest.raises(NotDone, match="still there or has no successor"):
            faults._replaced("server", before, after)
    assert faults._replaced("server", gone.pid, mine).endswith(f"{mine} is in its place")


def test_a_drive_that_cannot_be_filled_was_not_full_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotDone, match="cannot be written: No such file"):
        fill(tmp_path / "no" / "folder")
    assert not is_full(tmp_path)
    assert not list(tmp_path.iterdir())  # the probe is gone


async def test_a_fault_of_lines_has_met_those_who_were_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "ANSWER_S", 0.05)
    told: list[dict[str, Any]] = []

    class Line:
        async def send(self, order: dict[str, Any]) -> None:
            told.append(order)
            hand.met.put_nowait(there)

    hand = Hand("x", cast("Any", Line()), numbers=[0, 1, 2])
    breaker, there = Breaker(cast("Any", object()), [hand], [0, 1, 2], 1), 3
    assert await breaker.carry_out(Fault(at_s=1, kind="cut")) == "the lines of 3 sessions"
    assert told[0]["numbers"] == [0, 1, 2]
    there = 0
    with pytest.raises(NotDone, match="no session was there"):
        await breaker.carry_out(Fault(at_s=1, kind="loss"))
    with pytest.raises(NotDone, match="only a server that the run started itself"):
        await breaker.carry_out(Fault(at_s=1, kind="kill_server"))


async def test_an_event_log_that_somebody_changed_is_reported_as_broken(tmp_path: Path) -> None:
    """The data folder is opened as after a run; then one row says something else, then the last is gone."""
    settings = load_settings(data_dir=tmp_path)
    prepare_data_dir(settings.data_dir)
    database = Database(settings.database)
    try:
        await check_schema(database)
        async with database.write() as session:
            await audit.append(session, [audit.Entry(kind="x", at_ms=n, body={"n": n}) for n in range(9)])
    finally:
        await database.close()
    asked = Asked(consults=(), acks=(), waves=())
    whole = await check(tmp_path, asked)
    assert (whole.chain_broken, whole.chain_rows, whole.examples) == (0, 9, ())
    assert database.file is not None
    for change, said in (
        ("UPDATE event SET body = '{\"n\":77}' WHERE seq = 5", "at row 5"),
        ("UPDATE event SET body = '{\"n\":4}' WHERE seq = 5", ""),
        ("DELETE FROM event WHERE seq = 9", "at row "),
    ):
        with contextlib.closing(sqlite3.connect(database.file)) as db, db:
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                db.execute(f'DROP TRIGGER "{name}"')  # who changes a log takes away what keeps him from it
            db.execute(change)
        found = await check(tmp_path, asked)
        assert found.chain_broken == bool(said)
        assert any(said in one for one in found.examples) == bool(said)
