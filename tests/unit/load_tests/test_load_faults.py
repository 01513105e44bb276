"""Faults of a load run and what comes after: curves, what must be kept, a clock that jumps, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from load_tests.plan.line import Line
from load_tests.plan.reading import Exit, RunError, parse_scenario
from load_tests.report.ledger import Ledger
from load_tests.report.recovery import rank, reached, recoveries
from load_tests.run import guard
from load_tests.run.faults import FILLER_BYTES
from load_tests.run.guard import RunFolder, sweep, write_step
from load_tests.run.kept import Asked
from load_tests.run.kept_process import Found, Stored, check_actions, compare
from load_tests.run.subject import STEPPED
from load_tests.session import waves
from load_tests.session.path import Path as LinePath
from media.core.waveform import Flag, WaveformFrame, split_message
from server.storage import audit
from server.storage.database import Database
from server.storage.models import Base, ChainHead
from server.waveforms.core.breaks import Break

DEADLINE_S = 60
SCENARIO = {"name": "x", "about": "", "duration_s": 9, "population": [{"behaviour": "doctor"}]}
FRAME_US = 100_000


# ------------------------------------------------------------- the curve after a fault


def looks(pictures: list[float]) -> list[tuple[float, list[float]]]:
    """Ten sessions, looked at twice a second from second 8 on; so many have a picture."""
    return [(8 + step / 2, [10, 10, have, 10, 10, 10]) for step, have in enumerate(pictures)]


def test_a_share_is_back_from_when_on_it_held() -> None:
    pictures = [10.0] * 4 + [0, 0, 5, 4, 5, 9, 10, 10, 10, 10]
    outages = {"picture": [(12.0, number, 2.0) for number in range(9)] + [(30.0, 3, 1.0)]}
    turns = [(0, 9.0, 9.1), (0, 10.5, 12.5), (0, 12.0, 12.6), (1, 11.0, 11.25)]
    (one,) = recoveries([(10.0, "kill_worker")], 17.0, looks(pictures), outages, turns, 3)
    assert (one.picture.had, one.picture.lowest) == (10, 0)
    # Half had it at second 1, but not at 1.5: it held from 2 on.
    assert (one.picture.half_s, one.picture.most_s, one.picture.all_s, one.picture.never) == (2.0, 3.0, 3.0, 0)
    assert (one.picture.outages, one.picture.p50_s, one.picture.max_s) == (9, 2.0, 2.0)  # the later one is another's
    assert (one.wave.lowest, one.wave.all_s, one.wave.outages) == (1, 0, 0)
    assert (one.events.consults, one.events.never, one.events.p50_s, one.events.max_s) == (3, 1, 1.25, 2.5)


def test_who_is_not_back_before_the_next_fault_never_was() -> None:
    found = recoveries([(12.0, "cut"), (10.0, "loss")], 15.0, looks([10.0] * 4 + [8, 7] + [10] * 10), {}, [], 0)
    assert [(one.kind, one.at_s, one.until_s) for one in found] == [("loss", 10, 12), ("cut", 12, 14)]
    assert (found[0].picture.half_s, found[0].picture.all_s) == (0, 1.0)
    (one,) = recoveries([(10.0, "loss")], 12.5, looks([10.0] * 4 + [8, 7]), {}, [], 0)
    assert (one.picture.half_s, one.picture.most_s, one.picture.all_s, one.picture.never) == (0, None, None, 3)


def test_ranks_and_shares_of_nothing() -> None:
    assert (rank([], 50), rank([1, 2, 3], 50), rank([1, 2, 3], 99), rank([1, 2, 3], 100)) == (None, 2, 3, 3)
    assert reached([], 0.5) is None


# ------------------------------------------------------------- what must be kept


def frame(seq: int, numbering: int = 5, version: int = 3, at_us: int | None = None) -> WaveformFrame:
    """What an archive gives back, as far as it is compared."""
    made: Any = object.__new__(WaveformFrame)
    for name, value in (
        ("stream_id", 7), ("seq", seq), ("numbering", numbering), ("context_version", version),
        ("t0_ns", (seq * FRAME_US if at_us is None else at_us) * 1000),
    ):  # fmt: skip
        object.__setattr__(made, name, value)
    return made  # type: ignore[no-any-return]


def compared(frames: list[WaveformFrame], gaps: list[tuple[int, int]], count: int = 100) -> dict[str, int]:
    found = Found()
    breaks = [Break(first * FRAME_US, (last + 1) * FRAME_US, "gap") for first, last in gaps]
    compare([(0, 7, 5, 3, count, 0, FRAME_US)], Stored(frames, breaks), found)
    assert bool(found.examples) == bool(found.counts["wave_silent"] or found.counts["wave_invented"])
    return {"wave_silent": 0, "wave_invented": 0, **found.counts}


def test_a_missing_frame_is_a_gap_that_is_shown_or_a_silent_loss() -> None:
    whole = [frame(seq) for seq in range(100)]
    assert compared(whole, []) == {"wave_frames": 100, "wave_kept": 100, "wave_silent": 0, "wave_invented": 0}
    holed = whole[:40] + whole[50:]
    assert compared(holed, [(40, 49)])["wave_in_gaps"] == 10
    assert compared(holed, [(40, 48)])["wave_silent"] == 1  # a gap that is shown too short
    assert compared(holed, [])["wave_silent"] == 10
    assert compared([], [])["wave_silent"] == 60  # nothing at all is no matter of what was on its way


def test_what_is_on_its_way_at_an_end_is_two_seconds_and_no_more() -> None:
    whole = [frame(seq) for seq in range(100)]
    assert compared(whole[3:95], [])["wave_at_ends"] == 8
    assert compared(whole[:70], []) == {
        "wave_frames": 100, "wave_kept": 70, "wave_at_ends": 20, "wave_silent": 10, "wave_invented": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [frame(0), frame(100), frame(0, numbering=6), frame(0, version=4), frame(0, at_us=5)]
)  # fmt: skip
def test_what_nobody_measured_so_is_invented(wrong: WaveformFrame) -> None:
    assert compared([*(frame(seq) for seq in range(100)), wrong], [])["wave_invented"] == 1


async def test_what_was_acknowledged_stands_in_the_log_once(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'log.db'}")
    turns = [audit.Entry(kind="page_turned", at_ms=1, consult_id=consult, body={"view": {"page": "labs", "item": item}})
             for consult, item in (("c0", "load-1"), ("c0", "load-2"), ("c1", "load-2"), ("c1", "load-2"))]  # fmt: skip
    bound = audit.Entry(kind="device_bound", at_ms=1, consult_id="c0", body={"binding": {"device": "d"}})
    try:
        async with database.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with database.write() as session:
            session.add(ChainHead(id=1, seq=0, hash=b""))
            await session.flush()
            await audit.append(session, [*turns, bound, bound])
        found = Found()
        # fmt: off
        acks = [("page_turned", 0, "load-1", 1.0), ("page_turned", 0, "load-2", 1.0), ("page_turned", 1, "load-2", 1.0),
                ("page_turned", 1, "load-1", 1.0), ("device_bound", 0, "d", 1.0), ("note_put", 0, "load-9", 1.0)]
        # fmt: on
        await check_actions(database, Asked(consults=("c0", "c1"), acks=tuple(acks), waves=()), found)
    finally:
        await database.close()
    # A device may be bound again; a page is turned once; what was never said to be done may be there or not.
    assert found.counts == {"acks_checked": 6, "acks_lost": 2, "acks_doubled": 1}
    assert sorted(found.examples) == [
        "acks_doubled: page_turned c1 load-2", "acks_lost: note_put c0 load-9", "acks_lost: page_turned c1 load-1",
    ]  # fmt: skip


async def test_a_device_goes_on_measuring_without_a_path_and_sends_it_behind_the_live_frames() -> None:
    ledger, sent = Ledger(), []
    source = waves.Source(2, 7, 3, ledger, "s")
    source.attach(lambda message: not sent.append(message))
    source.close()
    for step in range(12):
        if step == 3:
            source.detach()
        if step == 8:
            source.attach(lambda message: not sent.append(message))
        source._frame()
        source.close()
    assert sorted({split_message(message)[0].seq for message in sent}) == list(range(12))
    again = [split_message(message)[0].seq for message in sent if message[3] & Flag.RESEND]
    assert again == [3, 4, 5, 6, 7]
    consult, stream, _, version, frames, _, frame_us = ledger.waves[-1]
    assert (consult, stream, version, frames, frame_us) == (2, 7, 3, 12, FRAME_US)


# ------------------------------------------------------------- what can be broken


def test_a_fault_of_what_is_not_there_is_a_mistake() -> None:
    for fault, server, said in (
        ({"at_s": 1, "kind": "kill_redis"}, {}, "kill_redis needs [server] redis = true"),
        ({"at_s": 1, "kind": "fill_disk"}, {"redis": True}, "fill_disk needs [server] drive_mb"),
        ({"at_s": 1, "kind": "kill_redsi"}, {}, "kill_redis"),
        ({"at_s": 1, "kind": "cut"}, {"nodes": 2}, "several nodes find each other by redis"),
        ({"at_s": 1, "kind": "cut"}, {"node": 2}, "Did you mean 'nodes'?"),
    ):
        with pytest.raises(RunError, match=r"x\.toml: ") as mistake:
            parse_scenario({**SCENARIO, "fault": [fault], "server": server}, "x.toml")
        assert said in str(mistake.value)
        assert mistake.value.exit_code == Exit.ARGUMENTS


async def test_loss_comes_on_top_of_a_line_and_ends() -> None:
    ledger, came = Ledger(), []
    line = LinePath(Line(), "s", ledger)
    assert line.perfect
    line.set_loss(0.5)
    assert not line.perfect
    for _ in range(1000):
        line.send(b"x", lambda datagram: not came.append(datagram))
    assert 400 < ledger.counts["line_lost"] < 600  # by the seed "s", always the same
    async with asyncio.timeout(DEADLINE_S):
        while ledger.counts["line_lost"] + len(came) < 1000:
            await asyncio.sleep(0)
    line.set_loss(0.0)
    assert line.perfect


class Carrier:
    """Stands for what carries datagrams instead of the path."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def set_cut(self, cut: bool) -> None:
        self.told.append(cut)

    def set_loss(self, share: float) -> None:
        self.told.append(share)

    def close(self) -> None:
        self.told.append(-1)


