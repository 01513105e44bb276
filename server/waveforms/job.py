"""Work on whole recordings, in a process of its own: ``python -m server.waveforms.job``.

An export reads and decodes up to hours of samples, an import reads a stranger's file: neither may hold the server's
loop, its memory or its life. The job comes as JSON on standard input, the result goes to the file it names; standard
output says ``{"ok": ...}`` or ``{"error": code, "text": ...}``. Memory and CPU time are limited by the system.
"""

import contextlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, Final

from media.aio.scheduling import follow_nice

MEMORY_BYTES: Final = 3 << 30
CPU_S: Final = 300
NICE: Final = 10


def main() -> None:
    """Do one job."""
    os.nice(NICE)
    follow_nice()
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request: dict[str, Any] = json.load(sys.stdin)
    work = {"export": _export, "import": _import, "print": _print}[request["job"]]
    json.dump(work(request), sys.stdout)


def _export(request: dict[str, Any]) -> dict[str, Any]:
    # imported here: an import of a file does not need what an export needs
    from server.waveforms.archive import frames_in_order, layout_of, read_spots
    from server.waveforms.blobs import BlobError, FolderBlobs
    from server.waveforms.core.dicom import RateUnsupported, build_dicom
    from server.waveforms.core.identity import ExportJob
    from server.waveforms.core.timeline import ExportTooLarge, read_runs
    from server.waveforms.core.wfdb import build_zip

    job = ExportJob.model_validate(request["export"])
    blobs = FolderBlobs(Path(job.folder))
    try:
        spots = [
            spot
            for spot in read_spots(blobs, job.info, layout_of(blobs, job.info))
            if spot.head.end_us > job.from_us and spot.head.t0_us < job.to_us
        ]
        frames = frames_in_order(blobs, job.info.archive, spots)
        runs = read_runs(job.info, frames)
        if not runs:
            return {"error": "empty", "text": "no samples in this stretch"}
        if job.kind == "dcm":
            data = build_dicom(job.info, job.identity, runs)
        else:
            data = build_zip(job.info, job.identity, runs, job.vitals)
        Path(request["out"]).write_bytes(data)
    except (ExportTooLarge, MemoryError) as problem:
        return {"error": "too_large", "text": str(problem)}
    except (RateUnsupported, ValueError) as problem:
        return {"error": "unsupported", "text": str(problem)}
    except BlobError as problem:
        return {"error": "unavailable", "text": str(problem)}
    return {"ok": {"runs": len(runs), "cells": sum(run.cells for run in runs)}}


def _import(request: dict[str, Any]) -> dict[str, Any]:
    from server.waveforms.importing import convert

    return convert(request)


def _print(request: dict[str, Any]) -> dict[str, Any]:
    from server.waveforms.snapshots import print_job

    Path(request["out"]).write_bytes(print_job(request))
    return {"ok": {}}


if __name__ == "__main__":
    main()
