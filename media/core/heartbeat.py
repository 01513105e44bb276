"""Whether a worker process that says nothing is hung, or only waits for its turn on a busy machine.

A worker whose event loop turns says something every second. Silence alone proves nothing: on a machine that is
overloaded, or swapping, a healthy worker may not run for seconds, and killing it would take the pictures of everybody
on it. So the process itself is asked for evidence. One that is stopped, that sleeps, or that used the processor all
the time without a word, is hung, and `SILENT_S` is enough to say so. One that wants to run and does not get to is
starved; it has `STARVED_S`. What the watcher could not see, because its own loop did not turn, is no silence.

No clock and no I/O here: reading ``/proc`` and killing is ``media.aio.supervisor``.
"""

from dataclasses import dataclass
from typing import Final

LOOK_S: Final = 0.5
"""How often to look."""
SILENT_S: Final = 4.0
"""Four signs of life in a row are missing."""
STARVED_S: Final = 14.0
"""Nobody sees a picture for as long as this; whatever the reason, a new worker may be luckier."""
BUSY_SHARE: Final = 0.5
"""Of one processor: more than this in `SILENT_S` would have been enough for a sign of life many times over."""
STOPPED: Final = frozenset("TtZX")
SLEEPING: Final = frozenset("SI")


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the system says of a process."""

    state: str
    """Letter of proc(5): R runs or waits for a processor, S sleeps, D waits for a disk, T is stopped."""
    cpu_s: float
    """Processor time used so far, all threads."""


class Heartbeat:
    """The watch on one worker.

    Args:
        looked_s: now.
    """

    def __init__(self, looked_s: float) -> None:
        self._looked_s = looked_s
        self._silent_s = 0.0
        self._cpu_s: float | None = None
        """Processor time at the beginning of the silence."""

    def look(self, now_s: float, heard: bool, vitals: Vitals | None) -> bool:
        """Call every `LOOK_S`; True: it is hung.

        Args:
            heard: it has said something since the last look.
            vitals: None where the system does not tell.
        """
        passed_s, self._looked_s = now_s - self._looked_s, now_s
        if heard:
            self._silent_s, self._cpu_s = 0.0, None
            return False
        # A look that comes late was kept from looking, and what the worker said meanwhile may not be read yet.
        self._silent_s += min(passed_s, LOOK_S)
        if vitals is None:
            return self._silent_s >= STARVED_S
        if self._cpu_s is None:
            self._cpu_s = vitals.cpu_s
        if self._silent_s < SILENT_S:
            return False
        worked = vitals.cpu_s - self._cpu_s >= BUSY_SHARE * self._silent_s
        return worked or vitals.state in STOPPED or vitals.state in SLEEPING or self._silent_s >= STARVED_S
