"""A wall clock that can jump, for one process tree: a machine's clock cannot be set for a test, this can.

Python imports a module of this name before anything else when its folder is in ``PYTHONPATH``. From then on
`time.time`, `time.time_ns` and `time.clock_gettime` of the wall clock are off by what the file in ``LOAD_CLOCK`` says,
eight bytes of nanoseconds, from one call to the next. Monotonic clocks stay, as they do when an administrator or NTP
sets a machine's clock. What C code asks the kernel (`datetime.now`, time stamps of sockets) is not reached.
"""

import mmap
import os
import time

_file = os.environ.get("LOAD_CLOCK", "")
if _file:
    _handle = os.open(_file, os.O_RDONLY)
    _off = mmap.mmap(_handle, 8, prot=mmap.PROT_READ)
    os.close(_handle)
    _time_ns, _gettime, _gettime_ns = time.time_ns, time.clock_gettime, time.clock_gettime_ns

    def _off_ns() -> int:
        return int.from_bytes(_off[:8], "little", signed=True)

    def _stepped_ns() -> int:
        return _time_ns() + _off_ns()

    def _stepped() -> float:
        return _stepped_ns() / 1e9

    def _clock(number: int) -> float:
        return _stepped() if number == time.CLOCK_REALTIME else _gettime(number)

    def _clock_ns(number: int) -> int:
        return _stepped_ns() if number == time.CLOCK_REALTIME else _gettime_ns(number)

    time.time, time.time_ns = _stepped, _stepped_ns
    time.clock_gettime, time.clock_gettime_ns = _clock, _clock_ns
