"""Where the server's processes spend their CPU, by py-spy: a sampler that reads their Python stacks from outside.

It reads while the process runs on (``--nonblocking``): stopped for each look, a relay would be late by it, and C frames
take so long to unwind that a server hardly works any more. Time in C counts for the Python function that called it, and
a thread that waits for the disk counts as if it worked. A run with a profile is not for the record all the same. py-spy
is a program (``pip install py-spy``), not a library of ours, and needs the right to trace: root, or a kernel that lets
a parent trace its children.

A *sample* is one look at a thread that was on the CPU. ``self`` is what a function did by itself, ``with`` what it did
together with all that it called.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from load_tests.plan.reading import Exit, RunError

PROGRAM: Final = "py-spy"
RATE_HZ: Final = 100
MOST_ROWS: Final = 40
ENDING_S: Final = 20.0


def find_program() -> str:
    """Where it is.

    Raises:
        RunError: nowhere.
    """
    found = shutil.which(PROGRAM)
    if found is None:
        raise RunError(Exit.ARGUMENTS, f"--profile needs {PROGRAM} (pip install py-spy), which is not on the path.")
    return found


async def profiles(processes: Mapping[int, str], seconds: float) -> dict[str, str]:
    """Folded stacks of each process by its name, ``frame;frame count`` a line; what could not be read says why."""
    program = find_program()
    with tempfile.TemporaryDirectory() as folder:
        names = numbered(processes)
        texts = await asyncio.gather(
            *(_one(program, pid, seconds, Path(folder) / f"{name}.folded") for pid, name in names.items())
        )
    return dict(zip(names.values(), texts, strict=True))


def numbered(processes: Mapping[int, str]) -> dict[int, str]:
    """Names that differ: the second of a kind is ``worker-2``."""
    seen: Counter[str] = Counter()
    found = {}
    for pid, kind in sorted(processes.items()):
        seen[kind] += 1
        found[pid] = kind if seen[kind] == 1 else f"{kind}-{seen[kind]}"
    return found


async def _one(program: str, pid: int, seconds: float, path: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        program, "record", "--pid", str(pid), "--duration", str(round(seconds)), "--rate", str(RATE_HZ),
        "--nonblocking", "--format", "raw", "--nolineno", "--output", str(path),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds + ENDING_S):
            _, errors = await process.communicate()
    except TimeoutError:
        return f"# {PROGRAM} did not end\n"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        return await asyncio.to_thread(path.read_text, "utf-8", "replace")
    except FileNotFoundError:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no reason"]
        return f"# {last[0]}\n"


def table(folded: str) -> tuple[int, Counter[str], Counter[str]]:
    """Samples in all, and by function: by itself, and with what it called."""
    total, alone, together = 0, Counter[str](), Counter[str]()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        if not stack or not count.isdigit() or line.startswith("#"):
            continue
        frames, times = stack.split(";"), int(count)
        total += times
        alone[frames[-1]] += times
        for frame in set(frames):
            together[frame] += times
    return total, alone, together


def markdown(folded: Mapping[str, str], seconds: float) -> str:
    """A table for each process."""
    lines = ["# Profile", "", f"{seconds:.0f} s at {RATE_HZ} looks a second; per cent of one core."]
    for name, text in folded.items():
        total, alone, together = table(text)
        looks = seconds * RATE_HZ
        lines += ["", f"## {name}: on the CPU in {total / looks:.1%} of {looks:.0f} looks", ""]
        lines += [line for line in text.splitlines() if line.startswith("#")]
        for head, counts in (("by itself", alone), ("with what it called", together)):
            lines += [f"| {head} | % |", "|---|---|"]
            lines += [f"| {frame} | {times / looks:.2%} |" for frame, times in counts.most_common(MOST_ROWS)] + [""]
    return "\n".join(lines) + "\n"
