"""One media worker as a child process, driven over its control protocol for measurements.

The control messages come from ``media.core.control``, the wire definition; the
connection here is as small as a load test needs and knows nothing of the
supervisor that serves a hospital.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from load_tests.rig.drive import process_cpu_s
from media.core import control
from media.core.control import JsonObject

ANSWER_TIMEOUT_S = 20.0
START_TIMEOUT_S = 40.0
MODULE = ("-m", "media.aio.worker")


class WorkerFailed(Exception):
    """The worker did not start, or declined a call."""


class Worker:
    """A worker and the one connection to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._waiting: dict[int, asyncio.Future[JsonObject]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._next = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the worker's incoming connection."""
        self._writer = writer
        self._reading = asyncio.create_task(self._read(reader))

    async def call(self, request: control.Request) -> JsonObject:
        """Send one request; its result.

        Raises:
            WorkerFailed: with the worker's code and text.
        """
        assert self._writer is not None
        self._next += 1
        answer: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self._waiting[self._next] = answer
        self._writer.write(control.build_frame({"id": self._next, "call": request.model_dump(exclude_none=True)}))
        reply = await asyncio.wait_for(answer, ANSWER_TIMEOUT_S)
        if "error" in reply:
            raise WorkerFailed(f"{reply['error']['code']}: {reply['error']['text']}")
        result: JsonObject = reply["ok"]
        return result

    async def path(self) -> str:
        """Which way packets leave: ``c`` or ``python``."""
        return "c" if (await self.counters()).get("forward_path_c") else "python"

    async def counters(self) -> dict[str, int]:
        """The worker's counters by name."""
        found: dict[str, int] = (await self.call(control.Stats()))["counters"]
        return found

    def cpu_s(self) -> float:
        """CPU time of all the worker's threads so far, user and system."""
        return process_cpu_s(self.process.pid)

    async def stop(self) -> None:
        """End the worker by closing its control connection."""
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        try:
            await asyncio.wait_for(self.process.wait(), 5)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        frames = control.FrameReader()
        while data := await reader.read(65_536):
            for frame in frames.feed(data):
                if "note" in frame:
                    if frame["note"]["event"] == "ready" and not self.ready.done():
                        self.ready.set_result(None)
                elif frame["id"] in self._waiting:
                    self._waiting.pop(frame["id"]).set_result(frame)


@contextlib.asynccontextmanager
async def worker(
    address: str = "127.0.0.1",
    *,
    launch: Sequence[str] = (),
    forward: str = "auto",
    module: Sequence[str] = MODULE,
) -> AsyncIterator[Worker]:
    """Start a worker; ends it afterwards.

    Args:
        address: what it binds and announces.
        launch: command in front of it, for a core or a network namespace of its own.
        forward: ``c``, ``python`` or ``auto``, the path it must take.
        module: how Python is told what to run.
    """
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as folder:
        path = Path(folder) / "control"
        command = [*launch, sys.executable, *module, "--control", str(path)]
        command += ["--port", "0", "--bind", address, "--address", address, "--log-level", str(logging.WARNING)]
        running: list[Worker] = []

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            running[0].serve(reader, writer)

        server = await asyncio.start_unix_server(connected, path)
        process = await asyncio.create_subprocess_exec(*command, env=os.environ | {"CONSILIUM_FORWARD": forward})
        running.append(Worker(process))
        try:
            began = time.monotonic()
            while not running[0].ready.done():
                if process.returncode is not None or time.monotonic() - began > START_TIMEOUT_S:
                    raise WorkerFailed("the worker did not start")
                await asyncio.sleep(0.05)
            yield running[0]
        finally:
            await running[0].stop()
            server.close()
