"""The costs of the model, measured: a suite of small runs of the load tests' own scenarios, and what is taken of each.

    python -m load_tests.modelling.measure [--results DIR]      # six minutes, on a machine that does nothing else
    python -m load_tests.modelling.measure --part chain         # half a minute; all other numbers stay as they are

writes ``measured.json``: each number with the run it comes from (its id has the commit) and how it was made of that
run's files. A cost is a difference wherever a run does more than one thing: what listening costs is taken from what
joining cost, what pages cost from what a consult cost. CPU is of the server's processes as the kernel counts it, in
seconds of the machine that is named; figures of other machines are another file.

How the model is held against a run of two nodes is `modelling.check`.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from load_tests.modelling.given import MEASURED, Cost, Costs, read_costs
from load_tests.report.digest import machine, source
from load_tests.run.services import Postgres, Redis

RUNS: Final[dict[str, tuple[str, ...]]] = {
    "idle": ("idle_sockets", "duration_s=45", "measure_from_s=0", "consults.count=8", "consults.begin_over_s=0"),
    "passwords": ("idle_sockets", "duration_s=25", "measure_from_s=0", "consults.count=2", "sign_in=true",
                  "consults.begin_over_s=0"),
    "pages": ("record_paging", "duration_s=35", "measure_from_s=0", "consults.count=2"),
    "consult": ("steady_hub", "duration_s=50", "measure_from_s=0", "consults.count=1"),
    "lock": ("lock_traffic", "duration_s=35", "measure_from_s=0", "consults.count=3", "fault=[]"),
    "signalling": ("signalling_only", "duration_s=40", "measure_from_s=0", "consults.count=2", "server.nodes=2",
                   "server.redis=true", "server.database=postgresql"),
}  # fmt: skip
SETTLED_S: Final = 30.0
"""Everybody is there by then, in all of them."""
PARTS: Final = ("chain", "hints", "ring")
ALONE: Final = (
    ("hint_us", "hint_us", "us", "CPU of a process with the product's bus over hints heard"),
    ("publish_us", "publish_us", "us", "CPU of redis a PUBLISH, nine subscribers against one"),
    ("delivery_us", "delivery_us", "us", "CPU of redis for each further subscriber of a PUBLISH"),
    ("ring_frame_us", "frame_us", "us", "CPU of redis a frame that the product's ring appends"),
    ("ring_frame_bytes", "frame_bytes", "bytes", "growth of redis's memory a frame"),
    ("ring_frames", "frames_kept", "frames", "what the product's ring keeps of a waveform"),
    ("chain_per_s", "links_per_s", "links/s",
     "the most that one, two or four processes append at a time on PostgreSQL without fsync, up to 64 links a commit"),
)  # fmt: skip
"""Of parts: the cost, what `modelling.process` calls it, its unit, how it was measured."""


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run's files."""

    id: str
    summary: dict[str, Any]
    rows: list[dict[str, float]]
    """``samples.csv.gz``: a row a second."""

    def total(self, column: str, from_s: float = 0.0, to_s: float = 1e9) -> float:
        """Sum over seconds."""
        return sum(row.get(column, 0.0) for row in self.rows if from_s <= row["t"] < to_s)

    def mean(self, column: str, from_s: float = 0.0, to_s: float = 1e9) -> float:
        """Mean over the seconds that have it."""
        values = [row[column] for row in self.rows if column in row and from_s <= row["t"] < to_s]
        return sum(values) / len(values) if values else 0.0

    def count(self, name: str) -> float:
        """A count of the summary."""
        return float(self.summary["counts"].get(name, 0))

    def derived(self, name: str) -> float:
        """A derived figure; 0 where there is none."""
        return float(self.summary["derived"].get(name) or 0.0)

    @property
    def sessions(self) -> int:
        """Of the timetable."""
        return int(self.summary["sessions"])

    @property
    def came(self) -> float:
        """Of them, who set out to join before the end."""
        return max(1.0, self.count("joins_tried"))

    @property
    def lasted_s(self) -> float:
        """The whole run."""
        return float(self.summary["lasted_s"])


def read_run(folder: Path) -> Run:
    """A folder that `load_tests` wrote."""
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    with gzip.open(folder / "samples.csv.gz", "rt", encoding="utf-8", newline="") as text:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(text)]
    return Run(str(summary["id"]), summary, rows)


def play(results: Path, scenario: str, settings: Sequence[str]) -> Run:
    """Run a scenario in processes of its own.

    Raises:
        RuntimeError: it did not come to a report.
    """
    before = set(results.glob("*/summary.json"))
    sets = [part for one in settings for part in ("--set", one)]
    command = [sys.executable, "-m", "load_tests", scenario, "--workers", "1", "--results", str(results), "--quiet"]
    done = subprocess.run([*command, *sets], capture_output=True, text=True, check=False)
    fresh = set(results.glob("*/summary.json")) - before
    if len(fresh) != 1:
        raise RuntimeError(f"{scenario} made no report: {(done.stderr or done.stdout).strip()[-400:]}")
    return read_run(fresh.pop().parent)


