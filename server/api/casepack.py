"""Case packs: prepared by a clinician of a consult, sent by a doctor, read by the consult's clinicians until it ends.

A patient is named by id here, unlike in `record.py`: before the call nobody is open. Whoever asks must be a
clinician of the consult, by account (a guest link, a wall and a device are not: G11), and the patient must be of that
consult. What one hospital prepares the other does not see before it is sent. Every look at content is audited
before it leaves (G5). Asking for what is missing is `casepack_asks.py`.
"""

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from server.api.errors import ApiCode, ApiError
from server.api.request import Body, member, permitted_person, read_body, services
from server.casepack.aio import packs, reading
from server.casepack.aio.asks import CLINICIANS, asks_of, open_asks
from server.casepack.aio.packs import Sender
from server.casepack.aio.tables import load_tables
from server.casepack.core.evidence import Ref
from server.casepack.core.refusals import PackCode, PackRefused
from server.casepack.core.request import Request
from server.casepack.core.tables import Table, TableInvalid
from server.identity.aio.members import consults_of
from server.identity.core.policy import Action
from server.identity.core.principal import Membership, PersonPrincipal
from server.record.aio.store import find_one, one_version
from server.record.core.resource import BINARY_TYPES
from server.settings import Settings, SettingsError
from server.storage import audit
from server.storage.casepack_tables import CasePack
from server.storage.models import Hospital

Tables = dict[str, Table]
TABLES = web.AppKey("casepack_tables", dict[str, Table])

routes = web.RouteTableDef()

BASE = "/api/consults/{consult}/casepack/{patient:[A-Za-z0-9.-]{1,64}}"
_CODES = {
    PackCode.NOT_FOUND: ApiCode.NOT_FOUND,
    PackCode.CONSULT_ENDED: ApiCode.CONSULT_ENDED,
    PackCode.UNFINISHED: ApiCode.CASEPACK_UNFINISHED,
    PackCode.CHANGED: ApiCode.CASEPACK_CHANGED,
    PackCode.UNCHANGED: ApiCode.CASEPACK_UNCHANGED,
    PackCode.DAMAGED: ApiCode.CASEPACK_DAMAGED,
    PackCode.ALREADY_ASKED: ApiCode.ALREADY_ASKED,
    PackCode.ASK_CLOSED: ApiCode.ASK_CLOSED,
    PackCode.TOO_MANY: ApiCode.TOO_MANY_ASKS,
    PackCode.TOO_LARGE: ApiCode.TOO_LARGE,
}


ResourceName = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]{1,63}/[A-Za-z0-9.-]{1,64}$")]


class NewDraft(Body):
    """What the sender writes and takes out."""

    specialty: Annotated[str, Field(max_length=64)]
    request: Request
    left_out: Annotated[tuple[ResourceName, ...], Field(max_length=500, strict=False)] = ()


class Sending(Body):
    """What the sender has looked at."""

    content_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def tables_of(settings: Settings) -> Tables:
    """Completeness tables of this server.

    Raises:
        SettingsError: one cannot be used.
    """
    try:
        return load_tables(settings.casepack_dir)
    except TableInvalid as problem:
        raise SettingsError(f"A completeness table cannot be used: {problem}.") from None


@routes.get("/api/casepack")
async def overview(request: web.Request) -> web.Response:
    """For the home page: packs of the caller's consults, what is missing in them, and what their hospital is asked."""
    person = await permitted_person(request, Action.READ_CASE_PACK, active=False)
    async with services(request).database.read() as session:
        ids = await consults_of(session, person)
        found = {
            "packs": await reading.summaries(session, ids, services(request).now_ms()),
            "asks": await open_asks(session, ids, person.hospital_id),
            "specialties": [{"key": one.specialty, "en": one.en, "zh": one.zh} for one in request.app[TABLES].values()],
        }
    return web.json_response(found)


