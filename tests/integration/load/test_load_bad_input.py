"""What cannot be measured is said in a sentence with an exit code, and what was measured until then is kept."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest
from aiohttp import web

from load_tests.plan.reading import Exit, RunError, parse_scenario
from load_tests.plan.timetable import files_for
from load_tests.report.summary import Summary
from load_tests.run.conduct import ENDED_EARLY
from load_tests.run.crew import crew
from load_tests.run.running import SILENT_S, RunningServer
from load_tests.run.subject import Choice, subject
from load_tests.session.world import ConsultSecrets, World, needs_of

DEADLINE_S = 240
ROOT = Path(__file__).parents[3]
SCENARIO = parse_scenario(
    {"name": "x", "about": "", "duration_s": 9, "sign_in": False, "population": [{"behaviour": "doctor"}]}, "x"
)
WORLD = World(
    password="secret", consults=(
        ConsultSecrets(id="c", patient="p", identifiers=("a", "b"), doctors=("d", "e"), partner_doctors=(), rooms=(),
                       devices=(), screens=(), cookies={"d": "x", "e": "x"}),
    ),
)  # fmt: skip


@contextlib.asynccontextmanager
async def somebodys_server(theirs: str, *, knows: bool = False) -> AsyncIterator[str]:
    """Ready, of a version (of none: a page), and knows nobody or all who ask."""

    async def ready(_request: web.Request) -> web.Response:
        return web.Response()

    async def config(_request: web.Request) -> web.Response:
        return web.Response(text=theirs) if theirs.startswith("<") else web.json_response({"version": theirs})

    async def token(_request: web.Request) -> web.Response:
        if knows:
            return web.json_response({"token": "t"})
        return web.json_response({"error": {"code": "not_signed_in"}}, status=401)

    app = web.Application()
    app.router.add_get("/readyz", ready)
    app.router.add_get("/nothing", ready)
    app.router.add_get("/api/config", config)
    app.router.add_post("/api/consults/c/token", token)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    finally:
        await runner.cleanup()


async def refused(origin: str, world: Path | None) -> RunError:
    with pytest.raises(RunError) as why:
        async with subject(Choice(origin, world), needs_of(SCENARIO), SCENARIO):
            pytest.fail("it began")
    return why.value


async def test_figures_that_were_asked_for_and_cannot_be_had_and_what_is_no_server_are_named(tmp_path: Path) -> None:
    file = tmp_path / "world.json"
    file.write_text(WORLD.model_dump_json())
    async with somebodys_server(version("consilium"), knows=True) as origin:
        for metrics, said in (
            (f"{origin}/nothing", "are no figures of a Consilium server"), ("http://127.0.0.1:1/metrics", "No figures"),
        ):  # fmt: skip
            with pytest.raises(RunError, match=said) as why:
                async with subject(Choice(origin, file, metrics), needs_of(SCENARIO), SCENARIO):
                    pytest.fail("it began")
            assert why.value.exit_code == Exit.SERVER
        async with subject(Choice(origin, file), needs_of(SCENARIO), SCENARIO) as running:
            assert isinstance(running, RunningServer)
            assert await running.trouble() == ""
            origin_now, running.origin = running.origin, "http://127.0.0.1:1"
            assert await running.trouble() == ""  # not for one answer that did not come
            running._answered_s -= SILENT_S + 1
            assert re.fullmatch(r"The server has not answered for 2\d s\.", await running.trouble())
            running.origin = origin_now
            assert await running.trouble() == ""
    async with somebodys_server("<html>") as origin:
        assert "is no Consilium server" in str(await refused(origin, file))


async def test_a_server_that_cannot_be_measured_is_named(tmp_path: Path) -> None:
    file, small, none = tmp_path / "world.json", tmp_path / "small.json", tmp_path / "none.json"
    file.write_text(WORLD.model_dump_json())
    small.write_text(World(password="x", consults=()).model_dump_json())
    async with somebodys_server(version("consilium")) as origin:
        for world, code, said in (
            (file, Exit.CREDENTIALS, r"The server does not know the world's accounts: 401 not_signed_in\."),
            (small, Exit.CREDENTIALS, r"The world file does not fit: it has 0 consults, the scenario needs 1\."),
            (none, Exit.CREDENTIALS, r"none\.json is no world file: .*No such file"),
            (None, Exit.ARGUMENTS, r"--against needs --world"),
        ):
            why = await refused(origin, world)
            assert (why.exit_code, bool(re.search(said, str(why)))) == (code, True), why
    assert (await refused(origin, file)).exit_code == Exit.SERVER  # it is gone
    async with somebodys_server("0.0.1") as origin:
        why = await refused(origin, file)
    assert why.exit_code == Exit.SERVER
    assert str(why) == f"The server is of version 0.0.1, this program of {version('consilium')}."


async def test_generators_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, agent, code in (
        ("", "127.0.0.1:1", Exit.ARGUMENTS), ("ab" * 32, "127.0.0.1:1", Exit.GENERATOR),
        ("ab" * 32, "nowhere", Exit.ARGUMENTS),
    ):  # fmt: skip
        monkeypatch.setenv("CONSILIUM_LOAD_KEY", key)
        with pytest.raises(RunError) as why:
            async with crew(1, [agent]):
                pytest.fail("it began")
        assert why.value.exit_code == code


def test_a_full_disk_costs_the_report_and_not_the_figures(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[2])\n"
        "from load_tests.run.guard import mount_small\n"
        "from load_tests.run.faults import fill\n"
        "from load_tests.run import command, saying\n"
        "from load_tests.plan.reading import RunError\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "try: mount_small(folder, 1)\n"
        "except OSError as problem: sys.exit(f'cannot mount: {problem}')\n"
        "try: saying.check_room(folder)\n"
        "except RunError as problem: print(problem.exit_code, problem)\n"
        "fill(folder / 'filler')\n"
        "from tests.unit.load_tests.test_load_report import record\n"
        "from load_tests.report.digest import summarise\n"
        "sys.exit(command.finish(record(), summarise(record(), same_host=True), folder))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "drive"), str(ROOT)], capture_output=True, text=True,
        timeout=DEADLINE_S,
    )  # fmt: skip
    if "cannot mount" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == Exit.STORAGE, done.stderr
    assert re.match(rf"{Exit.STORAGE:d} .* has [01] MB left, a report needs 50\.", done.stdout)
    said = re.search(r"The report cannot be written: .*No space left.* It is in (.*)\.\n", done.stderr)
    assert said is not None, done.stderr
    kept = Path(said[1])
    assert Summary.model_validate_json((kept / "summary.json").read_text()).scenario == "small"
    assert {"samples.csv.gz", "events.csv.gz", "histograms.json", "report.html"} < {one.name for one in kept.iterdir()}
    shutil.rmtree(kept.parent)


RUN = """
name = "mortal"
about = "Two people and what they write down."
duration_s = 200
sign_in = false
record_resources = 5
[server]
redis = true
[[population]]
behaviour = "doctor"
change = { media = false, turn_every_s = 0.2, note_every_s = 0.4, page_every_s = 0 }
[[population]]
behaviour = "listener"
"""


def begin(tmp_path: Path) -> subprocess.Popen[str]:
    """A run, as it is started."""
    (tmp_path / "mortal.toml").write_text(RUN)
    return subprocess.Popen(
        [sys.executable, "-m", "load_tests", str(tmp_path / "mortal.toml"), "--workers", "1", "--results",
         str(tmp_path / "results"), "--processes", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
    )  # fmt: skip


def start(tmp_path: Path) -> tuple[subprocess.Popen[str], list[int], str]:
    """A run whose people are at work, all its processes, and what it has said."""
    run = begin(tmp_path)
    assert run.stdout is not None
    said, working = "", 0
    while working < 2:
        line = run.stdout.readline()
        assert line, said
        said += line
        working += "2/2 joined, 2 complete" in line
    return run, descendants(run.pid), said


def descendants(pid: int) -> list[int]:
    """Of a process, by the kernel's own list."""
    found = []
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def command_of(pid: int) -> str:
    """Empty for what is gone, or only waits to be collected."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


@pytest.mark.timeout(DEADLINE_S + 30)
def test_a_server_that_dies_ends_the_run_with_everything_until_then(tmp_path: Path) -> None:
    run, processes, said = start(tmp_path)
    (server,) = [pid for pid in processes if " -m server serve" in command_of(pid)]
    os.kill(server, signal.SIGKILL)
    said += run.communicate(timeout=DEADLINE_S)[0]
    assert run.returncode == Exit.SERVER, said
    assert "The server ended by itself with code -9" in said
    (folder,) = (tmp_path / "results").iterdir()
    summary = Summary.model_validate_json((folder / "summary.json").read_text())
    assert summary.broken.startswith("The server ended by itself")
    assert summary.counts["joins_done"] == 2
    # What it had said was done is there, although it was killed while it worked. [CO1]
    assert summary.derived["acks_checked"]
    for nothing in ("chain_broken", "acks_lost", "acks_doubled"):
        assert summary.derived[nothing] == 0, summary.notes
    assert (folder / "server.log").stat().st_size
    assert json.loads((folder / "manifest.json").read_text())["scenario"]["server"]["redis"]


@pytest.mark.timeout(DEADLINE_S + 30)
def test_ctrl_c_while_a_run_is_prepared_ends_it_at_once_with_a_report(tmp_path: Path) -> None:
    run = begin(tmp_path)
    assert run.stdout is not None
    processes: list[int] = []
    try:
        while "preparing" not in (line := run.stdout.readline()):
            assert line
        deadline = time.monotonic() + DEADLINE_S
        while not any("redis-server" in command_of(pid) for pid in processes):
            assert time.monotonic() < deadline
            time.sleep(0.01)
            processes = descendants(run.pid)
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=DEADLINE_S)[0]
    finally:
        run.kill()
    assert run.returncode == Exit.INTERRUPTED, said
    (folder,) = (tmp_path / "results").iterdir()
    summary = Summary.model_validate_json((folder / "summary.json").read_text())
    assert summary.interrupted
    assert ENDED_EARLY in summary.notes
    assert not [command_of(pid) for pid in processes if command_of(pid)]


def test_a_system_that_allows_too_few_open_files_is_named_before_anybody_comes() -> None:
    """What a run does while its server starts, with a real generator that its system gives 300 files."""
    program = (
        "import asyncio, sys\n"
        "from load_tests.plan.reading import RunError\n"
        "from load_tests.run.crew import crew\n"
        "from load_tests.run.saying import refuse\n"
        "async def begin():\n"
        "    async with crew(1, [], 41): print('it began')\n"
        "try: asyncio.run(begin())\n"
        "except RunError as problem: sys.exit(refuse(problem))"
    )
    done = subprocess.run(
        ["prlimit", "--nofile=300:300", sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT,
        timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == Exit.GENERATOR, done.stderr
    assert f"may have 300 open files, its share of 41 sessions needs {files_for(41)}: raise its limit" in done.stderr
    assert not done.stdout


@pytest.mark.timeout(4 * DEADLINE_S + 30)
def test_a_run_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    """Before its generator has met anybody who could tell it to end, and as soon as everything is started."""
    kill_with(tmp_path, "redis-server", "load_tests.run.agent")
    kill_with(tmp_path, "redis-server", "load_tests.run.agent", "-m server serve", "media.aio.worker")


def kill_with(tmp_path: Path, *wanted: str) -> None:
    """Kill a run at the first moment that has these programs; nothing that it had then is left."""
    run, named = begin(tmp_path), dict[int, str]()
    left: list[int] = []
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not all(any(program in one for one in named.values()) for program in wanted):
            assert run.poll() is None, run.communicate()
            assert time.monotonic() < deadline, named
            time.sleep(0.01)
            named = {pid: command_of(pid) for pid in descendants(run.pid)}
        run.kill()
        deadline = time.monotonic() + DEADLINE_S
        while left := [pid for pid, one in named.items() if one and command_of(pid) == one]:
            assert time.monotonic() < deadline, [named[pid] for pid in left]
            time.sleep(0.05)
    finally:
        run.kill()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.communicate(timeout=DEADLINE_S)
