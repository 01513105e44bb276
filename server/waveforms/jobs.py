"""Runs jobs on whole recordings (`job`) in processes of their own, a few at a time."""

import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import structlog

log = structlog.get_logger(__name__)

AT_ONCE: Final = 2
WAITING: Final = 8
TIMEOUT_S: Final = 300.0
MAX_ANSWER_BYTES: Final = 16 << 20


class JobFailed(Exception):
    """The job did not end well; ``code`` is stable, the text is for the log."""

    def __init__(self, code: str, text: str = "", sentences: tuple[str, str] | None = None) -> None:
        super().__init__(f"{code}: {text}" if text else code)
        self.code = code
        self.sentences = sentences


class Jobs:
    """A few processes at a time; a queue with a bound before them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    def clear(self) -> None:
        """Remove what jobs of a process that was killed left behind: copies of recordings."""
        for left in self.folder.glob("job-*"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > 2 * TIMEOUT_S:
                    shutil.rmtree(left, ignore_errors=True)

    def workspace(self) -> "tempfile.TemporaryDirectory[str]":
        """A folder for one job's files; gone with its ``with`` block."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="job-", dir=self.folder)

    async def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do one job; the content of its ``ok``.

        Raises:
            JobFailed: what the job said; ``busy`` when too many wait; ``timeout`` or ``broken``.
        """
        if self._waiting >= WAITING:
            raise JobFailed("busy")
        self._waiting += 1
        try:
            async with self._slots:
                return await self._run(request)
        finally:
            self._waiting -= 1

    async def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.waveforms.job",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the application's
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                out, _ = await process.communicate(json.dumps(request).encode())
        except TimeoutError:
            raise JobFailed("timeout") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        try:
            if process.returncode or len(out) > MAX_ANSWER_BYTES:
                raise JobFailed("broken", f"exit code {process.returncode}")
            answer = json.loads(out)
        except ValueError:
            raise JobFailed("broken", "no answer") from None
        if "error" in answer:
            sentences = (answer["en"], answer["zh"]) if "en" in answer else None
            raise JobFailed(str(answer["error"]), str(answer.get("text", "")), sentences)
        found: dict[str, Any] = answer["ok"]
        return found
