"""A FHIRcast client that others keep, @medplum/core's, follows and drives a whole running server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fhircast_kit import PATIENT, REPORT, Here, add_token, entry
from server_hub import Browser, quiet_port
from server_seed import fill

from server.api.services import SERVICES
from server.app import open_database
from server.fhircast.aio.service import FHIRCAST_SERVICE
from server.identity.core.principal import participant_id
from server.lifecycle import serving
from server.settings import load_settings
from server.storage.seeding import put_fhir_resource
from signaling.core import messages as m
from signaling.core.admission import Admission
from signaling.core.ids import ConsultId, PatientId
from signaling.core.model import Role

WAIT_S = 60.0
ROOT = Path(__file__).parents[3]
MODULE = ROOT / "web_client" / "node_modules" / "@medplum" / "core" / "dist" / "esm" / "index.mjs"
SCRIPT = Path(__file__).with_name("fhircast_client.mjs")
EVENTS = "Patient-open,Patient-close,DiagnosticReport-open,DiagnosticReport-update"


class Foreign:
    """The client's process: what it tells, line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def both(self, *what: str) -> dict[str, Any]:
        """The next things it tells, in any order: answers and events come by different connections."""
        assert self._process.stdout is not None
        told: dict[str, Any] = {}
        for _ in what:
            async with asyncio.timeout(WAIT_S):
                line = json.loads(await self._process.stdout.readline())
            assert line["what"] in what, line
            told[line["what"]] = line["value"]
        assert told.keys() == set(what)
        return told

    async def hears(self, what: str) -> Any:
        """The next thing it tells, which must be this."""
        return (await self.both(what))[what]

    async def asked(self, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()


@contextlib.asynccontextmanager
async def foreign(*arguments: str) -> AsyncIterator[Foreign]:
    node = shutil.which("node")
    if node is None or not MODULE.exists():
        pytest.skip("node or @medplum/core is not installed (npm ci in web_client)")
    process = await asyncio.create_subprocess_exec(
        node,
        "--experimental-websocket",
        SCRIPT,
        MODULE,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1_048_576,
    )
    try:
        yield Foreign(process)
    finally:
        process.kill()
        await process.wait()


async def test_a_kept_client_follows_and_drives(tmp_path: Path) -> None:
    """[PR1] [PR2] (H1) (H2) (H6) (H8) (H10) (H13) (H14) (H16) (H25) (H26)"""
    settings = load_settings({}, data_dir=tmp_path / "data", port=quiet_port(), media_port=0, media_workers=1)
    database = await open_database(settings)
    await fill(database)
    async with database.write() as session:
        await put_fhir_resource(session, REPORT, at_ms=1)
    refresh = await add_token(database, "online_access fhircast/*.*", consult="c1", kind="refresh")
    await database.close()
    origin = f"http://localhost:{settings.port}"
    async with serving(settings) as app:
        doctor = Browser(origin)
        await doctor.sign_in("d1@hub")
        status, session = await doctor.get("/api/consults/c1/fhircast")
        assert (status, session["hub.url"]) == (200, f"{origin}/fhircast")
        # An app that was launched in the consult is told the same with its token.
        form = {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": "pacs"}
        async with doctor.http.post("/smart/token", data=form) as answer:
            granted = await answer.json()
        await doctor.http.close()
        assert {name: granted[name] for name in session} == session
        token, topic = granted["access_token"], session["hub.topic"]
        consults, store = app[FHIRCAST_SERVICE].consults, app[SERVICES].store
        who = participant_id("c1", "person", "d1")
        here = Here(Admission(consult=ConsultId("c1"), participant=who, role=Role.DOCTOR, name="d1"))
        await consults.execute(here, m.Join())
        await consults.execute(here, m.OpenContext(patient=PatientId("pt2")))

        async with foreign(origin, "fhircast", token, topic, EVENTS) as client:
            await client.hears("connect")
            present = await client.hears("message")
            assert present["event"]["context"][0]["resource"]["id"] == "pt2"
            await client.asked(publish="Patient-open", context=[entry("patient", PATIENT)])
            opened = await client.both("published", "message")
            assert opened["message"]["id"] == opened["published"]["id"]
            consult = await store.load(ConsultId("c1"))
            assert consult is not None
            assert consult.context is not None
            assert consult.context.patient.id == "pt1"
            report = [entry("report", REPORT), entry("patient", PATIENT)]
            await client.asked(publish="DiagnosticReport-open", context=report)
            version = (await client.both("published", "message"))["message"]["event"]["context.versionId"]
            finding = {"resourceType": "Observation", "id": "k9", "subject": {"reference": "Patient/pt1"}}
            bundle = {
                "resourceType": "Bundle",
                "id": "b1",
                "type": "transaction",
                "entry": [{"request": {"method": "PUT"}, "resource": finding}],
            }
            named = {"key": "report", "reference": {"reference": "DiagnosticReport/r1"}}
            order = {"publish": "DiagnosticReport-update", "context": [named, entry("updates", bundle)]}
            await client.asked(**order, version=version)
            shared = await client.both("published", "message")
            assert shared["message"]["event"]["context.priorVersionId"] == version
            await client.asked(**order, version=version)
            await client.hears("error")  # (H25) somebody was faster
            await client.asked(get=True)
            current = await client.hears("context")
            assert current["context.type"] == "DiagnosticReport"
            assert current["context"][-1]["resource"]["entry"] == [{"resource": finding}]
            await client.asked(unsubscribe=True)
            await client.both("unsubscribed", "disconnect")
        consult = await store.load(ConsultId("c1"))
        assert consult is not None
        assert consult.programs == {}
