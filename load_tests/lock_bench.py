"""What the lock adds to a read: hub, gateway and a FHIR server on one machine, against a direct call to that server.

The hub is a whole `consilium demo`, the gateway `consilium gateway run`, the FHIR server `lock_fhir` (it
answers from memory, so that what is measured is the lock). One client asks in turn, directly and through the hub's
API, each over one kept connection: sign-in, permission, context, both audit rows, both policies and the field filter
are in the figure. Value: percentile through the lock minus the same percentile of direct calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from load_tests.demo_process import Demo, demo, free_port
from load_tests.figures import Scalar, emit, note, percentile

PARTNER, SYSTEM = "demo-partner", "urn:consilium:demo:mrn"
READS, WARM = 300, 30
START_S = 60.0
LOGIN, PASSWORD = "chen", "consilium-demo"
POLICY = f"""
version = 1
[fields.Observation]
allow = ["status", "category", "code", "subject", "effectiveDateTime", "valueQuantity", "referenceRange"]
[questions]
types = ["Observation"]
roles = ["doctor"]
organisations = ["*"]
identifier_systems = ["{SYSTEM}"]
per_minute = 100000
"""


def run() -> None:
    """The suite."""
    with tempfile.TemporaryDirectory() as place, demo(Path(place) / "hub") as hub:
        asyncio.run(_measure(hub, Path(place) / "gateway"))


async def _measure(hub: Demo, folder: Path) -> None:
    async with _doctor(hub) as (http, consult, version, mrn):
        fhir_port = free_port()
        with _fhir(fhir_port, mrn), _gateway(hub, folder, fhir_port):
            through_url = f"{hub.url}/api/consults/{consult}/lock/Observation?version={version}"
            await _ready(http, through_url)
            direct_url = f"http://127.0.0.1:{fhir_port}/Observation/_search"
            direct: list[float] = []
            through: list[float] = []
            size = 0
            for turn in range(WARM + READS):
                if turn % 200 == 0:
                    note(f"  {turn} of {WARM + READS}")
                taken, _ = await _timed(http, "POST", direct_url)
                longer, size = await _timed(http, "GET", through_url)
                if turn >= WARM:
                    direct.append(taken)
                    through.append(longer)
                await asyncio.sleep(0.21)  # below what one session may ask in a minute
    params: dict[str, Scalar] = {
        "reads": READS, "bytes": size, "resources": 20, "hub": "consilium demo", "cores": os.cpu_count() or 0,
    }  # fmt: skip
    for percent in (50, 99):
        whole, plain = percentile(through, percent), percentile(direct, percent)
        emit(f"lock_read_added_ms_p{percent}", whole - plain, "ms", {**params, "aim": 5 if percent == 50 else 20},
             {"direct_ms": plain, "through_ms": whole})  # fmt: skip


async def _timed(http: aiohttp.ClientSession, method: str, url: str) -> tuple[float, int]:
    """Milliseconds and bytes of one whole read."""
    began = time.perf_counter()
    form = {"patient": "1", "_count": "500"} if method == "POST" else None
    async with http.request(method, url, data=form) as answer:
        body = await answer.read()
    taken = (time.perf_counter() - began) * 1_000
    if answer.status != 200:
        raise AssertionError(f"{answer.status}: {body[:300]!r}")
    return taken, len(body)


@contextlib.asynccontextmanager
async def _doctor(hub: Demo) -> AsyncIterator[tuple[aiohttp.ClientSession, str, int, str]]:
    """A signed-in doctor: her running consult, its context version, the open patient's record number."""
    jar = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=[hub.url])
    async with aiohttp.ClientSession(cookie_jar=jar, headers={"Origin": hub.url}) as http:
        async with http.post(f"{hub.url}/api/session", json={"login": LOGIN, "password": PASSWORD}) as answer:
            assert answer.status == 200, await answer.text()
        async with http.get(f"{hub.url}/api/consults") as answer:
            consults: list[dict[str, Any]] = (await answer.json())["consults"]
        consult = next(one["id"] for one in consults if one["status"] == "open")
        for version in range(1, 20):
            url = f"{hub.url}/api/consults/{consult}/record/Patient?version={version}"
            async with http.get(url) as answer:
                if answer.status == 200:
                    patient = (await answer.json())["entry"][0]["resource"]
                    mrn = next(one["value"] for one in patient["identifier"] if one.get("system") == SYSTEM)
                    yield http, consult, version, mrn
                    return
        raise AssertionError("no patient is open in the demo")


async def _ready(http: aiohttp.ClientSession, url: str) -> None:
    until = time.monotonic() + START_S
    while True:
        async with http.get(url) as answer:
            if answer.status == 200:
                return
            said = await answer.text()
        assert time.monotonic() < until, said
        await asyncio.sleep(0.3)


@contextlib.contextmanager
def _fhir(port: int, mrn: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "load_tests.lock_fhir", str(port), SYSTEM, mrn])
    with _ended(process):
        yield


@contextlib.contextmanager
def _gateway(hub: Demo, folder: Path, fhir_port: int) -> Iterator[None]:
    """Enrolled with a code of the hub's command line, and running."""
    command = [sys.executable, "-m", "server"]
    made = subprocess.run(
        [*command, "enrol-code", PARTNER, "--name", "bench", "--data-dir", str(hub.data_dir)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    code = re.match(r"[A-Z0-9]{4}(-[A-Z0-9]{4}){2}", made.stdout)
    assert code is not None, made.stdout
    enrol = ["gateway", "enrol", "--hub", hub.url, "--code", code[0], "--data-dir", str(folder)]
    subprocess.run([*command, *enrol], check=True, capture_output=True)
    (folder / "policy.toml").write_text(POLICY)
    (folder / "gateway.toml").write_text(f'[responder]\ntype = "fhir"\nbase = "http://127.0.0.1:{fhir_port}"\n')
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "gateway", "run", "--data-dir", str(folder)], stdout=log, stderr=subprocess.STDOUT
        )
        with _ended(process):
            yield


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
