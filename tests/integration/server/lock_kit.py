"""A hub and gateways as the tests of the lock handle them: a real port, real files, real frames."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from server_hub import Browser, quiet_port
from server_seed import QUICK, fill

from server.api.gateways import LOCK
from server.api.services import Services
from server.app import build_services, check_schema, lock_of, prepare_data_dir
from server.gateway.config import Folder
from server.gateway.core.crossing import FHIR_JSON, Crossing, DeliveryFailed
from server.gateway.core.responder import RecordAnswer, RecordQuery
from server.gateway.identity import enrol
from server.gateway.inside import Inside
from server.gateway.link import Timing
from server.gateway.program import Gateway
from server.http import build_web
from server.identity.aio.passwords import Passwords
from server.lock.aio.outbox import enqueue
from server.lock.aio.parts import LockParts
from server.settings import load_settings
from server.storage.audit import verify
from server.storage.database import Database
from server.storage.seeding import put_fhir_resource
from signaling.core.ids import ConsultId, ParticipantId, PatientId
from signaling.core.messages import ContextOpened
from signaling.core.model import Consult, ConsultStatus, Context

DEADLINE_S = 60.0
MRN = "urn:north:mrn"
POLICY = """
version = 1
[[out]]
kind = "ORU^R01"
identifier_systems = ["urn:north:mrn"]
[[out]]
kind = "DICOM ECG"
media_types = ["application/dicom"]
about = ["SOPInstanceUID"]
[[in]]
kind = "MDM^T02"
[fields.Patient]
allow = ["meta", "identifier", "name", "gender", "birthDate"]
[fields.Observation]
allow = ["status", "code", "category", "subject", "effectiveDateTime", "value[x]"]
hash = ["performer.display"]
[questions]
types = ["Observation"]
roles = ["doctor"]
organisations = ["hub"]
identifier_systems = ["urn:north:mrn"]
"""


@dataclass
class Inbound:
    """An inlet that keeps what it gets; the first ``failures`` deliveries fail."""

    name: str = "archive"
    kinds: frozenset[str] = frozenset({"MDM^T02"})
    failures: int = 0
    final: bool = False
    taken: list[Crossing] = field(default_factory=list)
    tries: int = 0

    async def deliver(self, crossing: Crossing) -> None:
        self.tries += 1
        if self.tries <= self.failures:
            raise DeliveryFailed(retry=not self.final, reason="down")
        self.taken.append(crossing)


@dataclass
class Answerer:
    """A responder; `delay` stands for a slow server inside."""

    resources: tuple[dict[str, Any], ...] = ()
    asked: list[RecordQuery] = field(default_factory=list)
    gate: asyncio.Event | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    began: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, query: RecordQuery) -> RecordAnswer:
        self.asked.append(query)
        self.began.set()
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return RecordAnswer(resources=self.resources)

    async def close(self) -> None:
        """Nothing to hang up."""


@dataclass
class Hub:
    """A hub that can be stopped and started again on its port and database."""

    data_dir: Path
    port: int
    services: Services | None = None
    server: TestServer | None = None
    lock: LockParts | None = None
    tls: ssl.SSLContext | None = None
    redis_url: str = ""

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        files = {} if self.tls is None else {
            "tls_cert_file": self.data_dir / "tls" / "server.crt", "tls_key_file": self.data_dir / "tls" / "server.key"
        }  # fmt: skip
        settings = load_settings({}, port=self.port, data_dir=self.data_dir, redis_url=self.redis_url, **files)
        prepare_data_dir(settings.data_dir)
        with pytest.MonkeyPatch.context() as patch:
            # argon2id with little work: tests start many hubs.
            patch.setattr("server.app.Passwords", lambda: Passwords(QUICK))
            self.services = build_services(settings, None)
        await check_schema(self.services.database)
        app = build_web(self.services, None)
        self.lock = app[LOCK] = lock_of(self.services)
        app.on_shutdown.append(self._goodbye)
        await self.lock.start()
        self.server = TestServer(app, host="127.0.0.1", port=self.port)
        await self.server.start_server(ssl=self.tls)

    async def stop(self) -> None:
        if self.server is not None and self.services is not None:
            await self.server.close()
            await self.services.database.close()
        self.server = None

    async def _goodbye(self, _app: Any) -> None:
        assert self.lock is not None
        await self.lock.stop()

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        from sqlalchemy import text

        assert self.services is not None
        async with self.services.database.read() as session:
            return [tuple(row) for row in (await session.execute(text(sql))).all()]

    async def crossed(self) -> list[tuple[Any, ...]]:
        return await self.rows("SELECT sequence, kind, verdict, code FROM lock_crossing ORDER BY id")

    async def events(self, kind: str) -> list[dict[str, Any]]:
        found = await self.rows(f"SELECT body FROM event WHERE kind = '{kind}' ORDER BY seq")
        return [json.loads(body) for (body,) in found]

    async def audit_is_whole(self) -> bool:
        assert self.services is not None
        return (await verify(self.services.database, {})).broken is None

    async def doctor(self, login: str = "d1@hub") -> Browser:
        browser = Browser(self.origin)
        await browser.sign_in(login)
        return browser

    async def open_patient(self, patient: str | None = "pt1", *, ended: bool = False) -> int:
        """Open a patient in c1 as signalling would, or close, or end the consult; the new context version."""
        assert self.services is not None
        store = self.services.store
        before = await store.load(ConsultId("c1"))
        assert before is not None
        banner = None if patient is None else await store.patient(before.id, PatientId(patient))
        version = before.context_version + 1
        context = None if banner is None else Context(
            version=version, patient=banner, opened_at_ms=1, opened_by=ParticipantId("p_x")
        )  # fmt: skip
        change = {"revision": before.revision + 1, "context": context, "context_version": version}
        status = ConsultStatus.ENDED if ended else before.status
        after = Consult.model_validate(before.model_copy(update={**change, "status": status}).model_dump())
        assert context is not None
        event = ContextOpened(revision=after.revision, at_ms=1, context=context)
        await store.commit(before, after, [event], None)
        return version

    async def send(self, gateway: str, crossing: Crossing) -> None:
        """Queue a message for a hospital, as whatever makes one does."""
        assert self.services is not None
        assert self.lock is not None
        async with self.services.database.write() as session:
            await enqueue(session, self.lock.vault, gateway, crossing, actor="server", now_us=wall_us())
        self.lock.desk.outbox_grew(gateway)

    async def all_settled(self) -> bool:
        states = await self.rows("SELECT DISTINCT state FROM lock_outbox")
        return {state for (state,) in states} <= {"delivered", "refused"}

    @contextlib.asynccontextmanager
    async def admin(self, login: str = "a1@hub") -> AsyncIterator[Browser]:
        browser = Browser(self.origin)
        if self.tls is not None:
            authority = self.data_dir / "tls" / "consilium-ca.crt"
            connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=authority))
            await browser.http.close()
            browser.http = aiohttp.ClientSession(self.origin, connector=connector)
        try:
            await browser.sign_in(login)
            yield browser
        finally:
            await browser.http.close()

    async def code(self, name: str = "North gateway") -> str:
        async with self.admin() as admin:
            status, made = await admin.post("/api/gateways/codes", {"hospital": "north", "name": name})
        assert status == 200, made
        return str(made["code"])


def fill_hub(folder: Path) -> Path:
    """A hub's data folder with hospitals, people and consults: made once, copied for each test."""

    async def make() -> None:
        prepare_data_dir(folder)
        database = Database(load_settings({}, data_dir=folder).database)
        await check_schema(database)
        await fill(database)
        await database.close()

    asyncio.run(make())
    return folder


