"""Processes on cores of their own, so that generators and server on one machine do not take each other's.

The coordinator moves to the generators' cores before it starts anything; what it starts is born there, and the server
is moved to its own before it starts workers. Linux only; elsewhere, and without cores to choose from, nothing is moved
and a run says so.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Final

from load_tests.plan.reading import Exit, RunError

PINNED: Final = "The server's processes ran on"
SHARED: Final = "they shared cores"


def cores_of(text: str) -> frozenset[int]:
    """Of a list such as ``0,2-3``; empty for an empty text.

    Raises:
        RunError: not such a list, or no core of this process.
    """
    found: set[int] = set()
    for part in filter(None, (one.strip() for one in text.split(","))):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise RunError(Exit.ARGUMENTS, f"{text!r} is not a list of cores, such as 0,2-3.")
        found.update(range(int(first), int(last or first) + 1))
    usable = usable_cores()
    if strange := sorted(found - usable):
        raise RunError(Exit.ARGUMENTS, f"This process may not use core {strange[0]}; it has {sorted(usable)}.")
    return frozenset(found)


def usable_cores() -> frozenset[int]:
    """Those that this process may run on."""
    return frozenset(os.sched_getaffinity(0))


def pin(pid: int, cores: Collection[int]) -> None:
    """Let a process, and what it starts from now on, run on these alone; with none nothing changes. 0: this process."""
    if cores:
        os.sched_setaffinity(pid, cores)


def apart(server: frozenset[int], generators: frozenset[int]) -> str:
    """What the reader of a report must know of it; empty when nothing was pinned."""
    if not server and not generators:
        return ""

    def said(cores: frozenset[int]) -> str:
        return f"core {', '.join(map(str, sorted(cores)))}" if cores else "any core"

    shared = "" if server and generators and not server & generators else f"; {SHARED}"
    return f"{PINNED} {said(server)}, generators and coordinator on {said(generators)}{shared}."
