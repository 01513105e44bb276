"""Load through the lock with everything real: server, gateways, HL7 v2 senders, a line that is cut and mended."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from load_tests.report.summary import Summary

DEADLINE_S = 240


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_what_hospitals_were_told_is_taken_arrives_once_and_in_order_after_an_outage(tmp_path: Path) -> None:
    changes = ("duration_s=30", "measure_from_s=3", "hospitals=2", "consults.count=2",
               'fault=[{"at_s": 8, "kind": "cut_lock", "for_s": 6}]', "bound=[]")  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load_tests", "lock_traffic", "--workers", "1", "--quiet", "--results", str(tmp_path),
        *(part for one in changes for part in ("--set", one)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE_S):
            said = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    (folder,) = tmp_path.iterdir()
    summary = Summary.model_validate_json((folder / "summary.json").read_text())
    assert not summary.broken, said
    counts, seen = summary.counts, summary.distributions
    assert summary.derived["lock_mismatch"] == 0
    assert counts["lock_taken"] <= counts["lock_crossed"] <= counts["lock_taken"] + counts.get("lock_unsure", 0)
    assert counts["lock_crossed"] > 20
    assert counts.get("lock_out_of_order", 0) == 0
    assert seen["lock_held_ms"].count > 0  # the outage held some up
    assert seen["lock_drain_ms"].count == 2  # each gateway got rid of all of it
    assert seen["lock_drain_ms"].missing == 0
    assert counts["lock_reads"] > 0
    assert (folder / "9-lock.svg").exists()
