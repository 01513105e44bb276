"""``python -m load_tests capacity``: the largest number of consults with which every bound of a scenario holds.

Each number is a run of its own, as ``python -m load_tests SCENARIO --set consults.count=N`` makes it, in a process of
its own, with its whole report. Between runs everything that is known is in ``capacity.json``, so a search that was
ended goes on (``--resume``). The numbers are chosen by ``plan.search``. With ``--profile`` the first number that broke
is run once more while py-spy looks: what it shows stands beside the answer, and its figures count for nothing.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from load_tests.plan.reading import Exit, RunError, read_scenario
from load_tests.plan.scenario import Scenario
from load_tests.report import capacity as report
from load_tests.report.digest import hash_of, mean, source
from load_tests.report.summary import Summary, check_bounds
from load_tests.run.guard import ends_with_us
from load_tests.run.pinning import apart, cores_of
from load_tests.run.profile import find_program
from load_tests.run.saying import check_room, refuse

STATE: Final = "capacity.json"
GOES_ON: Final = (Exit.OK, Exit.BOUND, Exit.INVALID)
"""Exit codes of runs that are answers."""
BETWEEN_S: Final = 60.0
"""What a run takes beside its scenario: a server with its world before, the report after."""


class CapacitySearch:
    """One search, in one folder.

    Args:
        for_s: begin no run that would end later than this after now; 0: no limit.
    """

    def __init__(
        self, scenario: Scenario, folder: Path, found: report.Found, for_s: float, *, quiet: bool = False
    ) -> None:
        self._scenario, self._folder, self._found = scenario, folder, found
        self._silence = ["--quiet"] if quiet else []
        self._until_s = time.monotonic() + for_s if for_s else float("inf")

    def run(self, *, profile: bool = False) -> int:
        """Until the answer is known, the time is over or somebody has had enough; the exit code.

        Raises:
            OSError: the state cannot be written. What was known before is still there.
        """
        self._write()
        code = int(Exit.OK)
        while (number := self._found.search().next()) is not None:
            if self._is_late():
                break
            code = self._one(number)
            self._write()
            if code not in GOES_ON:
                break
        search = self._found.search()
        ended = search.next() is None
        if ended and profile and search.broke <= search.most and not self._found.profile and not self._is_late():
            code = self._profile(search.broke)
            self._write()
        print(report.markdown(self._found))
        print(f"report: {self._folder / 'capacity.html'}")
        if not ended and code in (*GOES_ON, Exit.INTERRUPTED):
            print(f"It goes on with --resume {self._folder}")
        return int(Exit.OK) if ended and code != Exit.INTERRUPTED else code

    def _is_late(self) -> bool:
        """One more run would end too late."""
        return time.monotonic() + self._scenario.duration_s + BETWEEN_S > self._until_s

    def _one(self, number: int) -> int:
        """A run of so many consults; what it came to is in the state. The exit code that it has for the search."""
        print(f"{number} consults", file=sys.stderr, flush=True)
        code, path = self._play(number, *self._found.options)
        if path is None or code == Exit.INTERRUPTED:
            return code or Exit.SERVER
        summary = Summary.model_validate_json(path.read_text("utf-8"))
        hub = mean(_column(path.parent / "samples.csv.gz", "server_cpu", self._scenario.measure_from_s))
        step = report.step_of(summary, path.parent.name, None if hub is None else round(hub, 3))
        self._found = self._found.model_copy(
            update={"steps": (*self._found.steps, step), "where": report.place([summary])}
        )
        print(f"  {step.outcome}: {report.said(step)}", file=sys.stderr, flush=True)
        # A server that died under the load has broken, a generator that died is invalid: both are answers.
        return {Exit.SERVER: Exit.BOUND, Exit.GENERATOR: Exit.INVALID}.get(Exit(code), Exit(code))

    def _profile(self, number: int) -> int:
        """The number that broke once more, with a profiler: no step of the search."""
        print(f"{number} consults, with a profile", file=sys.stderr, flush=True)
        code, path = self._play(number, *self._found.options, "--profile")
        if path is not None:
            name = re.compile(r"profile-(.+)\.folded")
            folded = {found[1]: one.read_text("utf-8") for one in sorted(path.parent.glob("profile-*.folded"))
                      if (found := name.fullmatch(one.name))}  # fmt: skip
            update = {"profile": path.parent.name, "causes": report.causes(folded)}
            self._found = self._found.model_copy(update=update)
        return code

    def _play(self, number: int, *options: str) -> tuple[int, Path | None]:
        """A run; its exit code, and its summary where it wrote one. Ctrl-C and SIGTERM end it as they end us."""
        runs = self._folder / "runs"
        before = {path.name for path in runs.glob("*")}
        command = [
            sys.executable, "-m", "load_tests", str(self._folder / "scenario.toml"), "--results", str(runs),
            "--set", f"consults.count={number}", *options, *self._silence,
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=ends_with_us())
        while True:
            try:
                process.communicate()
                break
            except KeyboardInterrupt:  # a terminal has told the run too; SIGTERM has not. It writes what it has
                process.send_signal(signal.SIGINT)
        path = next((one for one in runs.glob("*/summary.json") if one.parent.name not in before), None)
        return process.returncode, path

    def _write(self) -> None:
        fresh = self._folder / f".{STATE}"
        fresh.write_text(self._found.model_dump_json(indent=1) + "\n", "utf-8")
        fresh.replace(self._folder / STATE)  # a full disk leaves the one before
        (self._folder / "capacity.md").write_text(report.markdown(self._found), "utf-8")
        (self._folder / "capacity.html").write_text(report.html(self._found), "utf-8")


def capacity(
    scenario: str = "two_rooms",
    *,
    start: int = 4,
    most: int = 256,
    for_s: float = 0.0,
    resume: Path | None = None,
    processes: int | None = None,
    workers: int | None = None,
    server_cores: str = "",
    generator_cores: str = "",
    profile: bool = False,
    results: Path = Path("results"),
    quiet: bool = False,
) -> int:
    """How many consults of a scenario this machine holds, and which bound breaks first.

    Args:
        scenario: name of one that comes with the program, or a file ending in .toml; its bounds decide.
        start: consults of the first run.
        most: more are not tried.
        for_s: begin no run that would end later; the search goes on with --resume. 0: no limit.
        resume: folder of a search that has not ended; its scenario and options go on.
        processes: generators; one for each of their cores unless given.
        workers: media workers of the server.
        server_cores: cores for all the server's processes, such as 0 or 0,2-3; any unless given.
        generator_cores: cores for generators and coordinator; any unless given.
        profile: run the first number that broke once more with py-spy, and say what it shows.
        results: folder that gets a folder for this search.
        quiet: no progress of the runs.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        note = apart(cores_of(server_cores), cores_of(generator_cores))
        if profile:
            find_program()
        check_room(results)
        options = [*(f"--{name}={value}" for name, value in (
            ("processes", processes), ("workers", workers), ("server-cores", server_cores),
            ("generator-cores", generator_cores)) if value)]  # fmt: skip
        chosen, folder = _scenario(scenario, resume, results)
        found = _found(chosen, folder, start, most, note, options)
        return CapacitySearch(chosen, folder, found, for_s, quiet=quiet).run(profile=profile)
    except (RunError, OSError) as problem:
        return refuse(problem)
    except KeyboardInterrupt:  # between two runs; the state is written after each
        return Exit.INTERRUPTED