async def test_whoever_carries_a_line_is_told_what_becomes_of_it() -> None:
    line, carrier = LinePath(Line(), "s", Ledger()), Carrier()
    line.carrier = carrier
    line.set_cut(True)
    line.set_loss(0.25)
    line.set_cut(False)
    line.close()
    assert carrier.told == [True, 0.25, False, -1]


def test_a_clock_jumps_in_a_process_that_runs_and_monotonic_ones_stay(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    write_step(clock, 0)
    look = "print(time.time(), time.time_ns() / 1e9, time.clock_gettime(0), time.monotonic(), flush=True)"
    program = f"import time\nfor _ in range(3):\n  input()\n  {look}"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "LOAD_CLOCK": str(clock), "PYTHONPATH": str(STEPPED)},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    for step_s in (0, -3600, 86_400):
        write_step(clock, step_s)
        process.stdin.write("\n")
        process.stdin.flush()
        *walls, monotonic = map(float, process.stdout.readline().split())
        assert all(abs(wall - time.time() - step_s) < DEADLINE_S for wall in walls)
        assert abs(monotonic - time.monotonic()) < DEADLINE_S
    process.communicate()


def test_a_drive_is_filled_to_its_last_byte_and_no_other(tmp_path: Path) -> None:
    program = (
        "import sys, os, pathlib; from load_tests.run.guard import mount_small, unmount\n"
        "from load_tests.run.faults import fill\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "try: mount_small(folder, 2)\n"
        "except OSError as problem: sys.exit(f'cannot mount: {problem}')\n"
        "fill(folder / 'filler')\n"
        "try: (folder / 'more').write_bytes(b'x' * 5000); print('room')\n"
        "except OSError as problem: print(problem.strerror, (folder / 'filler').stat().st_size)\n"
        "unmount(folder)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "drive")], capture_output=True, text=True, timeout=DEADLINE_S
    )
    if "cannot mount" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout.startswith("No space left on device"), done.stderr
    assert int(done.stdout.split()[-1]) > FILLER_BYTES
    assert not list((tmp_path / "drive").iterdir())  # it was mounted for that process only


# ------------------------------------------------------------- nothing is left behind


def test_a_child_ends_when_its_run_is_killed() -> None:
    program = (
        "import subprocess, sys, time; from load_tests.run.guard import ends_with_us\n"
        "child = subprocess.Popen(['sleep', '600'], preexec_fn=ends_with_us(), start_new_session=True)\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    child = int(run.stdout.readline())
    run.send_signal(signal.SIGKILL)
    run.communicate()
    deadline = time.monotonic() + DEADLINE_S
    while is_there(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_there(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_the_next_run_removes_what_a_dead_one_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / f"{guard.PREFIX}dead"
    dead.mkdir()
    (dead / guard.LOCK).touch()
    alive = RunFolder()
    assert not dead.exists()
    (alive.path / "data").touch()
    sweep()
    assert (alive.path / "data").exists()  # its lock is held
    alive.remove()
    assert not list(tmp_path.iterdir())
