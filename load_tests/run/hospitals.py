"""Partner hospitals beside the server under test: a real gateway each, and what stands behind it.

A hospital is a FHIR server (`hospital_process`), a `consilium gateway run` that was enrolled with a one-time code of
the hub's own command line, and a line to the hub that can be cut (`cuttable`; to the gateway it is the hospital's
HTTP proxy). Systems that send to it are sessions of the generators (`load_tests.session.hospital`).

While it runs, the journals are read once a second for what waits, without disturbing them. At the end, when everything
has crossed, the hub's own log of crossings and its record are held against what the hospitals were told: each message
that was answered AA must be applied exactly once, in the order of the journal. All times are of one machine's clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from load_tests.plan.reading import Exit, RunError
from load_tests.report.ledger import Ledger
from load_tests.rig.demo_process import free_port
from load_tests.run.cuttable import CuttableLine
from load_tests.run.guard import ends_with_us
from load_tests.session.hospital import ID, MRN
from load_tests.session.world import World, partner_id

START_S: Final = 60.0
STOP_S: Final = 15.0
DRAIN_S: Final = 90.0
"""At the end so long is waited for what still has to cross."""
LOOK_S: Final = 0.2
USUAL: Final = 4
"""Messages that wait in a gateway at any moment, on their way."""
SOURCE: Final = "his"
TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE_MB: Final = os.sysconf("SC_PAGE_SIZE") / 1e6
POLICY: Final = """version = 1
[[out]]
kind = "ADT^A08"
types = ["Patient"]
[[out]]
kind = "ORU^R01"
[[out]]
kind = "ORM^O01"
[fields.Patient]
allow = ["identifier", "name", "gender", "birthDate", "active", "meta", "address"]
[fields.Observation]
allow = ["meta", "status", "identifier", "category", "code", "subject", "effectiveDateTime", "issued", "value[x]",
         "interpretation", "referenceRange"]