@routes.get(BASE + "/draft")
async def draft(request: web.Request) -> web.Response:
    """What the caller's hospital prepares, as it would be sent now; an empty one where nobody began."""
    person, found = await clinician(request, Action.PREPARE_CASE_PACK)
    patient, parts = request.match_info["patient"], services(request)
    async with parts.database.write() as session, refusals():
        await packs.require_patient(session, found.consult, patient)
        kept = await packs.draft_of(session, found.consult, patient, person.hospital_id)
        asked = Request.model_validate_json(kept.request) if kept is not None else Request()
        tables = request.app[TABLES]
        table = tables.get(kept.specialty if kept is not None else "", tables["general"])
        without = json.loads(kept.left_out) if kept is not None else []
        now_ms = parts.now_ms()
        prepared = await packs.prepare(session, table, patient, asked, without, now_ms)
        latest = await packs.latest(session, found.consult, patient)
        asks = await asks_of(session, found.consult, patient)
        body = {"patient": patient, "participant": found.participant, "resources": len(prepared.resources)}
        entry = audit.Entry(
            kind="casepack_draft_read", at_ms=now_ms, actor=person.actor, consult_id=found.consult, body=body
        )
        await audit.append(session, [entry])
    return _draft_answer(prepared, without, asks, latest)


@routes.post(BASE + "/draft")
async def save(request: web.Request) -> web.Response:
    """Assemble the pack and keep what was written."""
    person, found = await clinician(request, Action.PREPARE_CASE_PACK)
    body, patient, parts = await read_body(request, NewDraft), request.match_info["patient"], services(request)
    table = request.app[TABLES].get(body.specialty)
    if table is None:
        raise ApiError(ApiCode.NOT_FOUND)
    sender = await sender_of(request, person)
    async with parts.database.write() as session, refusals():
        prepared = await packs.save_draft(
            session, found.consult, patient, table, body.request, body.left_out, sender, parts.now_ms()
        )
        latest = await packs.latest(session, found.consult, patient)
        asks = await asks_of(session, found.consult, patient)
    return _draft_answer(prepared, list(body.left_out), asks, latest)


def _draft_answer(
    prepared: packs.Prepared, without: list[str], asks: list[dict[str, Any]], latest: CasePack | None
) -> web.Response:
    sent = meta(latest) if latest is not None else None
    return web.json_response({**prepared.view(), "left_out": without, "asks": asks, "sent": sent})


@routes.post(BASE + "/send")
async def send(request: web.Request) -> web.Response:
    """Send what was looked at; it does not change any more."""
    person, found = await clinician(request, Action.SEND_CASE_PACK)
    body, parts, tables = await read_body(request, Sending), services(request), request.app[TABLES]
    sender = await sender_of(request, person)
    async with parts.database.write() as session, refusals():
        pack = await packs.send(
            session, found.consult, request.match_info["patient"], tables, body.content_hash, sender,
            parts.now_ms(),
        )  # fmt: skip
    return web.json_response(meta(pack), status=201)


@routes.get(BASE)
async def read(request: web.Request) -> web.Response:
    """A sent pack as lines, what it lacks by now, and what was asked for since; ``?v=2`` for an older version."""
    opened, asks = await _sent(request)
    pack = opened.pack
    answer = {
        **meta(pack),
        "newest": opened.newest,
        "by": opened.by,
        "hospital": opened.hospital,
        "request": json.loads(pack.request),
        "lines": opened.lines(),
        "findings": opened.findings(services(request).now_ms()),
        "asks": asks,
    }
    return web.json_response(answer)


@routes.get(BASE + "/document")
async def document(request: web.Request) -> web.Response:
    """A sent pack as the FHIR document that it is."""
    opened, _asks = await _sent(request)
    return web.Response(text=opened.pack.bundle, content_type="application/fhir+json")


