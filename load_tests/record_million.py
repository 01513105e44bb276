"""The record as it grows: import rate, size, and how long a doctor waits for a search, at 10 k, 100 k and a million.

Filling and timing are done by the store's own tool (`server.record.bulk`) in processes of
their own; resources are made up and not validated, which the import rate says (``validated``
is false). Searches go through the store's code on one connection; what HTTP, the
token and the audit row add is not in them. PostgreSQL is measured where its
programs are installed, with its settings as they come but for the socket.

No other FHIR server runs from the package registries of this project without a
Java runtime and a container, so there is nothing beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from load_tests.figures import Scalar, emit, note, percentile

SIZES = (10_000, 100_000, 1_000_000)
ROUNDS = 300
_A_LOAD_S = 3 * 3_600
_MADE_OF_ONE_PATIENT = 10_000


def run(sizes: tuple[int, ...] = SIZES, databases: tuple[str, ...] = ("sqlite", "postgresql")) -> None:
    """Every size on every database that is there."""
    for name in databases:
        with tempfile.TemporaryDirectory(prefix="record-") as folder:
            for size in sizes:
                with _database(name, Path(folder), size) as url:
                    if url is None:
                        note("PostgreSQL's initdb and pg_ctl are not installed: left out")
                        break
                    _measure(name, url, size)


def _measure(name: str, url: str, size: int) -> None:
    params: dict[str, Scalar] = {"database": name, "resources": size}
    note(f"{name}: filling with {size} resources")
    loaded = _tool("load", url, "--resources", str(size))
    emit("record_import_per_s", size / loaded["seconds"], "1/s", {**params, "validated": False})
    emit("record_bytes_per_resource", loaded["bytes"] / size, "bytes", params)
    for question, times in _tool("time", url, "--rounds", str(ROUNDS)).items():
        if question == "open_giant":
            whole = {**params, "patient_resources": min(_MADE_OF_ONE_PATIENT, size // 2)}
            emit("record_open_patient_ms_p50", percentile(times, 50), "ms", whole)
            emit("record_open_patient_ms_max", max(times), "ms", whole)
            continue
        emit(f"record_{question}_ms_p50", percentile(times, 50), "ms", params)
        emit(f"record_{question}_ms_p99", percentile(times, 99), "ms", params)


def _tool(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "server.record.bulk", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_A_LOAD_S)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextlib.contextmanager
def _database(name: str, folder: Path, size: int) -> Iterator[str | None]:
    if name == "sqlite":
        file = folder / f"{size}.db"
        yield f"sqlite:///{file}"
        file.unlink(missing_ok=True)
        return
    with _postgresql() as socket:
        yield None if socket is None else f"postgresql://postgres@/postgres?host={socket}"


@contextlib.contextmanager
def _postgresql() -> Iterator[Path | None]:
    """A server in a folder of its own, on a Unix socket only; as root it runs as the user ``postgres``."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    binaries = next((place for place in places if (place / "pg_ctl").exists()), None)
    if binaries is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    owner: list[str | Path] = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if owner:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    start: list[str | Path] = ["-o", f"-k {folder} -c listen_addresses=''", "-l", folder / "log", "-w", "start"]
    commands: tuple[list[str | Path], ...] = (
        [*owner, binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"],
        [*owner, binaries / "pg_ctl", "-D", data, *start],
    )
    try:
        for command in commands:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=120)
        yield folder
        stop = [*owner, binaries / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop"]
        subprocess.run(stop, check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=120)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Alone, with other sizes."""
    parser = argparse.ArgumentParser(prog="load_tests.record_million")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="as 10000,1000000")
    parser.add_argument("--databases", default="sqlite,postgresql")
    asked = parser.parse_args()
    run(tuple(int(word) for word in asked.sizes.split(",")), tuple(asked.databases.split(",")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