def parts(wanted: Sequence[str] = PARTS) -> dict[str, float]:
    """What `modelling.process` measures, on a PostgreSQL and a redis of this run."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o711)  # PostgreSQL's own user comes through
        return asyncio.run(_parts(place, Postgres(Path(place) / "postgres"), Redis(), wanted))


async def _parts(place: str, postgres: Postgres, redis: Redis, wanted: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    try:
        await postgres.start()
        await redis.start()
        of = {**os.environ, "CONSILIUM_DATABASE_URL": postgres.url}
        await _said("server", "db", "upgrade", "--data-dir", place, environment=of)
        for what in wanted:
            url = postgres.url if what == "chain" else redis.url
            found |= json.loads(await _said("load_tests.modelling.process", what, url))
    finally:
        await asyncio.to_thread(redis.stop)
        await asyncio.to_thread(postgres.stop)
    return found


async def _said(*module: str, environment: dict[str, str] | None = None) -> str:
    """The last line of a module's output.

    Raises:
        RuntimeError: it failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *module, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    out, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(module[:2])}: {errors.decode(errors='replace').strip()[-400:]}")
    return out.decode().strip().rpartition("\n")[2]


def costs_of(runs: dict[str, Run], alone: dict[str, float], commit: str, where: str) -> Costs:
    """Each cost from the run that shows it best."""
    idle, passwords, pages = runs["idle"], runs["passwords"], runs["pages"]
    consult, lock, signalling = runs["consult"], runs["lock"], runs["signalling"]
    listening = 1e6 * idle.mean("server_cpu", SETTLED_S, idle.lasted_s) / idle.sessions
    joining = _joining(idle, listening)
    page = max(0.0, pages.total("server_cpu") - _sat(pages, listening, joining)) / max(1.0, pages.count("pages_read"))
    working = consult.mean("server_cpu", SETTLED_S, consult.lasted_s)
    paging = page * consult.total("pages_read", SETTLED_S, consult.lasted_s) / max(1.0, consult.lasted_s - SETTLED_S)
    asked = max(1.0, signalling.count("commands"))
    row_each, link_each = (signalling.derived(name) / asked for name in ("db_rows", "db_events"))
    turns = consult.lasted_s / 15
    ending = consult.lasted_s - 2
    crossing = max(0.0, lock.total("server_cpu") - _sat(lock, listening, joining) - page * lock.count("lock_reads"))
    crossed = max(1.0, lock.count("lock_crossed"))
    made = {
        "relay_us_per_packet": (
            1e6 * consult.mean("worker_cpu", SETTLED_S, ending) / max(1.0, consult.mean("rtp_in", SETTLED_S, ending)),
            "us", consult, "worker_cpu over RTP packets that viewers received, in the settled part",
        ),
        "idle_us_per_s": (listening, "us/s", idle, "server_cpu over sessions, in the settled part"),
        "active_us_per_s": (
            max(0.0, (working - paging) * 1e6 / consult.sessions - listening), "us/s", consult,
            "server_cpu over sessions in the settled part, less listening and pages",
        ),
        "join_ms": (1e3 * joining, "ms", idle, "server_cpu before the settled part, less listening, over joins"),
        "password_ms": (
            1e3 * max(0.0, passwords.total("server_cpu") - _sat(passwords, listening, joining)) / passwords.came,
            "ms", passwords, "server_cpu less listening and joins, over sign-ins",
        ),
        "page_ms": (1e3 * page, "ms", pages, "server_cpu less listening and joins, over pages read"),
        "crossing_ms": (1e3 * crossing / crossed, "ms", lock, "server_cpu less all else, over crossings applied"),
        "gateway_ms": (1e3 * lock.total("gateway_cpu") / crossed, "ms", lock, "CPU of all gateways over crossings"),
        "session_kb": (
            1e3 * max(0.0, idle.mean("server_rss_mb", SETTLED_S, idle.lasted_s) - idle.rows[1].get("server_rss_mb", 0))
            / idle.sessions, "kB", idle, "resident memory settled less at the beginning, over sessions",
        ),
        "commands_per_session": (
            max(1.0, consult.count("commands") - turns) / consult.sessions, "commands", consult,
            "commands less page turns, over sessions",
        ),
        "rows_per_command": (row_each, "rows", signalling, "rows of all tables over commands, joins included"),
        "rows_per_page": (
            max(0.0, pages.derived("db_rows") - row_each * pages.count("commands"))
            / max(1.0, pages.count("pages_read")), "rows", pages, "rows less those of commands, over pages read",
        ),
        "rows_per_crossing": (
            max(0.0, lock.derived("db_rows") - row_each * lock.count("commands")) / crossed, "rows", lock,
            "rows less those of commands, over crossings applied",
        ),
        "bytes_per_row": (
            lock.derived("db_bytes") / max(1.0, lock.derived("db_rows")), "bytes", lock,
            "growth of the SQLite file, indexes included, over rows",
        ),
        "links_per_command": (
            link_each, "links", signalling, "links of the event chain over commands, joins included"
        ),
        "links_per_page": (
            max(0.0, pages.derived("db_events") - link_each * pages.count("commands"))
            / max(1.0, pages.count("pages_read")), "links", pages, "links less those of commands, over pages read",
        ),
        "links_per_crossing": (
            max(0.0, lock.derived("db_events") - link_each * lock.count("commands")) / crossed, "links", lock,
            "links less those of commands, over crossings applied",
        ),
        "redis_fixed_us_per_s": (
            max(0.0, 1e6 * signalling.derived("redis_cpu_s") - signalling.derived("redis_publish")
                * (alone["publish_us"] + 2 * alone["delivery_us"])) / signalling.lasted_s, "us/s", signalling,
            "CPU of redis less publishes, over seconds",
        ),
        "publishes_per_command": (
            signalling.derived("redis_publish") / asked, "publishes", signalling, "PUBLISH of redis over commands"
        ),
        "ecg_bytes_per_s": (
            consult.derived("archive_bytes") / max(1.0, consult.count("ecg_out") / 10), "bytes/s", consult,
            "growth of the archive over seconds of frames sent",
        ),
    }  # fmt: skip
    found = {
        name: Cost(value=round(value, 4), unit=unit, run=run.id, how=how)
        for name, (value, unit, run, how) in made.items()
    }
    found |= costs_alone(alone, commit)
    return Costs(commit=commit, machine=where, **found)


