"""All nine faults in one run, all of it real: each took place, people came back, nothing clinical was lost."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from load_tests.plan.reading import Exit
from load_tests.report.summary import NOTHING_LOST, Summary
from load_tests.run.guard import command_of

DEADLINE_S = 280
BACK = 3
"""Lines of progress that say so: two of them a second apart may be of one look."""
SCENARIO = """
name = "nine"
about = "Everything breaks in turn beside one consult."
duration_s = 250
sign_in = false
record_resources = 10
[server]
redis = true
drive_mb = 128
[[population]]
behaviour = "doctor"
change = { turn_every_s = 0.4, note_every_s = 1.5 }
[[population]]
behaviour = "partner_doctor"
[[population]]
behaviour = "bedside_monitor"
[[population]]
behaviour = "wall_ecg"
"""
FAULTS = (
    ("kill_worker", 8, 1), ("restart_redis", 17, 1), ("kill_redis", 23, 2), ("stall_database", 31, 2),
    ("fill_disk", 39, 3), ("step_clock", 47, 3), ("loss", 54, 3), ("cut", 60, 2), ("kill_server", 66, 1),
)  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(DEADLINE_S + 20)
async def test_each_fault_takes_place_and_nothing_that_was_acknowledged_is_lost(tmp_path: Path) -> None:
    if command_of("redis-server") is None:
        pytest.skip("redis-server is not installed")
    text = SCENARIO + "".join(f'[[fault]]\nat_s = {at}\nkind = "{kind}"\nfor_s = {long}\n' for kind, at, long in FAULTS)
    (tmp_path / "nine.toml").write_text(text)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load_tests", str(tmp_path / "nine.toml"), "--workers", "1", "--processes", "1",
        "--results", str(tmp_path / "results"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    said, back = "", 0
    try:
        async with asyncio.timeout(DEADLINE_S):
            while line := (await process.stdout.readline()).decode():
                said += line
                # Ended by Ctrl-C when everybody is back after the last fault, however long the server takes to start.
                back += (
                    "fault: kill_server" in said
                    and "is in its place" in said.rpartition("fault: ")[2]
                    and (re.search(r"4/4 joined, .* [1-9][0-9]* packets/s", line) is not None)
                )
                if back == BACK:
                    process.send_signal(signal.SIGINT)
                    back += 1
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    (folder,) = (tmp_path / "results").iterdir()
    summary = Summary.model_validate_json((folder / "summary.json").read_text())
    assert process.returncode == Exit.INTERRUPTED, said
    assert not summary.broken, said
    not_here = [note for note in summary.notes if "was not done" in note]
    assert all("cannot be mounted" in note for note in not_here), not_here
    proofs = {one.kind: one.proof for one in summary.recoveries}
    assert [*proofs] == [kind for kind, _, _ in FAULTS if kind != "fill_disk" or not not_here]
    for kind, words in (
        ("kill_worker", "is gone"), ("restart_redis", "is in its place"), ("kill_redis", "is in its place"),
        ("stall_database", "another writer turned away"), ("fill_disk", "nothing more went on the drive"),
        ("step_clock", "was off by 3"), ("loss", "lines of 4 sessions"), ("cut", "lines of 4 sessions"),
        ("kill_server", "is in its place"),
    ):  # fmt: skip
        assert words in proofs.get(kind, words), proofs
    # What was acknowledged stands in the store, once, and no waveform is missing without a word. [CO1]
    assert summary.derived["acks_checked"], summary.notes
    assert summary.derived["wave_kept"], summary.notes
    assert {name: summary.derived[name] for name in NOTHING_LOST} == dict.fromkeys(NOTHING_LOST, 0), summary.notes
    assert summary.recoveries[-1].joined.never == 0
    assert len([one for one in folder.iterdir() if one.name.startswith("6-recovery")]) == len(proofs)
