"""Named counts of one worker: what came, what left, what was refused and why.

One flat table on purpose: bad input is counted here instead of logged, so a flood costs a
dictionary update per datagram and fills no disk. `stats` of the control protocol shows it.
"""

from collections import defaultdict


class Counters:
    """Counts that only grow."""

    def __init__(self) -> None:
        self.values: defaultdict[str, int] = defaultdict(int)

    def add(self, name: str, amount: int = 1) -> None:
        """Count ``amount`` more of ``name``."""
        self.values[name] += amount
