"""How busy each core of this machine is, whoever keeps it so, and what its host takes away: from ``/proc/stat``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

STAT: Final = Path("/proc/stat")
IDLE, WAITING, STOLEN = 3, 4, 7
"""Fields behind a core's name: idle, waiting for a disk, taken by the host of a virtual machine."""


def read_cores(text: str) -> dict[str, list[int]]:
    """By core (``0``, ``1``): ticks so far by what they were spent on, guests' left out (they are in the user's)."""
    lines = (line.split() for line in text.splitlines())
    return {
        line[0][3:]: [int(one) for one in line[1:9]] for line in lines if line and line[0][:3] == "cpu" and line[0][3:]
    }


class MachineLook:
    """Remembers the look before."""

    def __init__(self) -> None:
        self._before = self._read()

    def look(self) -> dict[str, float]:
        """Since the look before: ``core0_busy`` and so on, shares; ``stolen``, mean share of all cores."""
        before, now = self._before, self._read()
        self._before = now
        found, stolen = {}, []
        for core in now.keys() & before.keys():
            spent = [more - less for more, less in zip(now[core], before[core], strict=True)]
            if (whole := sum(spent)) > 0:
                found[f"core{core}_busy"] = 1 - (spent[IDLE] + spent[WAITING]) / whole
                stolen.append(spent[STOLEN] / whole)
        if stolen:
            found["stolen"] = sum(stolen) / len(stolen)
        return found

    def _read(self) -> dict[str, list[int]]:
        with contextlib.suppress(OSError, ValueError):
            return read_cores(STAT.read_text())
        return {}
