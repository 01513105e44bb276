"""How long and how hard benchmarks measure: one set of options for all of them."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """Of a benchmark run.

    Attributes:
        rounds: windows measured for each point and contender, in turns; the median counts.
        seconds: length of a window.
        subscribers: points of the comparison, ascending.
        nice: priority of generator and relays, where the system allows it: lower takes more from others.
    """

    rounds: int = 3
    seconds: float = 1.5
    subscribers: tuple[int, ...] = (3, 10, 50, 100)
    nice: int = -20

    def as_arguments(self) -> list[str]:
        """The command line that gives these options."""
        points = ",".join(map(str, self.subscribers))
        return [
            *("--rounds", str(self.rounds), "--seconds", str(self.seconds)),
            *("--subscribers", points, f"--nice={self.nice}"),
        ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Make a command line understand them."""
    own = Options()
    parser.add_argument("--rounds", type=int, default=own.rounds, help="windows for each point, the median counts")
    parser.add_argument("--seconds", type=float, default=own.seconds, help="length of a window")
    parser.add_argument(
        "--subscribers",
        type=lambda text: tuple(sorted(int(word) for word in text.split(","))),
        default=own.subscribers,
        help="points of the comparison, as 3,10,50,100",
    )
    parser.add_argument("--nice", type=int, default=own.nice, help="priority of generator and relays")


def options_of(parsed: argparse.Namespace) -> Options:
    """The options a command line gave."""
    return Options(parsed.rounds, parsed.seconds, parsed.subscribers, parsed.nice)


def parse_options(arguments: Sequence[str]) -> Options:
    """Read a command line that has nothing else."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    return options_of(parser.parse_args(arguments))


@contextlib.contextmanager
def own_core(nice: int) -> Iterator[int]:
    """Keep this process, the generator, off the first core, which is the relay's; yields the relay's.

    Children started meanwhile inherit the priority; their core is theirs to set.
    """
    cores = sorted(os.sched_getaffinity(0))
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[1:]))
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    try:
        with _session_nice(nice):
            yield cores[0]
    finally:
        os.sched_setaffinity(0, set(cores))
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


@contextlib.contextmanager
def _session_nice(nice: int) -> Iterator[None]:
    """The same for the whole login session: where the kernel groups by session, priorities count within one only."""
    group = Path("/proc/self/autogroup")
    before: str | None = None
    with contextlib.suppress(OSError):
        before = group.read_text().split()[-1]
        group.write_text(str(nice))
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(OSError):
                group.write_text(before)
