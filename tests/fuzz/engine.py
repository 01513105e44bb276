"""Run a target: corpus, mutations, coverage as a guide, and the work an input costs.

Work is counted in lines of Python executed in the target's own modules, not in time, so that the bound is
the same on every machine.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.mutate import Mutator

CORPUS = Path(__file__).parent / "corpus"
MAX_GROWN = 4_000
"""Inputs kept in memory because they reached something new."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed, and the law.

    Args:
        run: returns for every input; whatever it raises is a broken law.
        modules: whose lines count, as work and as coverage.
        share: of the mutations that the quick tests run, for what is slow.
        repair: makes lengths and checksums right again, so that half of the inputs get behind them.
    """

    name: str
    run: Callable[[bytes], None]
    modules: tuple[str, ...]
    words: tuple[bytes, ...] = ()
    lines_per_byte: int = 60
    lines_always: int = 1_500
    share: float = 1.0
    repair: Callable[[bytes], bytes] | None = None

    @property
    def folder(self) -> Path:
        return CORPUS / self.name

    def corpus(self) -> list[bytes]:
        return [file.read_bytes() for file in sorted(self.folder.iterdir())]

    def vary(self, mutator: Mutator, corpus: Sequence[bytes]) -> bytes:
        """One more input."""
        data = mutator.next(corpus)
        return self.repair(data) if self.repair is not None and mutator.random.random() < 0.5 else data

    def budget(self, data: bytes) -> int:
        return self.lines_always + self.lines_per_byte * len(data)


class TooMuchWork(AssertionError):
    """An input cost more than its length allows."""


class Trace:
    """Lines and steps from line to line of some modules, while it is on."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._files = {sys.modules[name].__file__: index for index, name in enumerate(modules)}
        self.lines = 0
        self.steps: set[tuple[int, int, int]] = set()

    def run(self, target: Target, data: bytes) -> set[tuple[int, int, int]]:
        """Raises whatever the target raises, and `TooMuchWork`."""
        self.lines, self.steps = 0, set()
        sys.settrace(self._enter)
        try:
            target.run(data)
        finally:
            sys.settrace(None)
        if self.lines > target.budget(data):
            raise TooMuchWork(f"{self.lines} lines for {len(data)} bytes")
        return self.steps

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        index = self._files.get(frame.f_code.co_filename)
        if index is None:
            return None
        last = frame.f_lineno

        def line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            if event == "line":
                self.lines += 1
                self.steps.add((index, last, frame.f_lineno))
                last = frame.f_lineno
            return line

        return line


@dataclass
class Found:
    """What a run brought."""

    inputs: int = 0
    grown: int = 0
    crashes: dict[str, str] = field(default_factory=dict)
    """File of the input, and what it raised."""


def explore(target: Target, seconds: float, seed: int, save: Path | None = None) -> Found:
    """Mutate for so long; inputs that reach new steps are varied further.

    Args:
        save: where crashing inputs go, ``corpus/<target>`` when None.
    """
    folder = save or target.folder
    mutator = Mutator(seed, target.words)
    trace, found = Trace(target.modules), Found()
    corpus, seen = target.corpus(), set()
    for data in corpus:
        seen |= _try(target, trace, data, found, folder)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = target.vary(mutator, corpus)
        found.inputs += 1
        new = _try(target, trace, data, found, folder) - seen
        if new:
            seen |= new
            found.grown += 1
            if len(corpus) < MAX_GROWN:
                corpus.append(data)
    return found


def _try(target: Target, trace: Trace, data: bytes, found: Found, folder: Path) -> set[tuple[int, int, int]]:
    try:
        return trace.run(target, data)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f"{text.split(':')[0]} at {where.tb_lineno if where else 0}"
        if place not in {said.split(" | ")[0] for said in found.crashes.values()}:
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
            file.write_bytes(data)
            found.crashes[file.name] = f"{place} | {text}"
        return set()