[fields.DiagnosticReport]
allow = ["meta", "status", "identifier", "category", "code", "subject", "effectiveDateTime", "issued", "result"]
[fields.ServiceRequest]
allow = ["meta", "status", "identifier", "intent", "code", "subject", "authoredOn"]
[questions]
types = ["Observation"]
roles = ["doctor"]
organisations = ["*"]
identifier_systems = ["{system}"]
per_minute = 100000
at_once = 32
"""
REPORTS: Final = "SELECT count(*) FROM fhir_resource WHERE type = 'DiagnosticReport'"
CROSSINGS: Final = """SELECT gateway_id, sequence, last, source, kind, verdict, gateway_received_us, hub_committed_us
FROM lock_crossing ORDER BY id"""
OPEN: Final = "SELECT count(*) FROM outward WHERE state = 'pending' AND id <= ?"


@dataclass
class Hospital:
    """One of them, running."""

    name: str
    folder: Path
    port: int
    """Where its gateway takes HL7 v2."""
    line: CuttableLine
    process: subprocess.Popen[bytes]
    cpu_s: float = 0.0
    sampled_s: float = field(default_factory=time.monotonic)

    def journal(self, query: str, *values: int) -> int:
        """One number of its journal; 0 while that cannot be read."""
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_open(self.folder / "journal.db")) as db:
            row = db.execute(query, values).fetchone()
            return int(row[0] or 0) if row else 0
        return 0

    @property
    def waiting(self) -> int:
        """Messages that the hub does not have yet."""
        return self.journal("SELECT n FROM totals WHERE class = 'waiting'")

    @property
    def connected(self) -> bool:
        """What the program says of its line."""
        with contextlib.suppress(OSError, ValueError):
            return bool(json.loads((self.folder / "status.json").read_text())["connected"])
        return False

    def last_words(self) -> str:
        """The last line of its log."""
        lines = (self.folder / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def sample(self) -> tuple[float, float]:
        """CPU share since the last call, and resident MB, of its gateway."""
        now_s = time.monotonic()
        passed_s, self.sampled_s = max(0.001, now_s - self.sampled_s), now_s
        with contextlib.suppress(OSError, IndexError, ValueError):
            stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            cpu_s = (int(stat[11]) + int(stat[12])) / TICKS
            resident = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE_MB
            share = (cpu_s - self.cpu_s) / passed_s if self.cpu_s else 0.0
            self.cpu_s = cpu_s
            return share, resident
        return 0.0, 0.0


class Hospitals:
    """All of a run."""

    def __init__(self, hub_data: Path) -> None:
        self._hub_data = hub_data
        self.all: list[Hospital] = []
        self.outages: list[tuple[int, int]] = []
        """From the cut to the last of what it held up, wall clock in us."""
        self._drains: set[asyncio.Task[None]] = set()

    @property
    def ports(self) -> list[int]:
        """Where their systems send to, by number of the hospital."""
        return [one.port for one in self.all]

    def sample(self, ledger: Ledger) -> dict[str, float]:
        """What waits and what the gateways cost now."""
        if not self.all:
            return {}
        shares = [one.sample() for one in self.all]
        waiting = [one.waiting for one in self.all]
        for each in waiting:
            ledger.add("lock_waiting_messages", each)
        return {
            "lock_waiting": float(sum(waiting)), "gateway_cpu": sum(cpu for cpu, _ in shares),
            "gateway_rss_mb": sum(resident for _, resident in shares),
        }  # fmt: skip

    async def cut(self, for_s: float, ledger: Ledger) -> None:
        """Cut all lines for so long; how long draining takes is counted when it is done."""
        began_us, before = time.time_ns() // 1_000, [one.waiting for one in self.all]
        for one in self.all:
            one.line.cut()
        await asyncio.sleep(for_s)
        for one, usual in zip(self.all, before, strict=True):
            one.line.mend()
            task = asyncio.create_task(self._drain(one, began_us, usual, ledger), name=f"drain-{one.name}")
            self._drains.add(task)
            task.add_done_callback(self._drains.discard)

    async def _drain(self, hospital: Hospital, cut_us: int, usual: int, ledger: Ledger) -> None:
        began = time.monotonic()
        last = hospital.journal("SELECT max(id) FROM outward")
        if await _until(lambda: not hospital.journal(OPEN, last), DRAIN_S):
            ledger.add("lock_drain_ms", (time.monotonic() - began) * 1000)
        else:
            ledger.miss("lock_drain_ms")
        # What came meanwhile has waited behind that: the outage is over when no more waits than before.
        await _until(lambda: hospital.waiting <= max(USUAL, usual), DRAIN_S)
        self.outages.append((cut_us, time.time_ns() // 1_000))

    async def audit(self, ledger: Ledger) -> int | None:
        """Wait until everything has crossed, then count what the hub has; how many messages are not as they should be.

        That is: answered AA and not applied, or applied without having been sent, in the wrong order, a result that is
        not in the record, still waiting. ``lock_taken`` and ``lock_unsure`` of the ledger are of the whole run.
        """
        if not self.all:
            return None
        await _until(lambda: not self._drains and not any(one.waiting for one in self.all), DRAIN_S)
        left = sum(one.waiting for one in self.all)
        with contextlib.closing(_open(self._hub_data / "consilium.db")) as db:
            rows = db.execute(CROSSINGS).fetchall()
            reports = int(db.execute(REPORTS).fetchone()[0])
        results = self._count(rows, ledger)
        taken, unsure, crossed = (ledger.counts[name] for name in ("lock_taken", "lock_unsure", "lock_crossed"))
        lost, invented = max(0, taken - crossed), max(0, crossed - taken - unsure)
        return lost + invented + abs(results - reports) + ledger.counts["lock_out_of_order"] + left

    def _count(self, rows: list[tuple[str, int, int, str, str, str, int, int]], ledger: Ledger) -> int:
        """Count the hub's log; how many results were applied."""
        numbers: dict[str, int] = {}
        results = 0
        for gateway, first, last, source, kind, verdict, received_us, committed_us in rows:
            if first != numbers.get(gateway, 0) + 1:
                ledger.count("lock_out_of_order")
            numbers[gateway] = last
            if source != SOURCE:
                continue
            name = {"applied": "lock_crossed", "repeated": "lock_repeated"}.get(verdict, "lock_refused")
            ledger.count(name)
            if verdict != "applied":
                continue
            results += kind == "ORU^R01"
            held = any(begin <= committed_us and received_us <= end for begin, end in self.outages)
            ledger.add("lock_held_ms" if held else "lock_ms", (committed_us - received_us) / 1000)
        return results


