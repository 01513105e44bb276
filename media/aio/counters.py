"""Named counts of one worker: what came, what left, what was refused and why.

One flat table on purpose: bad input is counted here instead of logged, so a flood costs a
dictionary update per datagram and fills no disk. `stats` of the control protocol shows it.
"""

import logging
from collections import defaultdict

log = logging.getLogger(__name__)

TRACES_PER_KIND = 3


class Counters:
    """Counts that only grow."""

    def __init__(self) -> None:
        self.values: defaultdict[str, int] = defaultdict(int)

    def add(self, name: str, amount: int = 1) -> None:
        """Count ``amount`` more of ``name``."""
        self.values[name] += amount

    def broke(self, name: str) -> None:
        """Count an exception that is our own bug; the first few of each kind are logged with their trace."""
        self.values[name] += 1
        if self.values[name] <= TRACES_PER_KIND:
            log.exception("a bug in the packet path", extra={"counter": name})
