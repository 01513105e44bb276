"""Run a module as ``__main__``, sample where its CPU time goes: ``python -m load_tests.bench.sampled OUT MODULE ...``.

The kernel's interval timers tick while the process uses CPU, one on user and system time
(SIGPROF), one on user time alone (SIGVTALRM), and each tick notes the Python stack. A
signal's handler runs when the present C call has returned, on the line that made the
call, so system calls and libsrtp are seen line by line. Nothing slows down between
ticks, unlike under a tracing profiler. The tick is the kernel's, usually 4 ms.

SIGUSR1 starts (anew), SIGUSR2 stops and writes OUT: a JSON list of
``[user_only, count, [[file, line, function], ...]]``, innermost frame first.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType

COARSE_CLOCK = 6
"""CLOCK_MONOTONIC_COARSE: it moves with the kernel's tick."""
MAX_FRAMES = 40

Stack = tuple[tuple[str, int, str], ...]


class Sampler:
    """Counts of stacks, by timer."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._counts: Counter[tuple[bool, Stack]] = Counter()

    def install(self) -> None:
        """Take the four signals."""
        signal.signal(signal.SIGPROF, self._tick)
        signal.signal(signal.SIGVTALRM, self._tick)
        signal.signal(signal.SIGUSR1, self._start)
        signal.signal(signal.SIGUSR2, self._stop)

    def _tick(self, number: int, frame: FrameType | None) -> None:
        stack: list[tuple[str, int, str]] = []
        while frame is not None and len(stack) < MAX_FRAMES:
            stack.append((frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name))
            frame = frame.f_back
        self._counts[number == signal.SIGVTALRM, tuple(stack)] += 1

    def _start(self, _number: int, _frame: FrameType | None) -> None:
        self._counts.clear()
        # The kernel looks at these timers once a tick; a shorter interval would fire again on later ticks, wherever
        # those fall, to catch up.
        tick_s = time.clock_getres(COARSE_CLOCK)
        signal.setitimer(signal.ITIMER_PROF, tick_s, tick_s)
        signal.setitimer(signal.ITIMER_VIRTUAL, tick_s, tick_s)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        rows = [[user, count, stack] for (user, stack), count in self._counts.items()]
        partial = self._out.with_suffix(".partial")
        partial.write_text(json.dumps(rows))
        partial.rename(self._out)


def main() -> None:
    """Install the sampler and become the module."""
    out, module = Path(sys.argv[1]), sys.argv[2]
    Sampler(out).install()
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