def _scenario(name: str, resume: Path | None, results: Path) -> tuple[Scenario, Path]:
    """What is run and where its folder is; a new folder gets the scenario's file."""
    if resume is not None:
        if not (resume / STATE).is_file():
            raise RunError(Exit.ARGUMENTS, f"{resume} is no search that could go on: it has no {STATE}.")
        return read_scenario(str(resume / "scenario.toml")), resume
    chosen = read_scenario(name)
    if problem := check_bounds(chosen):
        raise RunError(Exit.ARGUMENTS, f"{chosen.name}: bound: {problem}")
    if not chosen.bound:
        raise RunError(Exit.ARGUMENTS, f"{chosen.name} has no bounds: nothing could break.")
    now = datetime.datetime.now(datetime.UTC)
    folder = results / f"{now:%Y%m%dT%H%M%SZ}-capacity-{chosen.name}-{source()[0][:8] or 'nogit'}"
    (folder / "runs").mkdir(parents=True)
    path = Path(name) if name.endswith(".toml") else Path(__file__).parent.parent / "scenarios" / f"{name}.toml"
    (folder / "scenario.toml").write_text(path.read_text("utf-8"), "utf-8")
    return chosen, folder


def _found(
    chosen: Scenario, folder: Path, start: int, most: int, note: str, options: Sequence[str]
) -> report.Found:  # fmt: skip
    """Where the search begins or goes on.

    Raises:
        RunError: what is in the folder is of another source or scenario: runs of different things make no search.
    """
    commit, dirty = source()
    kept = hash_of(chosen)
    state = folder / STATE
    if not state.is_file():
        return report.Found(
            scenario=chosen.name, scenario_hash=kept, commit=commit, dirty=dirty, where="", start=start, most=most,
            notes=tuple(filter(None, [note])), steps=(), options=tuple(options),
        )  # fmt: skip
    try:
        found = report.Found.model_validate_json(state.read_text("utf-8"))
    except ValueError:
        raise RunError(Exit.ARGUMENTS, f"{state} is not readable.") from None
    if (found.scenario_hash, found.commit) != (kept, commit):
        raise RunError(Exit.ARGUMENTS, "The search is of another scenario or commit; begin a new one.")
    if options and tuple(options) != found.options:
        had = " ".join(found.options) or "none"
        raise RunError(
            Exit.ARGUMENTS, f"The search had other options ({had}); name the same, or none, or begin a new one."
        )
    return found


def _column(path: Path, name: str, from_s: float) -> list[float]:
    """Values of a column of a run's samples, warming up left out."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        return [float(row[name]) for row in csv.DictReader(text) if row.get(name) and float(row["t"]) >= from_s]
