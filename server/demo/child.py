"""Being a child process of the demo: its orders come in on standard input, and its end too.

The first line is the `Assignment` as JSON (secrets do not belong on a command
line). End of input means that the demo is gone, however it went, so no
simulator outlives it. Ctrl-C in a terminal reaches every process of the group;
the demo decides what it means, so a child ignores it and waits to be told.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from pydantic import ValidationError

from server.bedside.client import Assignment
from server.exits import Exit
from server.log import configure_log


def main(work: Callable[[Assignment], Awaitable[None]]) -> int:
    """Run ``work`` until the demo says stop; the exit code."""
    configure_log(json=False, level=logging.WARNING)
    logging.getLogger("pymediasoup").setLevel(logging.ERROR)  # it warns of every channel that closes
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assignment = Assignment.model_validate_json(sys.stdin.readline())
    except ValidationError:
        print("This is a part of `consilium demo`, which starts it and tells it where to go.", file=sys.stderr)
        return Exit.SETTINGS
    asyncio.run(_until_told(work(assignment)))
    return Exit.OK


async def _until_told(work: Awaitable[None]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin, lambda: None if os.read(sys.stdin.fileno(), 4096) else stop.set())
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    loop.remove_reader(sys.stdin)
    for task in (working, stopping):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