@routes.get(BASE + "/binary/{binary:[A-Za-z0-9.-]{1,64}}")
async def binary(request: web.Request) -> web.Response:
    """The bytes of a document of a sent pack, or of what was answered to an ask."""
    opened, asks = await _sent(request)
    pack, wanted = opened.pack, request.match_info["binary"]
    answered = [line for one in asks for line in one["came"]]
    if not _attaches(json.loads(pack.lines), wanted):
        if not _attaches(answered, wanted):
            raise ApiError(ApiCode.NOT_FOUND)
        async with services(request).database.read() as session:
            stored = await find_one(session, pack.patient_id, "Binary", wanted)
        return _bytes(stored)
    async with services(request).database.read() as session:
        stored = await _as_sent(session, Ref("Binary", wanted, ""), pack)
    return _bytes(stored)


def _attaches(lines: Iterable[dict[str, Any]], wanted: str) -> bool:
    return any(one["binary"] == wanted for line in lines for one in line["attachments"])


def _bytes(stored: dict[str, Any] | None) -> web.Response:
    if stored is None or stored.get("contentType") not in BINARY_TYPES:
        raise ApiError(ApiCode.NOT_FOUND)
    try:
        data = base64.b64decode(stored.get("data", ""), validate=True)
    except binascii.Error:
        raise ApiError(ApiCode.NOT_FOUND, "stored data is not base64") from None
    headers = {"Content-Type": BINARY_TYPES[stored["contentType"]], "Content-Disposition": "inline"}
    return web.Response(body=data, headers=headers)


async def _as_sent(session: Any, ref: Ref, pack: CasePack) -> dict[str, Any] | None:
    """The newest version that was there when the pack was sent."""
    version = 1
    found = None
    while (one := await one_version(session, ref.type, ref.id, version)) is not None:
        if one.written_at_ms > pack.sent_at_ms or one.patient_id != pack.patient_id:
            break
        found, version = one, version + 1
    content: dict[str, Any] | None = json.loads(found.json) if found is not None and found.json else None
    return content


async def _sent(request: web.Request) -> tuple[reading.Opened, list[dict[str, Any]]]:
    """A sent pack, its asks and what came; that it was read is committed before anything leaves, also if damaged."""
    person, found = await clinician(request, Action.READ_CASE_PACK)
    text = request.query.get("v")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise ApiError(ApiCode.MALFORMED, "v")
    parts, patient = services(request), request.match_info["patient"]
    async with parts.database.write() as session, refusals():
        version = None if text is None else int(text)
        opened = await reading.sent(
            session, found.consult, patient, version, person.actor, found.participant, parts.now_ms()
        )
        asks = [
            one | {"came": await reading.lines_of(session, patient, one["answer"])}
            for one in await asks_of(session, found.consult, patient)
        ]
    async with refusals():
        opened.require_whole()
    return opened, asks


def meta(pack: CasePack) -> dict[str, Any]:
    """Which version this is."""
    return {
        "id": pack.id, "version": pack.version, "sent_at_ms": pack.sent_at_ms, "sha256": pack.sha256,
        "specialty": pack.specialty, "content_hash": pack.content_hash,
    }  # fmt: skip


# ------------------------------------------------------------------ shared with casepack_asks


class refusals:
    """Turn a refusal of the case pack into the API's."""

    async def __aenter__(self) -> None:
        """Nothing to do."""

    async def __aexit__(self, _kind: object, problem: BaseException | None, _trace: object) -> None:
        if isinstance(problem, PackRefused):
            raise ApiError(_CODES[problem.code], problem.detail) from None


async def clinician(request: web.Request, action: Action) -> tuple[PersonPrincipal, Membership]:
    """Somebody with an account who is a clinician of the consult in the path.

    Raises:
        ApiError: ``not_signed_in``, ``not_allowed`` or ``not_found``.
    """
    person = await permitted_person(request, action)
    found = await member(request, person)
    if found.role not in CLINICIANS:
        raise ApiError(ApiCode.NOT_FOUND)
    return person, found


async def sender_of(request: web.Request, person: PersonPrincipal) -> Sender:
    """The caller as the pack names them."""
    async with services(request).database.read() as session:
        hospital = await session.get(Hospital, person.hospital_id)
    return Sender(
        person=person.subject, name=person.name, hospital=person.hospital_id,
        hospital_name=hospital.name if hospital is not None else person.hospital, actor=person.actor,
    )  # fmt: skip
