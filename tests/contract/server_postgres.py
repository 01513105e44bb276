"""A real PostgreSQL for contract tests: made in a temporary folder, gone afterwards.

PostgreSQL refuses to run as root, so as root it runs as the user ``postgres``.
It listens on a Unix socket in its own folder only.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from server.storage import schema
from server.storage.database import Database

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
            timeout=100,
        )
        yield folder
        subprocess.run(
            [*run, binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"],
            check=True,
            capture_output=True,
            cwd=folder,
            timeout=100,
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


@pytest.fixture(scope="session")
def ready_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file at the schema of this version, to be copied."""
    file = tmp_path_factory.mktemp("ready") / "ready.db"
    asyncio.run(_prepare(f"sqlite:///{file}"))
    return file


@pytest.fixture(scope="session")
def ready_template(postgres_folder: Path) -> str:
    """Name of a PostgreSQL database likewise."""
    with psycopg.connect(host=str(postgres_folder), user="postgres", dbname="postgres", autocommit=True) as admin:
        admin.execute("CREATE DATABASE ready")
    asyncio.run(_prepare(f"postgresql://postgres@/ready?host={postgres_folder}"))
    return "ready"


async def _prepare(url: str) -> None:
    database = Database(url)
    await schema.upgrade(database)
    await database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def ready_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database of each kind at the schema of this version: migrating one anew costs most of a second."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("ready_file"), tmp_path / "contract.db")
        return f"sqlite:///{tmp_path / 'contract.db'}"
    folder, name = request.getfixturevalue("postgres_folder"), f"t{next(_numbers)}"
    template = request.getfixturevalue("ready_template")
    with psycopg.connect(host=str(folder), user="postgres", dbname="postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return f"postgresql://postgres@/{name}?host={folder}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'contract.db'}"
    return str(request.getfixturevalue("postgres_url"))
