"""What the lock adds to a read: hub, gateway and a FHIR server on one machine, against a direct call to that server.

The hub is a whole `consilium demo`, the gateway `consilium gateway run`, the FHIR server `rig.fhir` (it
answers from memory, so that what is measured is the lock). One client asks in turn, directly and through the hub's
API, each over one kept connection: sign-in, permission, context, both audit rows, both policies and the field filter
are in the figure. Value: percentile through the lock minus the same percentile of direct calls. Hub and gateway run
with their steps timed (`traced_process`), and the median of each stage is a figure of its own: the next lever.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from load_tests.bench.lock.stages import BESIDE, PATH, read_marks, stages_of
from load_tests.rig.demo_process import Demo, demo, free_port
from load_tests.rig.fhir import RESULTS
from load_tests.rig.figures import Scalar, emit, median, note, percentile

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


TRACED = "load_tests.bench.lock.traced_process"


@dataclass(frozen=True, slots=True)
class _Read:
    """One whole read at the client: CLOCK_MONOTONIC in ns, and the answer's bytes."""

    began_ns: int
    ended_ns: int
    size: int

    @property
    def took_ms(self) -> float:
        return (self.ended_ns - self.began_ns) / 1e6


def run() -> None:
    """The suite."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with demo(place / "hub", module=TRACED) as hub:
            direct, through = asyncio.run(_measure(hub, place / "gateway"))
        marks = read_marks([place / "hub", place / "gateway"])
    params: dict[str, Scalar] = {
        "reads": READS, "bytes": through[-1].size, "resources": RESULTS, "hub": "consilium demo",
        "cores": os.cpu_count() or 0,
    }  # fmt: skip
    for percent in (50, 99):
        whole = percentile([one.took_ms for one in through], percent)
        plain = percentile([one.took_ms for one in direct], percent)
        emit(f"lock_read_added_ms_p{percent}", whole - plain, "ms", {**params, "aim": 5 if percent == 50 else 20},
             {"direct_ms": plain, "through_ms": whole})  # fmt: skip
    found = stages_of(marks, [(one.began_ns, one.ended_ns) for one in through])
    for name, _from, _to in (*PATH, *BESIDE):
        beside = (name, _from, _to) in BESIDE
        emit("lock_read_stage_ms_p50", median(found[name]), "ms",
             {"stage": name, "beside_the_path": beside, "p99": round(percentile(found[name], 99), 3)})  # fmt: skip


async def _measure(hub: Demo, folder: Path) -> tuple[list[_Read], list[_Read]]:
    """Reads directly and through the lock, in turn, after some to warm up."""
    direct: list[_Read] = []
    through: list[_Read] = []
    async with _doctor(hub) as (http, consult, version, mrn):
        fhir_port = free_port()
        with _fhir(fhir_port, mrn), _gateway(hub, folder, fhir_port):
            through_url = f"{hub.url}/api/consults/{consult}/lock/Observation?version={version}"
            await _ready(http, through_url)
            direct_url = f"http://127.0.0.1:{fhir_port}/Observation/_search"
            for turn in range(WARM + READS):
                if turn % 200 == 0:
                    note(f"  {turn} of {WARM + READS}")
                direct.append(await _timed(http, "POST", direct_url))
                through.append(await _timed(http, "GET", through_url))
                await asyncio.sleep(0.21)  # below what one session may ask in a minute
    return direct[WARM:], through[WARM:]


async def _timed(http: aiohttp.ClientSession, method: str, url: str) -> _Read:
    """One whole read."""
    began_ns = time.perf_counter_ns()
    form = {"patient": "1", "_count": "500"} if method == "POST" else None
    async with http.request(method, url, data=form) as answer:
        body = await answer.read()
    ended_ns = time.perf_counter_ns()
    if answer.status != 200:
        raise AssertionError(f"{answer.status}: {body[:300]!r}")
    return _Read(began_ns, ended_ns, len(body))


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
    process = subprocess.Popen([sys.executable, "-m", "load_tests.rig.fhir", str(port), SYSTEM, mrn])
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
        run_it = [sys.executable, "-m", TRACED, "gateway", "run", "--data-dir", str(folder)]
        process = subprocess.Popen(run_it, stdout=log, stderr=subprocess.STDOUT)
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