def costs_alone(alone: dict[str, float], commit: str) -> dict[str, Cost]:
    """Those of the parts that were measured."""
    run = f"modelling.process {commit[:8]}"
    return {
        name: Cost(value=round(alone[key], 4), unit=unit, run=run, how=how)
        for name, key, unit, how in ALONE
        if key in alone
    }


def _joining(run: Run, listening_us: float) -> float:
    """CPU seconds of a join: what the beginning cost above listening."""
    until = min(SETTLED_S, run.lasted_s)
    there = sum(row.get("joined", 0.0) for row in run.rows if row["t"] < until)
    return max(0.0, run.total("server_cpu", 0, until) - there * listening_us / 1e6) / run.came


def _sat(run: Run, listening_us: float, joining_s: float) -> float:
    """CPU seconds that its sessions cost by joining and listening alone."""
    return run.came * joining_s + run.total("joined") * listening_us / 1e6


def _alone(path: Path, *, again: bool) -> dict[str, float]:
    """Parts, kept beside the runs."""
    if again and path.exists():
        return {name: float(value) for name, value in json.loads(path.read_text("utf-8")).items()}
    found = parts()
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return found


def _write(costs: Costs, output: Path) -> None:
    output.write_text(costs.model_dump_json(indent=1) + "\n", "utf-8")
    print(f"{output} is written", file=sys.stderr)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the costs that the model counts with.")
    parser.add_argument("--results", type=Path, default=None, help="folder that keeps the runs' reports")
    parser.add_argument("--output", type=Path, default=MEASURED)
    parser.add_argument("--again", action="store_true", help="run only what --results does not hold yet")
    parser.add_argument("--part", choices=PARTS, help="measure this alone and leave the file's other numbers")
    chosen = parser.parse_args()
    commit, dirty = source()
    commit += "+" if dirty else ""
    if chosen.part:
        told = parts([chosen.part])
        print(json.dumps(told), file=sys.stderr)
        _write(read_costs(chosen.output).model_copy(update=costs_alone(told, commit)), chosen.output)
        return 0
    folder = chosen.results or Path(tempfile.mkdtemp(prefix="consilium-model-"))
    runs = {}
    for name, (scenario, *settings) in RUNS.items():
        place = folder / name
        kept = sorted(place.glob("*/summary.json")) if chosen.again else []
        print(f"{name}: {scenario} {' '.join(settings)}", file=sys.stderr, flush=True)
        try:
            runs[name] = read_run(kept[-1].parent) if kept else play(place, scenario, settings)
        except RuntimeError as problem:  # the others are kept for --again
            print(problem, file=sys.stderr)
    if len(runs) < len(RUNS):
        return 1
    alone = _alone(folder / "parts.json", again=chosen.again)
    _write(costs_of(runs, alone, commit, f"{machine().cpu}, {machine().cores} cores"), chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