@contextlib.asynccontextmanager
async def hospitals(count: int, origin: str, hub_data: Path, world: World) -> AsyncIterator[Hospitals]:
    """So many, connected, for the length of the block; none for 0.

    Raises:
        RunError: one does not enrol or connect.
    """
    found = Hospitals(hub_data)
    async with contextlib.AsyncExitStack() as stack:
        if count:
            base = await _fhir(stack)
            port = int(origin.rpartition(":")[2])
            for number in range(count):
                line = await stack.enter_async_context(CuttableLine(port))
                folder = hub_data.parent / f"gateway-{number}"
                found.all.append(await _one(stack, number, origin, hub_data, folder, base, line, world))
            if not await _until(lambda: all(one.connected for one in found.all), START_S):
                said = next(one.last_words() for one in found.all if not one.connected)
                raise RunError(Exit.SERVER, f"A hospital's gateway does not connect: {said}")
        yield found


async def _one(
    stack: contextlib.AsyncExitStack, number: int, origin: str, hub_data: Path, folder: Path, base: str,
    line: CuttableLine, world: World,
) -> Hospital:  # fmt: skip
    """Enrol with a code of the hub's command line, write both files, start."""
    name = partner_id(number)
    said = await _run("enrol-code", name, "--name", f"load {number}", "--data-dir", str(hub_data))
    code = re.search(r"[A-Z0-9]{4}(-[A-Z0-9]{4}){2}", said)
    if code is None:
        raise RunError(Exit.SERVER, "The server made no enrolment code.")
    await _run("gateway", "enrol", "--hub", origin, "--code", code[0], "--data-dir", str(folder))
    port = free_port()
    (folder / "policy.toml").write_text(POLICY.replace("{system}", MRN), "utf-8")
    (folder / "gateway.toml").write_text(_config(name, port, base, line.port, world), "utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - a fork, before anything is measured
            [sys.executable, "-m", "server", "gateway", "run", "--data-dir", str(folder)],
            stdout=log, stderr=subprocess.STDOUT, env=_environment(), start_new_session=True, preexec_fn=ends_with_us(),
        )  # fmt: skip
    stack.push_async_callback(_end, process)
    return Hospital(name, folder, port, line, process)


def _config(name: str, port: int, base: str, proxy: int, world: World) -> str:
    tests = sorted({(MRN, one.identifiers[0]) for one in world.consults})
    return f"""[hub]
proxy = "http://127.0.0.1:{proxy}"
[profile]
hospital = "{name}"
authorities = {{ HIS = "{MRN}", ID = "{ID}" }}
primary_system = "{MRN}"
categories = {{ LIS = "laboratory" }}
test_patients = {json.dumps(tests)}
[[adapter]]
type = "mllp"
name = "{SOURCE}"
host = "127.0.0.1"
port = {port}
[responder]
type = "fhir"
base = "{base}"
"""


async def _fhir(stack: contextlib.AsyncExitStack) -> str:
    """The hospitals' FHIR server; its base address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load_tests.run.hospital_process", stdout=subprocess.PIPE, start_new_session=True,
        preexec_fn=ends_with_us(),
    )  # fmt: skip
    stack.push_async_callback(_end_child, process)
    assert process.stdout is not None
    line = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            line = await process.stdout.readline()
    if not line.startswith(b"listening "):
        raise RunError(Exit.GENERATOR, "The hospitals' FHIR server does not start.")
    return f"http://127.0.0.1:{int(line.split()[1])}"


async def _run(*arguments: str) -> str:
    """A command of the product; what it said.

    Raises:
        RunError: it failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=_environment(),
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_S):
            out, _ = await process.communicate()
    except TimeoutError:
        out = b"no answer in time"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = out.decode(errors="replace")
    if process.returncode:
        raise RunError(Exit.SERVER, f"consilium {' '.join(arguments[:2])} failed: {said.strip().splitlines()[-1:]}")
    return said


async def _until(holds: Callable[[], bool], within_s: float) -> bool:
    """Whether something came to be so in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_S)
    return True


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CONSILIUM_")}


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)


async def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        await asyncio.to_thread(process.wait, STOP_S)
    if process.returncode is None:
        process.kill()
        await asyncio.to_thread(process.wait)


async def _end_child(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_S):
            await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
