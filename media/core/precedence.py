"""Who goes first when the server and a media worker want the same core.

A picture that waits 50 ms is late; a page of the record is not. Yet to the kernel both are programs like any other, and
while the server reads pages for a whole consult, the worker gets its half of the core and no more, after whatever turn
the server is in. What an unprivileged process may say about that on Linux, and what is said here:

* the server's threads have the policy BATCH: waking up, they push nobody from the core (sched(7));
* they, and all that the server starts but workers, are a few steps nicer: of a full core a worker gets three quarters.
  Where the kernel first shares out between sessions (autogroups; a worker is in a session of its own) only the
  session's own nice value counts, so it gets the same steps;
* a worker asks for short turns: with EEVDF, since Linux 6.12, who asked for less has it sooner, and is let in at once
  when it wakes up. Older kernels take the wish and do nothing with it.

A nice value does not come back without privilege. So what is to go first must not inherit: workers are started by a
thread that stays as it was (``media.aio.spawner``). Whoever started the server with another policy, such as IDLE, wants
that for all of it: nothing is changed then.

No system call here: those are in ``media.aio.scheduling``.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

STEPS: Final = 5
"""Nice steps: a weight of 335 to 1024. Enough to matter, too little to starve a server beside other programs."""
NICEST: Final = 19
TURN_US: Final = 100
"""The shortest turn that the kernel grants; its own choice is 1.4 to 2.8 ms."""


class Policy(StrEnum):
    """What sched(7) calls a policy; any real-time one is ``real_time``."""

    OTHER = "other"
    BATCH = "batch"
    IDLE = "idle"
    REAL_TIME = "real_time"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a thread stands with the kernel."""

    policy: Policy
    nice: int
    turn_us: int
    """Length of its turns; 0 where the kernel knows none of its own."""
    session_nice: int | None
    """Of its session; None where the kernel does not share out between sessions, or others are in this one."""


def behind(now: Standing) -> Standing:
    """Where a thread of the server should stand; idempotent."""
    if now.policy is not Policy.OTHER:
        return now
    session = None if now.session_nice is None else min(now.session_nice + STEPS, NICEST)
    return replace(now, policy=Policy.BATCH, nice=min(now.nice + STEPS, NICEST), session_nice=session)


def in_front(now: Standing) -> Standing:
    """Where a worker's thread should stand; idempotent."""
    return replace(now, turn_us=TURN_US) if now.policy is Policy.OTHER else now
