"""Notes in the record, views in the event log, patients of one name: the consult service on a hub's own database."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest
from server_hub import Hub
from server_seed import patient
from sqlalchemy import select

from server.record.aio.store import read_resource, versions_of
from server.storage import audit
from server.storage.consult_store import SqlConsultStore
from server.storage.models import ConsultPatient, EventRow
from server.storage.seeding import put_fhir_resource
from server.storage.views import showings
from signaling.aio.memory import MemoryBus
from signaling.aio.service import ConsultService, ServiceSettings
from signaling.core import messages as m
from signaling.core.admission import Admission
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId, ParticipantId, PatientId
from signaling.core.model import Page, PageShape, Role, View
from signaling.core.sharing import note_id
from tests.signaling_kit import MemoryMedia, until

SHAPE = PageShape(content="0123456789abcdef", width=1_000, height=2_000, language="zh-CN")
REPORT = View(page=Page.REPORTS, item="r1;p=2")


class Peer:
    """A session that keeps its newest beat."""

    def __init__(self, who: str, consult: str = "c1", role: Role = Role.DOCTOR, *, hub: bool = False) -> None:
        self.admission = Admission(
            consult=ConsultId(consult), participant=ParticipantId(who), role=role, name=who.title(), hub=hub
        )
        self.goodbye_reason: str | None = None
        self.hears = True
        self.beat: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []

    def deliver(self, frame: bytes, key: str | None = None) -> None:
        name, payload = msgpack.unpackb(frame)["data"]
        if name == "event":
            self.events.append(payload)
        elif payload["type"] == "beat":
            self.beat = payload

    def hold_events(self) -> None:
        """The order on the wire is another test's."""

    def goodbye(self, reason: str) -> None:
        self.goodbye_reason = reason


@pytest.fixture
async def service(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ConsultService]:
    monkeypatch.setattr("signaling.aio.viewing.GATHER_S", 0.0)
    store = SqlConsultStore(hub.services.database)
    made = ConsultService(store, MemoryBus(), MemoryMedia(), hub.clock, ServiceSettings(beat_s=0.05))
    made.use_view_log(store)
    await made.start()
    yield made
    await made.stop()


async def enter(service: ConsultService, *peers: Peer) -> None:
    for peer in peers:
        await service.execute(peer, m.Join())


async def views(hub: Hub) -> list[dict[str, Any]]:
    async with hub.services.database.read() as session:
        rows = await session.scalars(select(EventRow.body).where(EventRow.kind == "view_shown").order_by(EventRow.seq))
        return [json.loads(row) for row in rows]


async def test_a_note_is_in_the_record_with_its_event_and_stays(hub: Hub, service: ConsultService) -> None:
    """[SH4] [SH6] (C23) A document with author, time and what it is about; a mistake is its next version."""
    doc, nurse = Peer("doc", hub=True), Peer("nurse", role=Role.NURSE)
    await enter(service, doc, nurse)
    await service.execute(doc, m.OpenContext(patient=PatientId("pt1")))
    await service.execute(doc, m.TakeLead())
    await service.execute(doc, m.TurnPage(context_version=1, view=REPORT))
    await service.execute(nurse, m.FreezePage(id="z", context_version=1, view=REPORT, shape=SHAPE))
    put = m.PutNote(id="n", freeze="z", context_version=1, strokes=((0, 0, 500, 19_000),), text="ST 段")
    await service.execute(nurse, put)
    await service.execute(nurse, put)
    named = note_id("c1", "nurse", "n")
    assert [event["type"] for event in doc.events].count("note_put") == 1

    browser = await hub.doctor()
    path = "/api/consults/c1/record/DocumentReference?version=1&category=page-note"
    _, bundle = await browser.get(path)
    (document,) = [entry["resource"] for entry in bundle["entry"]]
    assert (document["id"], document["status"], document["description"]) == (named, "current", "ST 段")
    assert document["author"][0]["display"] == "Nurse"
    assert document["context"]["related"] == [{"reference": "DiagnosticReport/r1"}]
    assert document["meta"]["tag"][0]["code"] == "HTEST"
    drawing = base64.b64decode(document["content"][0]["attachment"]["data"]).decode()
    assert 'viewBox="0 0 10000 20000"' in drawing
    assert 'd="M0 0L500 19000"' in drawing

    mark = m.MarkNoteInError(note=named, context_version=1, reason="wrong lead")
    await service.execute(doc, mark)
    await service.execute(doc, mark)
    with pytest.raises(Refusal) as refused:
        await service.execute(doc, m.MarkNoteInError(note="k0", context_version=1, reason="not a note"))
    assert refused.value.code is ErrorCode.NOT_FOUND
    async with hub.services.database.read() as session:
        found = await read_resource(session, "DocumentReference", named)
        former = await versions_of(session, "DocumentReference", named)
    assert found is not None
    kept = json.loads(found[1])
    assert (found[0].version, kept["status"], len(former)) == (2, "entered-in-error", 2)
    assert kept["content"] == document["content"]
    assert "wrong lead" in found[1]
    await service.execute(doc, m.OpenContext(patient=PatientId("pt2")))
    with pytest.raises(Refusal) as other:
        await service.execute(doc, m.MarkNoteInError(note=named, context_version=2, reason="another patient"))
    assert other.value.code is ErrorCode.NOT_FOUND
    assert (await audit.verify(hub.services.database, {})).broken is None


