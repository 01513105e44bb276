"""Who saw what of a patient, and when: the auditor's question to the event log. [VW3] (G5, C21)

The answer names people, pages and times, and nothing that is on a page. An administrator of the hub asks about every
patient, one of a partner about patients of her own hospital; of any other the answer is empty, as it is when nobody
looked. Asking is itself on record. The patient's id is in the body, not in the address (G8).
"""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from server.api.errors import ApiCode, ApiError
from server.api.request import Body, permitted_person, read_body, services
from server.identity.core.policy import Action
from server.record.aio.store import read_resource
from server.storage import audit
from server.storage.models import Hospital
from server.storage.views import MOST_ROWS, Seen, who_saw
from signaling.core.model import TimeMs

routes = web.RouteTableDef()


class Question(Body):
    """``[from_ms, to_ms)`` by the server's clock."""

    patient: Annotated[str, Field(pattern=r"^[A-Za-z0-9\-.]{1,64}$")]
    from_ms: TimeMs
    to_ms: TimeMs


@routes.post("/api/audit/views")
async def views(request: web.Request) -> web.Response:
    """Everyone whose page showed a part of the patient's record in that time, earliest first."""
    person = await permitted_person(request, Action.READ_AUDIT)
    asked = await read_body(request, Question)
    if asked.to_ms <= asked.from_ms:
        raise ApiError(ApiCode.MALFORMED, "to_ms")
    database = services(request).database
    async with database.read() as session:
        hospital = await session.get(Hospital, person.hospital_id)
        patient = await read_resource(session, "Patient", asked.patient)
        everywhere = hospital is not None and hospital.hub
        own = patient is not None and patient[0].owner == person.hospital_id
        seen = await who_saw(session, asked.patient, asked.from_ms, asked.to_ms) if everywhere or own else []
    entry = audit.Entry(
        kind="audit_views_read",
        at_ms=services(request).now_ms(),
        actor=person.actor,
        body={"patient": asked.patient, "from_ms": asked.from_ms, "to_ms": asked.to_ms, "count": len(seen)},
    )
    async with database.write() as session:
        await audit.append(session, [entry])
    return web.json_response({"views": [_json(one) for one in seen[:MOST_ROWS]], "more": len(seen) > MOST_ROWS})


def _json(seen: Seen) -> dict[str, Any]:
    return {
        "consult": seen.consult,
        "participant": seen.participant,
        "name": seen.name,
        "role": seen.role,
        "hospital": seen.hospital,
        "context_version": seen.context_version,
        "page": seen.page,
        "item": seen.item,
        "from_ms": seen.from_ms,
        "to_ms": seen.to_ms,
        "at_most_ms": seen.at_most_ms,
    }