async def start_hub(folder: Path, filled: Path) -> Hub:
    shutil.copytree(filled, folder / "hub")
    hub = Hub(data_dir=folder / "hub", port=quiet_port())
    await hub.start()
    return hub


async def add_known_patient(hub: Hub, id_: str = "pt1") -> None:
    """The seed's patient with an identifier that her hospital knows."""
    assert hub.services is not None
    raw = {
        "resourceType": "Patient",
        "id": id_,
        "meta": {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]},
        "name": [{"text": "张桂兰"}],
        "gender": "female",
        "birthDate": "1948-03-09",
        "identifier": [
            {"system": MRN, "type": {"text": "MRN"}, "value": "0001"},
            {"system": "urn:other", "type": {"text": "ID"}, "value": "X2"},
            {"system": MRN, "type": {"text": "MRN"}, "value": "0001\n0002"},
        ],
    }
    async with hub.services.database.write() as session:
        await put_fhir_resource(session, raw, at_ms=2)


async def new_gateway_folder(hub: Hub, folder: Path, policy: str = POLICY, config: str = "") -> Folder:
    """An enrolled gateway's folder."""
    place = Folder(folder)
    await enrol(place, hub=hub.origin, code=await hub.code())
    place.policy.write_text(policy)
    if config:
        place.config.write_text(config)
    return place