async def test_who_saw_what_and_when(hub: Hub, service: ConsultService) -> None:
    """[VW1] [VW3] (G5, C21, G11) Asked by an administrator, answered without content, and the question is on record."""
    doc, nurse = Peer("doc", hub=True), Peer("nurse", role=Role.NURSE)
    await enter(service, doc, nurse)
    await service.execute(doc, m.OpenContext(patient=PatientId("pt1")))
    start = hub.clock.ms
    labs = View(page=Page.LABS, item="2823-3")
    await service.execute(doc, m.ShowView(context_version=1, view=View()))
    await until(lambda: not service._here.viewing._waiting)
    hub.clock.ms += 1_000
    await service.execute(doc, m.ShowView(context_version=1, view=labs))
    await service.execute(nurse, m.ShowView(context_version=1, view=labs))
    hub.clock.ms += 1_000
    await service.execute(nurse, m.ShowView(context_version=1, view=None))
    hub.clock.ms += 1_000
    await service.execute(doc, m.OpenContext(patient=PatientId("pt2")))
    hub.clock.ms += 500
    await service.execute(doc, m.ShowView(context_version=2, view=labs))
    await service.stop()

    asked = {"patient": "pt1", "from_ms": start, "to_ms": start + 10_000}
    assert (await (await hub.doctor()).post("/api/audit/views", asked))[0] == 403
    admin = await hub.doctor("a1@hub")
    status, answer = await admin.post("/api/audit/views", asked)
    assert status == 200
    seen = [(one["participant"], one["name"], one["page"], one["item"], one["from_ms"] - start, one["to_ms"] - start)
            for one in answer["views"]]  # fmt: skip
    assert sorted(seen) == [
        ("doc", "Doc", "labs", "2823-3", 1_000, 3_000),
        ("doc", "Doc", "summary", "", 0, 1_000),
        ("nurse", "Nurse", "labs", "2823-3", 1_000, 2_000),
    ]
    _, later = await admin.post("/api/audit/views", {**asked, "from_ms": start + 2_000})
    assert [one["participant"] for one in later["views"]] == ["doc"]
    _, nobody = await admin.post("/api/audit/views", {**asked, "patient": "no-such"})
    assert nobody == {"views": [], "more": False}
    async with hub.services.database.read() as session:
        questions = list(await session.scalars(select(EventRow.body).where(EventRow.kind == "audit_views_read")))
    assert [json.loads(body)["count"] for body in questions] == [3, 1, 0]


def test_a_showing_whose_end_was_lost_ends_with_the_next_news() -> None:
    """[VW3] After a crash the log has only the beginning."""
    begun = {"id": "v1", "participant": "doc", "patient": "pt1", "context_version": 1, "from_ms": 5, "to_ms": None,
             "view": {"page": "labs", "item": ""}}  # fmt: skip
    (open_,) = showings([("c1", "view_shown", 5, begun)], "pt1")
    assert (open_.to_ms, open_.at_most_ms) == (None, None)
    back = {"participant": "doc", "connection": "reconnecting"}
    (ended,) = showings([("c1", "view_shown", 5, begun), ("c1", "connection_changed", 90, back)], "pt1")
    assert (ended.to_ms, ended.at_most_ms) == (None, 90)
    other = {**begun, "id": "v2", "patient": "pt2", "from_ms": 70}
    (ended,) = showings([("c1", "view_shown", 5, begun), ("c1", "view_shown", 70, other)], "pt1")
    assert ended.at_most_ms == 70


async def test_two_open_patients_of_one_name_are_told_apart(hub: Hub, service: ConsultService) -> None:
    """[SN1] (W25) Both consults hear it, neither hears of whom, and it ends with one of them."""
    async with hub.services.database.write() as session:
        await put_fhir_resource(session, patient("pt3", "张伟", "Zhang Wei"), at_ms=1)
        session.add(ConsultPatient(consult_id="c2", patient_id="pt3", position=1))
    here, there = Peer("doc"), Peer("doc2", "c2")
    await enter(service, here, there)
    await service.execute(here, m.OpenContext(patient=PatientId("pt1")))
    await service.execute(there, m.OpenContext(patient=PatientId("pt2")))
    await until(lambda: here.beat.get("context_version") == 1 and there.beat.get("context_version") == 1)
    assert not here.beat["same_surname"]
    await service.execute(there, m.OpenContext(patient=PatientId("pt3")))
    await until(lambda: here.beat["same_surname"] and there.beat["same_surname"])
    assert "pt3" not in json.dumps(here.beat)
    await service.execute(there, m.CloseContext())
    await until(lambda: not here.beat["same_surname"])
