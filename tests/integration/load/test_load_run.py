"""A load run as an engineer starts it: a server of its own, simulated sessions on the real wire, Ctrl-C, the report."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from load_tests.plan.reading import Exit
from load_tests.report.histogram import Histogram
from load_tests.report.summary import Summary
from load_tests.run.limits import allowed_target
from load_tests.run.link import STRANGER_BYTES, Link, LinkLost, greet, new_key, read_key

DEADLINE_S = 240
SCENARIO = """
name = "tiny"
about = "Three people and a monitor."
duration_s = 115
sign_in = false
record_resources = 25
[[population]]
behaviour = "doctor"
change = { turn_every_s = 0.3, page_every_s = 0.5 }
[[population]]
behaviour = "partner_doctor"
line = "province"
[[population]]
behaviour = "wall_video"
[[population]]
behaviour = "bedside_monitor"
[[bound]]
figure = "joins_share"
percentile = "value"
at_least = 1
"""


async def play(scenario: Path, results: Path) -> tuple[int, str]:
    """Run it until everybody is there and packets flow, then Ctrl-C; exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load_tests", str(scenario), "--workers", "1", "--results", str(results),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    said: list[str] = []
    flowing = 0
    try:
        async with asyncio.timeout(DEADLINE_S):
            while line := (await process.stdout.readline()).decode():
                said.append(line)
                found = re.search(r"4/4 joined, 4 complete, 8/8 tracks, (\d+) packets/s", line)
                if found is not None and int(found[1]) > 100:
                    flowing += 1
                    if flowing == 3:
                        process.send_signal(signal.SIGINT)
            return await process.wait(), "".join(said)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.timeout(300)
async def test_a_run_measures_what_its_sessions_saw_and_ctrl_c_keeps_it(tmp_path: Path) -> None:
    scenario = tmp_path / "tiny.toml"
    scenario.write_text(SCENARIO)
    code, said = await play(scenario, tmp_path / "results")
    assert code == Exit.INTERRUPTED, said
    (folder,) = (tmp_path / "results").iterdir()
    summary = Summary.model_validate_json((folder / "summary.json").read_text())

    assert summary.interrupted
    assert not summary.broken
    counts, seen = summary.counts, summary.distributions
    assert (counts["joins_tried"], counts["joins_done"]) == (4, 4)
    # Each doctor has the other's picture and sound, the wall those of both.
    assert counts["tracks_expected"] == counts["tracks_received"] == 8
    assert seen["forward_ms"].count > 0  # of the doctor on the perfect line
    assert counts["rtp_out"] > 0
    assert counts["frames_in"] > 0
    assert counts["ecg_in"] > 0
    assert counts["vitals_out"] > 0  # beside the waveform, as the device program sends them
    assert counts["vitals_in"] > 0
    assert counts.get("ecg_refused", 0) == counts.get("ecg_twice", 0) == 0
    assert seen["ecg_age_ms"].p50 is not None
    assert seen["ecg_age_ms"].p50 >= 100  # a frame holds 100 ms
    assert seen["event_ms"].count > 0
    assert counts["pages_read"] > 0
    assert counts.get("event_holes", 0) == 0  # [CO3]: nothing was missed, so nothing was asked for again
    assert not [kind for kind in summary.errors if kind.startswith("bug")]
    assert (summary.derived["ghosts"], summary.derived["ghost_consults"]) == (0, 1)  # [CO7]
    assert summary.derived["server_cores"]
    full = json.loads((folder / "histograms.json").read_text())
    assert Histogram.decode(full["join_ms"]).count == 4
    assert (folder / "report.html").stat().st_size > 10_000


async def test_generators_talk_to_nobody_without_the_key_and_send_nowhere_else() -> None:
    key, other = read_key(new_key()), read_key(new_key())
    links: asyncio.Queue[Link] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        links.put_nowait(await greet(reader, writer, key, coordinator=False))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        for shown in (key, other):
            mine = await greet(*await asyncio.open_connection("127.0.0.1", port), shown, coordinator=True)
            theirs = await links.get()
            await mine.send({"do": "stop"})
            if shown is key:
                assert (await theirs.receive())["do"] == "stop"
                await mine.send({"do": "stop", "bytes": bytes(STRANGER_BYTES)})
                assert len((await theirs.receive())["bytes"]) == STRANGER_BYTES  # from a friend a long frame is fine
                await theirs.send({"is": "done"})
                assert await mine.receive() == {"is": "done"}
            else:
                with pytest.raises(LinkLost, match="another key"):
                    await theirs.receive()
            await mine.close()
            await theirs.close()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes(16) + (STRANGER_BYTES + 1).to_bytes(4, "big"))
        with pytest.raises(LinkLost, match="too long"):
            await (await links.get()).receive()
        writer.close()
    assert await allowed_target("http://127.0.0.1:8440", frozenset())
    assert await allowed_target("http://192.0.2.7:8440", frozenset({"192.0.2.7"}))
    assert not await allowed_target("http://192.0.2.7:8440", frozenset())