def wall_us() -> int:
    return time.time_ns() // 1_000


async def quick_sleep(seconds: float) -> None:
    """Pauses of a gateway, a hundred times shorter."""
    await asyncio.sleep(seconds / 100)


@dataclass
class Running:
    """A gateway that runs in this process."""

    gateway: Gateway
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def until(self, condition: Callable[[], Any]) -> None:
        await until(condition, self.task)

    async def connected(self) -> None:
        await self.until(lambda: self.gateway.link.state.connected)

    async def drained(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while (level := await self.gateway.journal.level()).waiting or level.settled < level.last:
                assert not self.task.done()
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        self.stop.set()
        async with asyncio.timeout(DEADLINE_S):
            await self.task


@contextlib.asynccontextmanager
async def running(folder: Folder, inside: Inside | None = None, timing: Timing | None = None) -> AsyncIterator[Running]:
    """A gateway for the length of the block."""
    timing = timing or Timing(now_us=wall_us, sleep=quick_sleep)
    gateway, stop = Gateway(folder, inside or Inside(), timing), asyncio.Event()
    one = Running(gateway, stop, asyncio.create_task(gateway.run(stop)))
    try:
        yield one
    finally:
        await one.close()


async def until(condition: Callable[[], Any], task: asyncio.Task[Any] | None = None) -> None:
    """Wait for something to be so; fails loudly."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            if task is not None and task.done():
                task.result()
                raise AssertionError("the gateway ended")
            await asyncio.sleep(0.01)


def result(number: int, *, patient: str = "0001", value: float = 4.1, extra: dict[str, Any] | None = None) -> Crossing:
    """A laboratory result as an adapter makes it."""
    observation = {
        "resourceType": "Observation",
        "id": f"lab-{number}",
        "status": "final",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "2823-3"}]},
        "subject": {"reference": "urn:uuid:6e2f6a0c-6f0b-4c53-9d4a-1f6c7a1f0c55"},
        "effectiveDateTime": "2026-11-22T06:00:00+08:00",
        "valueQuantity": {"value": value, "unit": "mmol/L"},
        **(extra or {}),
    }
    person = {
        "resourceType": "Patient",
        "id": f"north-{patient}",
        "meta": {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]},
        "name": [{"text": "王芳"}],
        "gender": "female",
        "birthDate": "1960-05-01",
        "identifier": [{"system": MRN, "value": patient}, {"system": "urn:id", "value": f"C{patient}"}],
        "telecom": [{"system": "phone", "value": "13800000000"}],
    }
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:6e2f6a0c-6f0b-4c53-9d4a-1f6c7a1f0c55",
                "resource": person,
                "request": {"method": "PUT", "url": f"Patient/north-{patient}"},
            },
            {
                "fullUrl": f"urn:uuid:6e2f6a0c-6f0b-4c53-9d4a-{number:012x}",
                "resource": observation,
                "request": {"method": "PUT", "url": f"Observation/lab-{number}"},
            },
        ],
    }
    return Crossing(
        kind="ORU^R01", key=f"LIS/{number}", patient=((MRN, patient), ("urn:id", f"C{patient}")), media_type=FHIR_JSON,
        body=json.dumps(bundle, ensure_ascii=False).encode(), made_us=wall_us(),
    )  # fmt: skip


def ecg(number: int, size: int) -> Crossing:
    """A file."""
    body = bytes([number % 251]) * size
    return Crossing(
        kind="DICOM ECG", key=f"1.2.3.{number}", patient=((MRN, "0001"),), media_type="application/dicom", body=body,
        made_us=wall_us(), about=(("SOPInstanceUID", f"1.2.3.{number}"), ("PatientName", "王芳")),
    )  # fmt: skip
