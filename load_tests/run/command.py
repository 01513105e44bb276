"""``python -m load_tests SCENARIO``: from the command line to a folder with the report, and an exit code (`Exit`)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from cyclopts import App, CycloptsError, Parameter, validators

from load_tests.modelling.command import model
from load_tests.plan.reading import Exit, RunError, names, read_scenario
from load_tests.plan.scenario import Scenario
from load_tests.report import files, page, rows, witness_table
from load_tests.report.baseline import read_baseline
from load_tests.report.digest import summarise
from load_tests.report.record import Record
from load_tests.report.summary import Summary, check_bounds
from load_tests.run.capacity import capacity
from load_tests.run.conduct import Conductor
from load_tests.run.patience import Patience
from load_tests.run.pinning import apart, cores_of, pin, usable_cores
from load_tests.run.profile import find_program
from load_tests.run.saying import check_room, refuse
from load_tests.run.subject import Choice
from load_tests.run.witness import MOST as MOST_WITNESSES

app = App(name="load", help="Load a Consilium server with simulated sessions, and say what it did.")
app.command(capacity)
app.command(model)
RESULTS = Path("results")
TABLE = Path(__file__).parent.parent / "RESULTS.md"
Number = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=512))]


@app.default
def run(
    scenario: str,
    *,
    processes: Number | None = None,
    agents: str = "",
    against: str = "",
    world: Path | None = None,
    metrics: str = "",
    workers: Number | None = None,
    server_cores: str = "",
    generator_cores: str = "",
    profile: bool = False,
    witnesses: int = 0,
    baseline: Path | None = None,
    results: Path = RESULTS,
    set: list[str] | None = None,
    quiet: bool = False,
) -> int:
    """Run a scenario and write its report.

    Args:
        scenario: name of one that comes with the program (`python -m load_tests scenarios`), or a file ending in .toml.
        processes: generators on this machine; one for each core but one unless given.
        agents: HOST:PORT,... of generators on other machines (`python -m load_tests.run.agent`) instead.
        against: origin of a server that runs already; a server of its own is started on loopback unless given.
        world: accounts of that server, as `load_tests.run.world_process` made them.
        metrics: address of that server's /metrics, to see its side.
        workers: media workers of the server that is started.
        server_cores: cores for the server that is started, all its processes, such as 0 or 0,2-3; any unless given.
        generator_cores: cores for generators and coordinator; any unless given.
        profile: look with py-spy where the server's processes spend their time; profile.md in the report's folder.
        witnesses: real Chromiums that take part and are reported apart, 8 at most.
        baseline: folder of an earlier run of this scenario here; a headline figure a tenth worse is a broken bound.
        results: folder that gets a folder for this run.
        set: FIELD=VALUE, a field of the scenario that is different this time, e.g. consults.count=4; repeatable.
        quiet: no progress.
    """
    patience = Patience()
    try:
        chosen = read_scenario(scenario, dict(_assignment(one) for one in set or []))
        if problem := check_bounds(chosen):
            raise RunError(Exit.ARGUMENTS, f"{chosen.name}: bound: {problem}")
        check_room(results)
        mine, theirs = cores_of(generator_cores), cores_of(server_cores)
        if profile:
            find_program()
        if not 0 <= witnesses <= MOST_WITNESSES:
            raise RunError(Exit.ARGUMENTS, f"--witnesses {witnesses}: there are {MOST_WITNESSES} at most.")
        bounds = read_baseline(baseline, chosen) if baseline is not None else ()
        choice = Choice(against, world, metrics, workers, theirs, profile)
        remote = [one.strip() for one in agents.split(",") if one.strip()]
        count = processes or len(mine) or max(1, len(usable_cores()) - 1)
        pin(0, mine)
        record = asyncio.run(_conduct(chosen, choice, count, remote, witnesses, patience, quiet=quiet))
        record.notes += filter(None, [apart(theirs, mine)])
    except RunError as problem:
        return refuse(problem)
    record.bounds = bounds
    record.command = tuple(sys.argv[1:])
    summary = summarise(record, same_host=all(_is_here(f"http://{one}") for one in remote) and _is_here(against))
    return finish(record, summary, results)


@app.command(name="scenarios")
def scenarios() -> int:
    """The scenarios that come with the program."""
    for name in names():
        print(f"{name:<18} {read_scenario(name).about}")
    return Exit.OK


@app.command(name="row")
def put_row(*folders: Path, table: Path = TABLE) -> int:
    """Put rows of runs into the table of RESULTS.md, each once; runs that may not be believed get none.

    Args:
        folders: of runs, each with its summary.json.
        table: file with the table.
    """
    found, code = [], int(Exit.OK)
    for folder in folders:
        try:
            summary = Summary.model_validate_json((folder / "summary.json").read_text("utf-8"))
        except (OSError, ValueError) as problem:
            first = str(problem).splitlines()[0]
            code = refuse(RunError(Exit.ARGUMENTS, f"{folder} is no folder of a run of this version: {first}."))
            continue
        if reason := rows.why_not(summary):
            code = refuse(RunError(Exit.INVALID, f"{summary.id} has no row. {reason}"))
        else:
            found.append(summary)
    try:
        for line in rows.add_rows(table, found):
            print(line)
    except ValueError as problem:
        return refuse(RunError(Exit.ARGUMENTS, f"{problem}."))
    except OSError as problem:
        return refuse(problem)
    return code


def finish(record: Record, summary: Summary, results: Path) -> int:
    """Write the report and say what came out."""
    code = verdict(summary)
    try:
        folder = files.write(results, record, summary)
    except OSError as problem:
        kept = files.rescue(record, summary)
        return refuse(RunError(Exit.STORAGE, f"The report cannot be written: {problem}. {kept}"))
    print(f"{summary.scenario}: {page.headline(summary)}")
    for sentence in (*summary.invalid_because, *([summary.broken] if summary.broken else [])):
        print(f"  {sentence}")
    for one in summary.bounds:
        print(f"  {'held    ' if one.held else 'NOT HELD'}  {page.limit(one)}: {page.shown(one.value)}")
    for line in witness_table.told(summary):
        print(f"  {line}")
    reason = rows.why_not(summary)
    print(f"no row for RESULTS.md: {reason}" if reason else rows.row(summary))
    print(f"report: {folder / 'report.html'}")
    return code


def verdict(summary: Summary) -> int:
    """The exit code of a run that was measured."""
    if any(one.lost for one in summary.generators):
        return Exit.GENERATOR
    if summary.broken:
        return Exit.SERVER
    if summary.interrupted:
        return Exit.INTERRUPTED
    if not summary.valid:
        return Exit.INVALID
    return Exit.OK if all(one.held for one in summary.bounds) else Exit.BOUND


async def _conduct(
    scenario: Scenario, choice: Choice, processes: int, agents: list[str], witnesses: int, patience: Patience,
    *, quiet: bool,
) -> Record:  # fmt: skip
    conductor = Conductor(scenario, _nothing if quiet else _tell, patience.event(), witnesses)
    return await conductor.run(choice, processes, agents, _bind(choice.against))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _nothing(_text: str) -> None:
    """Say nothing."""


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise RunError(Exit.ARGUMENTS, f"--set {text!r} is not FIELD=VALUE.")
    with contextlib.suppress(ValueError):
        return name, json.loads(value)
    return name, value


def _is_here(origin: str) -> bool:
    host = urlsplit(origin).hostname or "localhost"
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _bind(against: str) -> str:
    """Where generators' sockets are bound: loopback, unless the server is elsewhere."""
    return "127.0.0.1" if _is_here(against) else "0.0.0.0"  # noqa: S104 - they send first and authenticate by ICE


def main(tokens: Sequence[str] | None = None) -> int:
    """Entry point; what is wrong with the arguments has one exit code, whoever found it."""
    try:
        result = app(tokens, exit_on_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError:
        return Exit.ARGUMENTS  # it has been printed
    except BrokenPipeError:  # who read it has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter writes out what is left
        return 0
    return int(result or 0)
