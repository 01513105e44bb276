"""A hub with people in a consult, and programs that speak FHIRcast to it over real HTTP and real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.test_utils import TestServer
from server_hub import quiet_port
from server_seed import fill

from server.app import build_services, check_schema, prepare_data_dir
from server.fhircast.aio.service import FHIRCAST_SERVICE, FhircastService, FhircastSettings
from server.fhircast.core.hub import HubSettings
from server.http import build_web
from server.identity.core.principal import participant_id
from server.settings import load_settings
from server.storage.database import Database
from server.storage.models import EventRow
from server.storage.seeding import put_fhir_resource
from server.storage.smart_tables import SmartClient, SmartGrant, SmartToken
from signaling.aio.memory import MemoryBus
from signaling.aio.nodes import NodeTimes
from signaling.aio.service import ConsultService, ServiceSettings
from signaling.core import messages as m
from signaling.core.admission import Admission
from signaling.core.ids import ConsultId
from signaling.core.model import Consult, Role
from signaling.core.ports import EventBus
from tests.signaling_kit import MemoryMedia

WAIT_S = 60.0
ORIGIN = "https://pacs.example.org"
ALL = "fhircast/*.*"
EVENTS = "Patient-open,Patient-close,Encounter-open,Encounter-close,ImagingStudy-open,ImagingStudy-close," + (
    "DiagnosticReport-open,DiagnosticReport-close,DiagnosticReport-update,DiagnosticReport-select,Home-open,"
    "UserLogout,UserHibernate,SyncError,org.example.wave_marker"
)
_TIMES = {
    "tick_s": 0.05,
    "look_s": 0.1,
    "rights_s": 0.2,
    "alive_s": 0.1,
    "retry_s": 0.05,
    "ping_s": 20.0,
    "silent_s": 600.0,
}
"""Short, but for silence: a slow machine is not a dead one."""
QUICK = FhircastSettings(hub=HubSettings(answer_ms=600_000), **_TIMES)
PATIENT = {
    "resourceType": "Patient",
    "id": "pt1",
    "birthDate": "1948-03-09",
    "gender": "female",
    "identifier": [{"value": "pt1-0001"}],
}
OTHER = {**PATIENT, "id": "theirs-7", "identifier": [{"value": "pt2-0002"}]}
"""Our second patient as another system knows her: by another id."""
REPORT = {
    "resourceType": "DiagnosticReport",
    "id": "r1",
    "status": "final",
    "code": {"text": "心电图报告"},
    "subject": {"reference": "Patient/pt1"},
}


STUDY = {
    "resourceType": "ImagingStudy",
    "id": "ct1",
    "status": "available",
    "description": "CT Thorax",
    "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.826.7"}],
    "subject": {"reference": "Patient/pt1"},
}


class Here:
    """Somebody's page, as far as the consult is concerned."""

    goodbye_reason = None
    hears = True

    def __init__(self, admission: Admission) -> None:
        self.admission = admission

    def deliver(self, frame: bytes, key: str | None = None) -> None: ...

    def hold_events(self) -> None: ...

    def goodbye(self, reason: str) -> None: ...


class Program:
    """A program that speaks FHIRcast: its token, its subscriptions."""

    def __init__(self, origin: str, token: str, host: str = "") -> None:
        self.origin = origin
        self.token = token
        headers = {"Authorization": f"Bearer {token}", "Host": host or urlsplit(origin).netloc}
        self.http = aiohttp.ClientSession(origin, headers=headers)
        self.endpoint = ""

    async def form(self, path: str = "/fhircast", **fields: str) -> tuple[int, Any]:
        """POST a form; names with ``__`` for dots."""
        given = {name.replace("__", "."): value for name, value in fields.items()}
        async with self.http.post(path, data=given) as answer:
            return answer.status, await _body(answer)

    async def subscribe(self, topic: str, events: str = EVENTS, **more: str) -> tuple[int, Any]:
        status, body = await self.form(
            hub__channel__type="websocket",
            hub__mode="subscribe",
            hub__topic=topic,
            hub__events=events,
            **more,
        )
        if status == 202:
            self.endpoint = body["hub.channel.endpoint"]
        return status, body

    async def unsubscribe(self, topic: str, endpoint: str | None = None) -> tuple[int, Any]:
        return await self.form(
            hub__channel__type="websocket",
            hub__mode="unsubscribe",
            hub__topic=topic,
            hub__channel__endpoint=endpoint or self.endpoint,
        )

    async def socket(self, endpoint: str | None = None) -> Listener:
        path = path_of(endpoint or self.endpoint)
        return Listener(await self.http.ws_connect(path, autoping=True, max_msg_size=0))

    async def follow(self, topic: str, events: str = EVENTS, **more: str) -> Listener:
        """Subscribe, connect, take the confirmation."""
        status, body = await self.subscribe(topic, events, **more)
        assert status == 202, body
        listener = await self.socket()
        confirmation = await listener.next()
        assert confirmation["hub.mode"] == "subscribe", confirmation
        return listener

    async def post(
        self,
        topic: str,
        name: str,
        context: list[Any],
        *,
        id: str = "q1",
        at: str = "",
        path: str = "/fhircast",
        **event: Any,
    ) -> tuple[int, Any]:
        body = {
            "timestamp": at or now(),
            "id": id,
            "event": {"hub.topic": topic, "hub.event": name, "context": context, **event},
        }
        async with self.http.post(path, json=body) as answer:
            return answer.status, await _body(answer)

    async def open_patient(self, topic: str, patient: Any = None, **more: Any) -> tuple[int, Any]:
        return await self.post(topic, "Patient-open", [entry("patient", patient or PATIENT)], **more)

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.http.get(path) as answer:
            return answer.status, await _body(answer)


