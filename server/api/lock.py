"""The open patient's record in her own hospital, asked on demand through the lock.

As with `record.py` there is no way to ask for a patient by id: a caller names the context version it shows, and who is
asked about is that context's patient, by the identifiers stored for her. The hospital's gateway decides again
by the hospital's own policy. Nothing of the answer is kept here; that it was asked is in the audit trail
before the answer leaves (G5), how it ended in the lock's own log. An answer that comes after the context moved on, or
after the consult ended, is thrown away.
"""

import asyncio
import time
from dataclasses import dataclass

from aiohttp import web
from sqlalchemy import select

from server.api.errors import ApiCode, ApiError
from server.api.gateways import LOCK
from server.api.request import member, permitted, services, throttle
from server.gateway.core.crossing import MAX_PATIENT_IDENTIFIERS, is_identifier
from server.gateway.core.responder import QueryCode, QueryFailed
from server.identity.aio.members import membership_in
from server.identity.core.policy import Action
from server.identity.core.principal import Membership, Principal
from server.identity.core.rules import Throttle
from server.lock.aio.gateways import gateways_of
from server.lock.aio.parts import Target
from server.lock.core.answers import WholeAnswer
from server.lock.core.wire import MAX_PARAMS, MAX_TEXT, Ask, Pairs
from server.metrics import LOCK_QUESTIONS
from server.record.aio.store import find_one
from server.storage import audit
from server.storage.at_once import Hand
from server.storage.consult_store import snapshot_in
from server.storage.fhir_tables import FhirResource
from server.storage.models import ConsultRow
from signaling.core.ids import ConsultId
from signaling.core.model import ConsultStatus, Context

routes = web.RouteTableDef()

PURPOSE = "consult"
TIMEOUT_MS = 10_000
MAX_BYTES = 8 * 1024 * 1024
MAX_COUNT = 500
LOOK_S = 0.5
"""How often a question that takes long looks whether its consult still runs."""
QUESTION = Throttle(name="lock_question", attempts=300, window_s=60)
"""Per session."""
_MAX_VERSION = 2**32 - 1

