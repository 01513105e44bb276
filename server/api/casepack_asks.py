"""Asking for what a case pack lacks, and answering at the hospital that is asked.

One click: the ask and its Task are stored; then, when the hospital's gateway is connected here, exactly that type of
that patient is asked for through the lock, and what came closes the ask. Otherwise the hospital's people see it on
their home page and attach a file or decline with a reason (C26).
"""

import base64
import secrets
from datetime import UTC, datetime
from typing import Annotated, Any

from aiohttp import BodyPartReader, web
from pydantic import Field

from server.api.casepack import BASE, TABLES, clinician, refusals, sender_of
from server.api.errors import ApiCode, ApiError
from server.api.gateways import LOCK
from server.api.request import Body, read_body, services, throttle
from server.api.waveforms import FORM_BYTES, OFFICE, _job_error, _PatientDiffersError
from server.casepack.aio import asks, packs
from server.casepack.aio.through_lock import Came, Hospital, ask_through, reachable
from server.casepack.core.brought import brought
from server.casepack.core.evidence import PART_SYSTEM, moment_us
from server.casepack.core.refusals import PackCode, PackRefused
from server.casepack.core.tables import Part, Table
from server.casepack.core.view import title_of, value_view
from server.gateway.core.responder import QueryCode
from server.identity.core.policy import Action
from server.identity.core.principal import PersonPrincipal
from server.identity.core.rules import WAVEFORM_UPLOAD, Throttle
from server.lock.aio.gateways import gateways_of
from server.metrics import LOCK_QUESTIONS
from server.record.aio.store import banner_in
from server.record.core.layout import instant
from server.record.core.resource import ResourceInvalid
from server.storage.casepack_tables import CaseAsk
from server.waveforms.core.upload import RoomFull, Upload, UploadRefused
from server.waveforms.office import MAX_UPLOAD_BYTES, JobFailed, PatientDiffers
from signaling.core.ids import PatientId

routes = web.RouteTableDef()

ASKS = Throttle(name="casepack_ask", attempts=60, window_s=60)
"""Per session; each may become questions to a hospital."""
MAX_DOCUMENT_BYTES = 5_900_000
"""In base64 what the record keeps of one resource."""
MAX_TAKEN = 40
_EKG = {"system": "http://loinc.org", "code": "11524-6", "display": "EKG study"}
_MAGIC = {b"%PDF-": "application/pdf", b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


class NewAsk(Body):
    """Which part, of which table."""

    specialty: Annotated[str, Field(max_length=64)]
    part: Annotated[str, Field(max_length=64)]
    note: Annotated[str, Field(max_length=1000)] = ""


class Declined(Body):
    """Why (C26)."""

    reason: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"\S")]


@routes.post(BASE + "/asks")
async def ask(request: web.Request) -> web.Response:
    """Ask the consult's partner hospital for one part, through the lock first."""
    person, found = await clinician(request, Action.PREPARE_CASE_PACK)
    await throttle(request, ASKS, person.credential)
    body, parts, patient = await read_body(request, NewAsk), services(request), request.match_info["patient"]
    part = _part(request.app[TABLES], body)
    sender = await sender_of(request, person)
    async with parts.database.write() as session, refusals():
        made, is_new = await asks.ask(session, found.consult, patient, part, body.note.strip(), sender, parts.now_ms())
    came, hospital = await _through_lock(request, person, made, part)
    if came is not None and hospital is not None:
        await _settle(request, made, came, hospital)
    elif not is_new:
        raise ApiError(ApiCode.ALREADY_ASKED)
    async with parts.database.read() as session:
        listed = await asks.asks_of(session, found.consult, patient)
    shown = [{"title": title_of(one), **value_view(one)} for one in came.resources] if came is not None else []
    return web.json_response({"ask": next(one for one in listed if one["id"] == made.id), "came": shown}, status=201)


def _part(tables: dict[str, Table], body: NewAsk) -> Part:
    table = tables.get(body.specialty)
    part = table.part(body.part) if table is not None else None
    if part is None:
        raise ApiError(ApiCode.NOT_FOUND)
    return part