class Listener:
    """One socket."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def next(self) -> Any:
        """The next message; after a close, its code."""
        async with asyncio.timeout(WAIT_S):
            message = await self.ws.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return json.loads(message.data)
        # The code that was sent; the library's own becomes 1006 when our answer to it meets a closed connection.
        return message.data if message.type is aiohttp.WSMsgType.CLOSE else self.ws.close_code

    async def answer(self, id_: str, status: Any = 200) -> None:
        await self.ws.send_json({"id": id_, "status": status})

    async def event(self, name: str, *, status: Any = 200) -> Any:
        """The next event, which must be this one; answered."""
        message = await self.next()
        assert isinstance(message, dict), message
        assert message.get("event", {}).get("hub.event") == name, message
        if status is not None:
            await self.answer(message["id"], status)
        return message

    async def vanish(self) -> None:
        """Cut the connection without a word."""
        transport = self.ws.get_extra_info("socket")
        assert transport is not None
        self.ws._response.connection.transport.abort()  # type: ignore[union-attr] # no goodbye: that is the point
        await self.ws.close()


class Cast:
    """A running hub with one open consult."""

    def __init__(self, origin: str, services: Any, consults: ConsultService, hub: FhircastService) -> None:
        self.origin = origin
        self.services = services
        self.consults = consults
        self.hub = hub
        self.topic = ""
        self.programs: list[Program] = []

    async def program(self, scopes: str = ALL, *, subject: str | None = "d1", origin: str = "", **more: Any) -> Program:
        token = await add_token(self.services.database, scopes, subject=subject, **more)
        self.programs.append(Program(origin or self.origin, token, urlsplit(self.origin).netloc))
        return self.programs[-1]

    @contextlib.asynccontextmanager
    async def another_node(self, settings: FhircastSettings = QUICK) -> AsyncIterator[str]:
        """The origin of a second node on the same database, which hears no hints of the first."""
        app = build_web(self.services, None)
        services = self.services
        hub = FhircastService(services.database, services.store, MemoryBus(), self.consults, services.now_ms, settings)
        app[FHIRCAST_SERVICE] = hub
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        hub.start()
        try:
            yield f"http://127.0.0.1:{server.port}"
        finally:
            await hub.stop()
            await server.close()

    async def state(self) -> Consult:
        found = await self.services.store.load("c1")
        assert found is not None
        return found

    async def here(self, subject: str, role: Role) -> Here:
        """The person is in the consult."""
        who = participant_id("c1", "person", subject)
        peer = Here(Admission(consult=ConsultId("c1"), participant=who, role=role, name=subject))
        await self.consults.execute(peer, m.Join())
        return peer

    async def until(self, condition: Any) -> Consult:
        """Wait until the stored consult is so."""
        async with asyncio.timeout(WAIT_S):
            while not condition(state := await self.state()):
                await asyncio.sleep(0.02)
        return state

    async def log(self, kind: str) -> list[dict[str, Any]]:
        """Bodies of the audit trail's rows of one kind."""
        from sqlalchemy import select

        async with self.services.database.read() as session:
            rows = (await session.scalars(select(EventRow).where(EventRow.kind == kind).order_by(EventRow.seq))).all()
        return [json.loads(row.body) for row in rows]

    async def logged(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        async with asyncio.timeout(WAIT_S):
            while len(rows := await self.log(kind)) < count:
                await asyncio.sleep(0.02)
        return rows


async def add_token(
    database: Database,
    scopes: str,
    *,
    subject: str | None = "d1",
    lives_ms: int = 3_600_000,
    client: str = "pacs",
    consult: str | None = None,
    kind: str = "access",
) -> str:
    """An access (or refresh) token that our authorization server could have given."""
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    secret = hashlib.sha256(f"{scopes} {subject} {lives_ms} {client} {consult} {kind}".encode()).hexdigest()
    grant = f"g{secret[:20]}"
    expires = now_ms + lives_ms
    async with database.write() as session:
        await session.merge(
            SmartClient(
                id=client,
                name=f"{client} program",
                kind="public",
                hospital_id=None,
                redirect_uris=json.dumps([f"{ORIGIN}/back"]),
                scopes=scopes,
                created_at_ms=0,
            )
        )
        await session.flush()
        await session.merge(
            SmartGrant(
                id=grant,
                client_id=client,
                person_id=subject,
                credential=None,
                scopes=scopes,
                patient_id=None,
                consult_id=consult,
                created_at_ms=now_ms,
                expires_at_ms=expires,
            )
        )
        await session.flush()
        digest = hashlib.sha256(secret.encode()).hexdigest()
        await session.merge(
            SmartToken(token_hash=digest, grant_id=grant, kind=kind, scopes=scopes, expires_at_ms=expires)
        )
    return secret


_PREPARED: list[tempfile.TemporaryDirectory[str]] = []
"""A data folder with everything in it, made once: migrating costs more than the tests."""


async def _prepared() -> Path:
    if not _PREPARED:
        _PREPARED.append(tempfile.TemporaryDirectory(prefix="fhircast-"))
        chosen = load_settings({}, data_dir=Path(_PREPARED[0].name) / "data")
        prepare_data_dir(chosen.data_dir)
        services = build_services(chosen, None)
        await check_schema(services.database)
        await fill(services.database)
        async with services.database.write() as session:
            await put_fhir_resource(session, REPORT, at_ms=1)
            await put_fhir_resource(session, STUDY, at_ms=1)
        await services.database.close()
    return Path(_PREPARED[0].name) / "data"


@contextlib.asynccontextmanager
async def running_cast(folder: Path, settings: FhircastSettings = QUICK) -> AsyncIterator[Cast]:
    """HTTP, sockets, hub, consult service and database; no media."""
    await prepare(folder)
    async with running_node(folder, quiet_port(), MemoryBus(), settings) as cast:
        yield cast


async def prepare(folder: Path) -> None:
    """A data folder with everything in it."""
    shutil.copytree(await _prepared(), folder / "data")


@contextlib.asynccontextmanager
async def running_node(folder: Path, port: int, bus: EventBus, settings: FhircastSettings) -> AsyncIterator[Cast]:
    """One process of a hub, on a folder that others may serve too."""
    services = build_services(load_settings({}, port=port, data_dir=folder / "data"), None)
    nodes = NodeTimes(alive_s=settings.alive_s, dead_s=settings.dead_s)
    alone = ServiceSettings(sole_node=settings.sole_node, nodes=nodes)
    consults = ConsultService(services.store, bus, MemoryMedia(), services.now_ms, alone)
    app = build_web(services, None)
    hub = app[FHIRCAST_SERVICE] = FhircastService(
        services.database, services.store, bus, consults, services.now_ms, settings
    )
    server = TestServer(app, host="127.0.0.1", port=port)
    await server.start_server()
    await consults.start()
    hub.start()
    cast = Cast(f"http://127.0.0.1:{port}", services, consults, hub)
    topic = await hub.topics.topic_of("c1")
    assert topic is not None
    cast.topic = topic
    try:
        yield cast
    finally:
        await hub.stop()
        for program in cast.programs:
            await program.http.close()
        await server.close()
        await consults.stop()
        await services.database.close()


def quick(**hub: int) -> FhircastSettings:
    """The shell's short times with some of the hub's."""
    return FhircastSettings(hub=HubSettings(**hub), **_TIMES)


def entry(key: str, resource: Any) -> dict[str, Any]:
    return {"key": key, "resource": resource}


def reference(key: str, to: str) -> dict[str, Any]:
    return {"key": key, "reference": {"reference": to}}


def now(offset_s: float = 0.0) -> str:
    """As JavaScript writes it."""
    at = datetime.fromtimestamp(datetime.now(UTC).timestamp() + offset_s, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def path_of(endpoint: str) -> str:
    return urlsplit(endpoint).path


async def _body(answer: aiohttp.ClientResponse) -> Any:
    if answer.content_type == "application/json":
        return await answer.json()
    return await answer.text()