_CODES = {
    QueryCode.NOT_ALLOWED: ApiCode.HOSPITAL_REFUSED,
    QueryCode.NOT_FOUND: ApiCode.NOT_FOUND,
    QueryCode.UNAVAILABLE: ApiCode.HOSPITAL_UNREACHABLE,
    QueryCode.TIMED_OUT: ApiCode.HOSPITAL_TIMED_OUT,
    QueryCode.TOO_LARGE: ApiCode.ANSWER_TOO_LARGE,
    QueryCode.MALFORMED: ApiCode.MALFORMED,
    QueryCode.CANCELLED: ApiCode.CONSULT_ENDED,
    QueryCode.BUSY: ApiCode.TOO_BUSY,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asker:
    """Who asks, in which consult, about whom."""

    principal: Principal
    found: Membership
    context: Context
    snapshot: str
    """Of the consult, as it was stored when she asked."""


@routes.get("/api/consults/{consult}/lock/{type:[A-Z][A-Za-z]{1,63}}")
async def search(request: web.Request) -> web.Response:
    """Search one type of the open patient's resources in her hospital; parameters as in FHIR."""
    return await _answer(request, "")


@routes.get("/api/consults/{consult}/lock/{type:[A-Z][A-Za-z]{1,63}}/{id:[A-Za-z0-9.-]{1,64}}")
async def read(request: web.Request) -> web.Response:
    """Read one resource of the open patient in her hospital."""
    return await _answer(request, request.match_info["id"])


async def _answer(request: web.Request, resource_id: str) -> web.Response:
    asker = await _asker(request)
    await throttle(request, QUESTION, asker.principal.credential)
    gateway, patient = await _hospital(request, asker)
    question = Ask(
        id=0,
        consult=asker.found.consult,
        patient=patient,
        type=request.match_info["type"],
        resource_id=resource_id,
        params=_params(request),
        page=_page(request),
        role=asker.principal.access.value,
        organisation=asker.principal.hospital_id or "-",
        purpose=PURPOSE,
        timeout_ms=TIMEOUT_MS,
        max_bytes=MAX_BYTES,
        max_count=MAX_COUNT,
    )
    began = time.monotonic()
    answer = await _ask(request, asker, gateway, question)
    await _still(request, asker, caller_too=time.monotonic() - began > LOOK_S)
    headers = {
        "X-Context-Version": str(asker.context.version),
        "X-Hospital-Resources": str(answer.count),
        "Content-Type": "application/fhir+json",
    }
    if answer.next_page:
        headers["X-Next-Page"] = answer.next_page
    return web.Response(body=answer.body, headers=headers)


async def _ask(request: web.Request, asker: _Asker, gateway: str, question: Ask) -> WholeAnswer:
    """Ask, while the audit row is written; both are there before anything is answered.

    Raises:
        ApiError: by the hospital's or the gateway's code.
    """
    began, at_ms = time.monotonic_ns(), services(request).now_ms()
    code, answer = QueryCode.CANCELLED.value, None
    # In this order: the question is on the line before the database's thread has work.
    asking = asyncio.create_task(request.app[LOCK].desk.ask(gateway, question))
    recording = asyncio.create_task(_record(request, asker, gateway, question.type, at_ms))
    try:
        await recording
        answer = await _until_over(request, asker, asking)
        code = ""
    except QueryFailed as failed:
        code = failed.code.value
        raise ApiError(_CODES[failed.code]) from None
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        LOCK_QUESTIONS.labels(code or "answered").inc()
        request.app[LOCK].note_question(
            gateway_id=gateway, consult_id=asker.found.consult, actor=asker.principal.actor, type=question.type,
            at_ms=at_ms, code=code, count=0 if answer is None else answer.count,
            size_bytes=0 if answer is None else len(answer.body), took_us=_since(began),
        )  # fmt: skip
    return answer


def _since(began_ns: int) -> int:
    return (time.monotonic_ns() - began_ns) // 1_000


async def _until_over(request: web.Request, asker: _Asker, asking: asyncio.Task[WholeAnswer]) -> WholeAnswer:
    """The answer, unless the consult ends or the context moves on first: the caller then tells the gateway to stop."""
    while not (await asyncio.wait({asking}, timeout=LOOK_S))[0]:
        await _still(request, asker, caller_too=True)
    return asking.result()


async def _asker(request: web.Request) -> _Asker:
    consult = ConsultId(request.match_info["consult"])
    standing: list[tuple[Membership | None, str | None]] = []

    def look(hand: Hand, principal: Principal) -> None:
        standing.append((membership_in(hand, principal, consult), snapshot_in(hand, consult)))

    principal = await permitted(request, Action.READ_RECORD, beside=look)
    text = request.query.get("version", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_VERSION):
        raise ApiError(ApiCode.MALFORMED, "version")
    ((found, snapshot),) = standing
    if found is None:
        raise ApiError(ApiCode.NOT_FOUND)
    context = _shown(request, consult, snapshot, int(text))
    return _Asker(principal=principal, found=found, context=context, snapshot=snapshot or "")


async def _still(request: web.Request, asker: _Asker, *, caller_too: bool) -> None:
    """Whether the caller's consult still runs and still shows this patient.

    Args:
        caller_too: also whether the caller is still signed in and of the consult.

    Raises:
        ApiError: ``consult_ended``, ``context_changed``, ``not_signed_in`` or ``not_found``.
    """
    consult = asker.found.consult
    snapshot = await services(request).database.at_once.read(lambda hand: snapshot_in(hand, consult))
    if snapshot != asker.snapshot:  # else it says what it said before
        _shown(request, consult, snapshot, asker.context.version)
    if caller_too:
        await member(request, await permitted(request, Action.READ_RECORD, active=False))


def _shown(request: web.Request, consult: ConsultId, snapshot: str | None, version: int) -> Context:
    shown = request.app[LOCK].consult_of(consult, snapshot)
    if shown is None or shown.status is ConsultStatus.ENDED:
        raise ApiError(ApiCode.CONSULT_ENDED)
    if shown.context is None or shown.context.version != version:
        raise ApiError(ApiCode.CONTEXT_CHANGED)
    return shown.context


async def _hospital(request: web.Request, asker: _Asker) -> tuple[str, Pairs]:
    """The connected gateway of the open patient's hospital, and her identifiers.

    Raises:
        ApiError: ``not_found`` without an identifier a hospital could know, ``hospital_unreachable`` without gateway.
    """
    lock, consult, version = request.app[LOCK], asker.found.consult, asker.context.version
    target = lock.target(consult, version)
    if target is None:
        target = await _target(request, asker)
        lock.remember(consult, version, target)
    if not target.patient:
        raise ApiError(ApiCode.NOT_FOUND, "no identifier with a system")
    gateway = next((one for one in target.gateways if lock.desk.connected(one)), None)
    if gateway is None:
        # A gateway enrolled meanwhile is found at the next question.
        lock.forget(consult, version)
        raise ApiError(ApiCode.HOSPITAL_UNREACHABLE)
    return gateway, target.patient


async def _target(request: web.Request, asker: _Asker) -> Target:
    """The hospital is the one the patient's record came from, else the consult's partner."""
    patient = asker.context.patient.id
    async with services(request).database.read() as session:
        raw = await find_one(session, patient, "Patient", patient)
        owner = await session.scalar(
            select(FhirResource.owner).where(FhirResource.type == "Patient", FhirResource.id == patient)
        )
        partner = await session.scalar(select(ConsultRow.partner_id).where(ConsultRow.id == asker.found.consult))
        gateways = await gateways_of(session, owner or partner or "")
    identifiers = tuple(
        (str(one["system"]), str(one["value"]))
        for one in (raw or {}).get("identifier", [])
        if isinstance(one, dict) and one.get("system") and is_identifier(str(one["system"]), str(one.get("value", "")))
    )
    return Target(gateways=tuple(gateways), patient=identifiers[:MAX_PATIENT_IDENTIFIERS])


def _page(request: web.Request) -> str:
    page = request.query.get("page", "")
    if len(page) > MAX_TEXT or not page.isprintable():
        raise ApiError(ApiCode.MALFORMED, "page")
    return page


def _params(request: web.Request) -> Pairs:
    params = tuple((name, value) for name, value in request.query.items() if name not in ("version", "page"))
    if len(params) > MAX_PARAMS or not all(
        0 < len(name) <= 64 and len(value) <= 200 and (name + value).isprintable() for name, value in params
    ):
        raise ApiError(ApiCode.MALFORMED, "parameters")
    return params


async def _record(request: web.Request, asker: _Asker, gateway: str, kind: str, at_ms: int) -> None:
    """The question is on record before its answer leaves."""
    body = {
        "participant": asker.found.participant, "patient": asker.context.patient.id,
        "version": asker.context.version, "type": kind, "gateway": gateway,
    }  # fmt: skip
    entry = audit.Entry(
        kind="lock_read", at_ms=at_ms, actor=asker.principal.actor, consult_id=asker.found.consult, body=body
    )
    await services(request).database.at_once.write(lambda hand: audit.append_at_once(hand, [entry]))
