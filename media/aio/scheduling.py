"""System calls for ``media.core.precedence``: how this process stands with the kernel, and to stand elsewhere.

Python has no ``sched_setattr``, and glibc only since 2.41: it is called by its number. What the kernel or a container
refuses stays as it is; callers are told how things stand afterwards, not what was wished.
"""

import contextlib
import ctypes
import os
import platform
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from media.core.precedence import Policy, Standing, behind, in_front

_GENERIC: Final = (274, 275)
_CALLS: Final = {"x86_64": (314, 315), "aarch64": _GENERIC, "riscv64": _GENERIC, "loongarch64": _GENERIC}
"""``sched_setattr``, ``sched_getattr`` by ``uname -m``, for programs of 64 bits."""
_POLICIES: Final = {os.SCHED_OTHER: Policy.OTHER, os.SCHED_BATCH: Policy.BATCH, os.SCHED_IDLE: Policy.IDLE}
_NUMBERS: Final = {policy: number for number, policy in _POLICIES.items()}
_RESET_ON_FORK: Final = 1
_SESSION: Final = Path("/proc/self/autogroup")
_SESSION_TRIES: Final = 4
_SESSION_PAUSE_S: Final = 0.12
"""The kernel takes ten such changes a second, of all programs together (kernel/sched/autogroup.c)."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    """``struct sched_attr``, its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime_ns", ctypes.c_uint64),
        ("deadline_ns", ctypes.c_uint64),
        ("period_ns", ctypes.c_uint64),
    )


def standing(thread: int = 0) -> Standing:
    """How a thread of this process stands; 0 is the calling one.

    Raises:
        OSError: there is no such thread any more.
    """
    attributes = _read(thread)
    turn_us = 0 if attributes is None else attributes.runtime_ns // 1_000
    policy = _POLICIES.get(os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK, Policy.REAL_TIME)
    return Standing(policy, os.getpriority(os.PRIO_PROCESS, thread), turn_us, _session_nice())


def give_way(*, but: Collection[int]) -> Standing:
    """Put every thread of this process, and those they will start, behind media workers.

    Returns how the calling one stands then.

    Args:
        but: threads that stay as they are.
    """
    session = behind(standing()).session_nice
    moved = set(but)
    while ahead := _threads() - moved:  # a thread that is still ahead may have started another
        for thread in ahead:
            with contextlib.suppress(OSError):  # it has ended, or this container allows nothing of the kind
                _put_behind(thread)
        moved |= ahead
    _set_session_nice(session)
    return standing()


def go_first() -> Standing:
    """Ask for short turns for the calling thread; how it stands then."""
    now = standing()
    wanted, attributes, calls = in_front(now), _read(0), _calls()
    if attributes is not None and calls is not None and wanted != now:
        attributes.runtime_ns = wanted.turn_us * 1_000
        _libc.syscall(calls[0], 0, ctypes.byref(attributes), 0)
    return standing()


def follow_nice() -> None:
    """Let this process's session be as nice as the process: between sessions the process's own value says nothing."""
    if _session_nice() is not None:
        _set_session_nice(max(0, os.getpriority(os.PRIO_PROCESS, 0)))


def _put_behind(thread: int) -> None:
    now = standing(thread)
    wanted = behind(now)
    if wanted != now:
        os.sched_setscheduler(thread, _NUMBERS[wanted.policy], os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, thread, wanted.nice)


def _calls() -> tuple[int, int] | None:
    return _CALLS.get(platform.machine()) if sys.maxsize > 1 << 32 else None


def _read(thread: int) -> _Attributes | None:
    attributes, calls = _Attributes(), _calls()
    if calls is None or _libc.syscall(calls[1], thread, ctypes.byref(attributes), ctypes.sizeof(attributes), 0):
        return None
    attributes.flags &= _RESET_ON_FORK  # what else it says of a thread it does not take
    return attributes


def _threads() -> set[int]:
    return {int(thread.name) for thread in Path("/proc/self/task").iterdir()}


def _session_nice() -> int | None:
    """``/autogroup-21 nice 5``; None where there are none, or other programs share this session."""
    if os.getsid(0) != os.getpid():
        return None
    try:
        return int(_SESSION.read_text(encoding="ascii").split()[-1])
    except (OSError, ValueError, IndexError):
        return None


def _set_session_nice(nice: int | None) -> None:
    for _ in range(_SESSION_TRIES):
        if nice is None or nice == _session_nice():
            return
        try:
            _SESSION.write_text(str(nice), encoding="ascii")
        except BlockingIOError:
            time.sleep(_SESSION_PAUSE_S)
        except OSError:
            return