async def _through_lock(
    request: web.Request, person: PersonPrincipal, made: CaseAsk, part: Part
) -> tuple[Came | None, Hospital | None]:
    lock = request.app.get(LOCK)
    if lock is None or not part.any_of:
        return None, None
    parts = services(request)
    async with parts.database.read() as session:
        hospital = await reachable(session, lock.desk, made.patient_id, made.hospital_id)
        is_away = hospital is None and bool(await gateways_of(session, made.hospital_id))
    if is_away:
        # It may be there again at the next click.
        async with parts.database.write() as session:
            await asks.note_lock(session, made.id, QueryCode.UNAVAILABLE.value)
    if hospital is None:
        return None, None
    came = await ask_through(
        lock.desk, parts.database, hospital, part, consult=made.consult_id, role=person.access.value,
        organisation=person.hospital_id, actor=person.actor, now_ms=parts.now_ms(),
    )  # fmt: skip
    LOCK_QUESTIONS.labels(came.code or "answered").inc()
    return came, hospital


async def _settle(request: web.Request, made: CaseAsk, came: Came, hospital: Hospital) -> None:
    """File what came. The ask is closed if the part is present by it; otherwise it says why, and is left to people."""
    parts, code = services(request), came.code
    if came.resources:
        try:
            async with parts.database.write() as session:
                banner = await banner_in(session, made.patient_id)
                test = banner is not None and banner.test
                filed = [
                    each
                    for one in came.resources
                    for each in brought(one, gateway=hospital.gateway, patient=made.patient_id, test=test)
                ]
                await asks.bring(
                    session, made.id, f"gateway:{hospital.gateway}", parts.now_ms(), resources=filed,
                    owner=hospital.id, lock_code=code,
                )  # fmt: skip
        except ResourceInvalid:
            code = "malformed"
        except PackRefused as refused:
            # Answered by a person meanwhile, or the consult is over: what came is thrown away.
            if refused.code is PackCode.ASK_CLOSED:
                return
            raise ApiError(ApiCode.CONSULT_ENDED) from None
        else:
            return
    async with parts.database.write() as session:
        await asks.note_lock(session, made.id, code or "not_found")


@routes.post("/api/consults/{consult}/casepack-asks/{ask:[a-z0-9-]{1,64}}/decline")
async def decline(request: web.Request) -> web.Response:
    """The asked hospital declines, with a reason."""
    person, _row = await _asked(request)
    body, parts = await read_body(request, Declined), services(request)
    async with parts.database.write() as session, refusals():
        row = await asks.close(
            session, request.match_info["ask"], person.actor, parts.now_ms(), reason=body.reason.strip()
        )
    return web.json_response({"status": row.status})


@routes.post("/api/consults/{consult}/casepack-asks/{ask:[a-z0-9-]{1,64}}/answer")
async def answer(request: web.Request) -> web.Response:
    """The asked hospital attaches a file: multipart with ``file``, ``title``, ``taken`` (FHIR dateTime)."""
    person, row = await _asked(request)
    await throttle(request, WAVEFORM_UPLOAD, person.credential)
    fields, data = await _form(request)
    kind = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if kind is not None:
        resources = _document(row, data, kind, fields)
    else:
        resources = await _recording(request, person, row, data, fields)
    parts = services(request)
    try:
        async with parts.database.write() as session, refusals():
            banner = await banner_in(session, row.patient_id)
            for one in resources if banner is not None and banner.test else []:
                one["meta"] = {
                    "tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]
                }
            closed = await asks.close(
                session, row.id, person.actor, parts.now_ms(), resources=resources, owner=person.hospital_id
            )
    except ResourceInvalid as problem:
        raise ApiError(ApiCode.MALFORMED, str(problem)) from None
    return web.json_response({"status": closed.status})


async def _asked(request: web.Request) -> tuple[PersonPrincipal, CaseAsk]:
    """A clinician of the hospital that was asked, who is a member of the consult.

    Raises:
        ApiError: ``not_found`` for anybody else's ask.
    """
    person, found = await clinician(request, Action.PREPARE_CASE_PACK)
    async with services(request).database.read() as session, refusals():
        row = await asks.find_ask(session, found.consult, request.match_info["ask"], person.hospital_id)
        await packs.require_patient(session, found.consult, row.patient_id, changing=False)
        if row.status != asks.ASKED:
            raise ApiError(ApiCode.ASK_CLOSED)
    return person, row


