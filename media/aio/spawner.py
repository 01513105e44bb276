"""Start processes from a thread that stays as it was.

A child inherits how the thread that starts it stands with the kernel, and what a thread has given up does not come back
(``media.core.precedence``). So the one thread here is made before the server's threads give way, and does nothing but
start processes. Starting one also stops the event loop no longer.
"""

import asyncio
import os
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor


class Child:
    """One process; waited for by the event loop that it was made on."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._ended: asyncio.Future[int]
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(process.pid)
        except OSError:  # before Linux 5.3, or not allowed in this container
            self._ended = loop.run_in_executor(None, process.wait)
        else:
            self._ended = loop.create_future()
            loop.add_reader(descriptor, self._reap, descriptor)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of ``subprocess``; None while it runs, and until the event loop has heard."""
        return self._process.returncode

    async def wait(self) -> int:
        """Its return code, once it has ended."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Ask it to end; one that has ended does not mind."""
        self._process.terminate()

    def kill(self) -> None:
        """End it; one that has ended does not mind."""
        self._process.kill()

    def _reap(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        self._ended.set_result(self._process.wait())


class Spawner:
    """Owns the thread, which ends with it."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="media-spawner")
        self.thread = self._executor.submit(threading.get_native_id).result()
        """Its id with the kernel."""

    async def start(self, command: Sequence[str]) -> Child:
        """Start a program in a session of its own, without input.

        Raises:
            OSError: the machine cannot, for now or at all.
        """
        starting = asyncio.get_running_loop().run_in_executor(self._executor, _popen, command)
        try:
            return Child(await asyncio.shield(starting))
        except asyncio.CancelledError:
            await asyncio.wait({starting})
            if starting.exception() is None:
                child = Child(starting.result())
                child.kill()
                await child.wait()
            raise


def _popen(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    # Ctrl-C is the application's: it ends the worker in its own order
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - our own program
