"""The record as it grows: import rate, size, and how long a doctor waits for a search, at 10 k, 100 k and a million.

Filling and timing are done by the store's own tools (`server.record.bulk`, `server.record.timing`)
in processes of their own; resources are made up and not validated, which the import
rate says (``validated`` is false). PostgreSQL is measured where its programs are
installed, with its settings as they come but for the socket.

A million takes many minutes to fill. ``--keep FOLDER`` leaves the stores there, and
``--only load --seconds 240`` fills for so long and goes on the next time; once full,
``--only time`` and ``--only cold`` measure, on a machine that does nothing else::

    python -m load_tests.bench.record.million --keep DIR --databases sqlite --sizes 1000000 --only load --seconds 240
    python -m load_tests.bench.record.million --keep DIR --databases sqlite --only time

Warm is: all files read once, then some rounds of each question about other patients. Cold is: the
database's process started anew, and its files taken out of the operating
system's cache, before every question. What a disk or a host keeps is beyond our reach.

No FHIR server that is kept up and has a store of its own comes from PyPI or npm: what they
have are clients, routers that search in memory, and frameworks that leave the store to others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from load_tests.rig.figures import Scalar, emit, note, percentile

SIZES = (10_000, 100_000, 1_000_000)
DATABASES = ("sqlite", "postgresql")
ROUNDS, COLD_ROUNDS = 300, 20
_A_LOAD_S = 3 * 3_600.0
_MADE_OF_ONE_PATIENT = 10_000
_STEPS = ("load", "time", "cold")


def run(
    sizes: tuple[int, ...] = SIZES,
    databases: tuple[str, ...] = DATABASES,
    *,
    keep: Path | None = None,
    steps: tuple[str, ...] = _STEPS,
    seconds: float = _A_LOAD_S,
) -> None:
    """Every size on every database that is there."""
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="record-")))
        if keep is None or not keep.exists():
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711)  # the user of PostgreSQL passes through it to its own
        for name in databases:
            if name == "postgresql" and _binaries() is None:
                note("PostgreSQL's initdb and pg_ctl are not installed: left out")
                continue
            for size in sizes:
                _measure(name, size, folder / f"{name}-{size}", steps, seconds)
                if keep is None:
                    shutil.rmtree(folder / f"{name}-{size}", ignore_errors=True)


def _measure(name: str, size: int, place: Path, steps: tuple[str, ...], seconds: float) -> None:
    place.mkdir(parents=True, exist_ok=True)
    params: dict[str, Scalar] = {"database": name, "resources": size}
    with _database(name, place) as url:
        full = _filled(url, size, place, seconds, params) if "load" in steps else _progress(place)["resources"] == size
        if not full:
            note(f"{name}: {_progress(place)['resources']} of {size}; the next call goes on")
            return
        if "time" in steps:
            _warm(place)
            _emit_times(
                _tool("timing", url, "--resources", str(size), "--rounds", str(ROUNDS)), {**params, "cache": "warm"}
            )
        if "cold" in steps:
            between = shlex.join([sys.executable, "-m", "load_tests.bench.record.million", "--cool", str(place)])
            rounds = ["--rounds", str(COLD_ROUNDS), "--between", between]
            _emit_times(_tool("timing", url, "--resources", str(size), *rounds), {**params, "cache": "cold"})


def _filled(url: str, size: int, place: Path, seconds: float, params: dict[str, Scalar]) -> bool:
    """Fill; whether all is there. What the pieces took is added up."""
    before = _progress(place)
    if before["resources"] < size:
        note(f"{params['database']}: filling up to {size} resources")
        piece = _tool("bulk", url, "--resources", str(size), "--seconds", str(seconds))
        before = {**piece, "seconds": before["seconds"] + piece["seconds"]}
        (place / "progress.json").write_text(json.dumps(before))
    if before["resources"] < size:
        return False
    emit("record_import_per_s", size / before["seconds"], "1/s", {**params, "validated": False})
    emit("record_bytes_per_resource", before["bytes"] / size, "bytes", params)
    return True


def _progress(place: Path) -> dict[str, Any]:
    file = place / "progress.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"resources": 0, "seconds": 0.0}
    return found


def _emit_times(found: dict[str, list[float]], params: dict[str, Scalar]) -> None:
    for question, times in found.items():
        more = {**params, "rounds": len(times)}
        if question == "open_giant":
            whole = min(_MADE_OF_ONE_PATIENT, int(params["resources"]) // 2)
            emit("record_open_patient_ms_p50", percentile(times, 50), "ms", {**more, "patient_resources": whole})
            emit("record_open_patient_ms_max", max(times), "ms", {**more, "patient_resources": whole})
            continue
        emit(f"record_{question}_ms_p50", percentile(times, 50), "ms", more)
        emit(f"record_{question}_ms_p99", percentile(times, 99), "ms", more)


def _tool(name: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"server.record.{name}", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_A_LOAD_S)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# ------------------------------------------------------------------ databases


@contextlib.contextmanager
def _database(name: str, place: Path) -> Iterator[str]:
    if name == "sqlite":
        yield f"sqlite:///{place / 'record.db'}"
        return
    server = _Postgresql(place)
    server.start()
    try:
        yield f"postgresql://postgres@/postgres?host={place}"
    finally:
        server.stop()


def _binaries() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "pg_ctl").exists()), None)


class _Postgresql:
    """A server with its data in a folder, on a Unix socket only; as root it runs as the user ``postgres``."""

    def __init__(self, place: Path) -> None:
        binaries = _binaries()
        assert binaries is not None, "asked before"
        self._binaries, self._place, self._data = binaries, place, place / "data"
        self._owner = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []

    def start(self) -> None:
        """Make the data at the first start."""
        if self._owner:
            shutil.chown(self._place, "postgres")
        if not self._data.exists():
            self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8")
        options = ["-o", f"-k {self._place} -c listen_addresses=''", "-l", str(self._place / "log")]
        self._run("pg_ctl", "-D", str(self._data), *options, "-w", "start")

    def stop(self) -> None:
        """End it, in order."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "fast", "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._owner, str(self._binaries / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._place, timeout=300)


def _warm(place: Path) -> None:
    """Read all files of a store once, so that the operating system has them."""
    for file in place.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                while opened.read(1 << 22):
                    pass


def _cool(place: Path) -> None:
    """Empty the caches of the store in a folder."""
    server = _Postgresql(place) if (place / "data").exists() else None
    if server is not None:
        server.stop()
    for file in place.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if server is not None:
        server.start()


def main() -> int:
    """Alone, with other sizes, or in pieces."""
    parser = argparse.ArgumentParser(prog="load_tests.bench.record.million")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="as 10000,1000000")
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument("--keep", type=Path, help="folder where the stores stay for the next call")
    parser.add_argument("--only", choices=_STEPS, help="one step; the others were or will be done by another call")
    parser.add_argument("--seconds", type=float, default=_A_LOAD_S, help="fill for so long at most")
    parser.add_argument("--cool", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.cool is not None:
        _cool(asked.cool)
        return 0
    sizes = tuple(int(word) for word in asked.sizes.split(","))
    steps = _STEPS if asked.only is None else (asked.only,)
    keep = asked.keep.resolve() if asked.keep is not None else None
    run(sizes, tuple(asked.databases.split(",")), keep=keep, steps=steps, seconds=asked.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
