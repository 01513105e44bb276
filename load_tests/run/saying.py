"""How the load commands say what is wrong: one sentence on the error output, and the exit code that goes with it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from load_tests.plan.reading import Exit, RunError

LEAST_FREE_BYTES: Final = 50 << 20


def refuse(problem: RunError | OSError) -> int:
    """Say it; the exit code. Of the system's own errors only those of files come here."""
    if isinstance(problem, RunError):
        sentence, code = str(problem), problem.exit_code
    else:
        sentence, code = f"{problem.filename or 'A file'} cannot be written: {problem.strerror}.", Exit.STORAGE
    print(f"load_tests: {sentence}", file=sys.stderr)
    return code


def check_room(results: Path) -> None:
    """The results can be written, before anything is measured.

    Raises:
        RunError: no room, or no right.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(results).free
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as problem:
        raise RunError(Exit.STORAGE, f"{results} cannot be written: {problem.strerror}.") from None
    if free < LEAST_FREE_BYTES:
        raise RunError(Exit.STORAGE, f"{results} has {free >> 20} MB left, a report needs {LEAST_FREE_BYTES >> 20}.")