async def _form(request: web.Request) -> tuple[dict[str, str], bytes]:
    """Fields and file of a multipart body, within the bounds of an ECG upload."""
    if request.content_type != "multipart/form-data":
        raise ApiError(ApiCode.MALFORMED, "multipart/form-data")
    if (request.content_length or 0) > MAX_UPLOAD_BYTES + FORM_BYTES:
        raise ApiError(ApiCode.TOO_LARGE)
    taken, upload = bytearray(), Upload(MAX_UPLOAD_BYTES)
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise ApiError(ApiCode.MALFORMED, "multipart")
            if part.name != "taken":
                upload.begin(part.name, part.filename)
            while piece := await part.read_chunk(1 << 16):
                if part.name != "taken":
                    upload.add(piece)
                    continue
                taken += piece
                if len(taken) > MAX_TAKEN:
                    raise ApiError(ApiCode.MALFORMED, "taken")
        fields = upload.fields | {"taken": taken.decode()}
        if fields["taken"] and moment_us(fields["taken"]) is None:
            raise ApiError(ApiCode.MALFORMED, "taken")
        return fields, upload.data()
    except UploadRefused as problem:
        raise ApiError(ApiCode.TOO_LARGE if problem.too_large else ApiCode.MALFORMED, str(problem)) from problem
    except ValueError as problem:
        raise ApiError(ApiCode.MALFORMED, "multipart") from problem


def _document(row: CaseAsk, data: bytes, kind: str, fields: dict[str, str]) -> list[dict[str, Any]]:
    """A PDF or picture as a Binary and its DocumentReference; what it shows is of when its sender says (or undated)."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise ApiError(ApiCode.TOO_LARGE)
    id_ = f"doc-{secrets.token_hex(12)}"
    subject = {"reference": f"Patient/{row.patient_id}"}
    binary = {
        "resourceType": "Binary", "id": id_, "contentType": kind, "securityContext": subject,
        "data": base64.b64encode(data).decode(),
    }  # fmt: skip
    title = fields.get("title", "").strip() or row.zh
    attachment = {"contentType": kind, "url": f"Binary/{id_}", "title": title}
    reference = _reference(id_, row, {"text": title}, attachment)
    if fields["taken"]:
        reference["date"] = _instant_of(fields["taken"])
    return [binary, reference]


def _reference(id_: str, row: CaseAsk, kind: dict[str, Any], attachment: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference", "id": id_, "status": "current", "type": kind,
        "category": [{"coding": [{"system": PART_SYSTEM, "code": row.part}]}],
        "subject": {"reference": f"Patient/{row.patient_id}"},
        "content": [{"attachment": attachment}],
    }  # fmt: skip


def _instant_of(text: str) -> str:
    at_us = moment_us(text)
    assert at_us is not None, "checked with the form"
    return instant(at_us // 1_000)


async def _recording(
    request: web.Request, person: PersonPrincipal, row: CaseAsk, data: bytes, fields: dict[str, str]
) -> list[dict[str, Any]]:
    """An ECG in any format that imports read, into the consult's archive; the record says that it is there."""
    office = request.app.get(OFFICE)
    parts = services(request)
    consult = await parts.store.load(row.consult_id)  # type: ignore[arg-type]
    banner = await parts.store.patient(row.consult_id, PatientId(row.patient_id))  # type: ignore[arg-type]
    if office is None or consult is None or banner is None:
        raise ApiError(ApiCode.ARCHIVE_UNAVAILABLE)

    async def allowed() -> None:
        await _asked(request)

    title = fields.get("title", "").strip() or row.zh
    try:
        with office.uploads.hold(len(data)):
            imported = await office.import_file(
                row.consult_id, banner, consult.context_version, data, title, person.actor,
                patient_checked=fields.get("patient_checked") == "true", allowed=allowed,
            )  # fmt: skip
    except RoomFull as problem:
        raise ApiError(ApiCode.TOO_BUSY, "uploads", retry_after_s=10) from problem
    except PatientDiffers as other:
        raise _PatientDiffersError(other) from other
    except JobFailed as problem:
        raise _job_error(problem) from problem
    found = []
    for one in imported.streams:
        # A FHIR id has no underscore.
        id_ = f"doc-{one.info.archive}".replace("_", "-")[:64]
        reference = _reference(id_, row, {"coding": [_EKG], "text": title}, {"title": title})
        reference["date"] = datetime.fromtimestamp(one.summary.first_us / 1e6, UTC).isoformat(timespec="seconds")
        found.append(reference)
    return found
