"""The simulators as supervised child processes: started with the demo, restarted when they fall, ended with it.

One that ends by itself has seen its consult ended; the next start of the demo makes a new consult.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable

import structlog

from server.bedside.client import Assignment
from server.exits import Exit

log = structlog.get_logger(__name__)

STOP_S = 4.0
"""How long a simulator may take to end before it is killed."""
FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S = 0.5, 10.0, 30.0


@contextlib.asynccontextmanager
async def simulator(module: str, assignment: Assignment, say: Callable[[str], None]) -> AsyncIterator[None]:
    """Keep ``python -m module`` running for the length of the block.

    Args:
        say: told, in a sentence, when the process had to be started again.
    """
    keeper = asyncio.create_task(_keep(module, assignment, say), name=module)
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


async def _keep(module: str, assignment: Assignment, say: Callable[[str], None]) -> None:
    pause_s = FIRST_PAUSE_S
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        code = await _run(module, assignment)
        if loop.time() - began > STEADY_S:
            pause_s = FIRST_PAUSE_S
        if code == Exit.OK:  # its consult was ended
            return
        say(f"{module} ended with code {code}; starting it again.")
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _run(module: str, assignment: Assignment) -> int:
    """One life of the process; whoever cancels this ends it."""
    # Its own process group: Ctrl-C reaches the demo alone, which then ends its children in order.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=asyncio.subprocess.PIPE, process_group=0
    )
    assert process.stdin is not None, "asked for a pipe"
    try:
        with contextlib.suppress(ConnectionError):  # it fell before it read: `wait` says so
            process.stdin.write(assignment.model_dump_json().encode() + b"\n")
            await process.stdin.drain()
        return await process.wait()
    finally:
        if process.returncode is None:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        log.warning("simulator killed", pid=process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
