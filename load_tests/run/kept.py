"""After a run: does the server's data folder hold everything that the server had taken on itself?

Three promises are checked, in a process of its own (`kept_process`) once the server has stopped. The event log is whole
by the product's own verifier. Whatever was acknowledged to a session stands in it, once. Of a device's waveform every
frame that was measured is archived unchanged, or lies in what the archive itself shows as a gap; nothing else is there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from load_tests.run.guard import ends_with_us

CHECK_S: Final = 300.0


class Asked(BaseModel):
    """What is looked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    consults: tuple[str, ...]
    """Ids by number."""
    acks: tuple[tuple[str, int, str, float], ...]
    """As `load_tests.report.ledger.Ledger.acks`."""
    waves: tuple[tuple[int, int, int, int, int, int, int], ...]
    """As `load_tests.report.ledger.Ledger.waves`."""


class Kept(BaseModel):
    """What was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain_rows: int = 0
    chain_broken: int = 0
    """1: the verifier says so."""
    acks_checked: int = 0
    acks_lost: int = 0
    """Acknowledged, and not in the log."""
    acks_doubled: int = 0
    """In the log more than once."""
    wave_frames: int = 0
    """Measured by devices under a binding."""
    wave_kept: int = 0
    """Of these archived."""
    wave_in_gaps: int = 0
    """Of these inside what the archive shows as a gap."""
    wave_at_ends: int = 0
    """Of these before the first or behind the last archived frame, by no more than `EDGE_S`: on their way."""
    wave_silent: int = 0
    """Of these neither: missing, and nothing says so."""
    wave_invented: int = 0
    """Archived, and never measured, or with another time or version, or twice."""
    problem: str = ""
    """Why it could not be checked; empty when it was."""
    examples: tuple[str, ...] = ()
    """The first few of what is wrong, in words."""


async def check_kept(
    data_dir: Path, environment: Mapping[str, str], consults: Sequence[str], acks: Sequence[Any], waves: Sequence[Any]
) -> Kept:
    """Look into a folder whose server has stopped."""
    asked = json.dumps({"consults": list(consults), "acks": list(acks), "waves": list(waves)})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load_tests.run.kept_process", "--data-dir", str(data_dir), env=dict(environment),
        stdin=PIPE, stdout=PIPE, stderr=PIPE, preexec_fn=ends_with_us(),
    )  # fmt: skip
    errors = b""
    try:
        async with asyncio.timeout(CHECK_S):
            out, errors = await process.communicate(asked.encode())
        return Kept.model_validate_json(out)
    except (ValidationError, TimeoutError):
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no answer in time"]
        return Kept(problem=last[0])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
