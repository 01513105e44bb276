"""A real PostgreSQL for contract tests: made in a temporary folder, gone afterwards.

PostgreSQL refuses to run as root, so as root it runs as the user ``postgres``.
It listens on a Unix socket in its own folder only.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

_numbers = itertools.count(1)


def _binaries() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)


def _as_owner() -> list[str]:
    if os.getuid() != 0:
        return []
    return ["runuser", "-u", "postgres", "--"]


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[Path]:
    """Socket folder of a running server."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed (Debian package postgresql-15)")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.getuid() == 0:
        try:
            shutil.chown(folder, "postgres")
        except LookupError:
            pytest.skip("PostgreSQL refuses root and there is no user postgres")
    data, run = folder / "data", _as_owner()
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=60"
    try:
        subprocess.run(
            [*run, binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        subprocess.run(
            [*run, binaries / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start"],
            check=True,
            capture_output=True,
            cwd=folder,
            timeout=60,
        )
        yield folder
        subprocess.run(
            [*run, binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"],
            check=True,
            capture_output=True,
            cwd=folder,
            timeout=60,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_folder: Path) -> str:
    """URL of a fresh database."""
    name = f"t{next(_numbers)}"
    with psycopg.connect(host=str(postgres_folder), user="postgres", dbname="postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    return f"postgresql://postgres@/{name}?host={postgres_folder}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'contract.db'}"
    return str(request.getfixturevalue("postgres_url"))
