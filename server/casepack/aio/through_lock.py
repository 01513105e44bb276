"""Ask the patient's hospital for exactly one part through the lock, and file what came.

Before the call no patient is open, so who is asked about is not a context's patient but the one of the ask, who is
of the consult. The hospital's gateway decides by its own policy, as with every question (LK20). Kept here is
what somebody asked for, nothing around it. At most one question for each match of the part; newest first where
its age matters.
"""

import asyncio
import time
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from server.casepack.core.brought import AnswerUnusable, read_answer
from server.casepack.core.completeness import satisfies
from server.casepack.core.tables import Match, Part
from server.gateway.core.crossing import MAX_KEY_CHARS
from server.gateway.core.responder import QueryCode, QueryFailed
from server.lock.aio.desk import LockDesk
from server.lock.aio.gateways import gateways_of
from server.lock.core.wire import Ask, Pairs
from server.record.aio.store import find_one
from server.record.core.params import clinical_date
from server.storage.database import Database
from server.storage.fhir_tables import FhirResource
from server.storage.lock_tables import LockQuestion

PURPOSE = "consult"
NOT_FRESH = "not_fresh"
"""Something came, and the part is still not present: too old, undated or preliminary. People are asked then."""
TIMEOUT_MS = 8_000
TOTAL_S = 15.0
"""Of all questions for one part: the doctor waits at a button."""
MAX_BYTES = 2 * 1024 * 1024
MAX_COUNT = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Hospital:
    """A patient's hospital that can be asked now: its gateway, and by which identifiers it knows her."""

    id: str
    gateway: str
    patient: Pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class Came:
    """What a hospital answered.

    Args:
        code: empty when the part is present by what came; ``not_fresh`` when it is not; else why nothing came.
        resources: as they came.
    """

    code: str
    resources: tuple[dict[str, object], ...] = ()


async def reachable(session: AsyncSession, desk: LockDesk | None, patient: str, partner: str) -> Hospital | None:
    """The hospital that the patient's record came from, else the partner, if its gateway is connected here."""
    if desk is None:
        return None
    owner = await session.scalar(
        select(FhirResource.owner).where(FhirResource.type == "Patient", FhirResource.id == patient)
    )
    hospital = owner or partner
    raw = await find_one(session, patient, "Patient", patient)
    identifiers = tuple(
        (str(one["system"]), str(one["value"]))
        for one in (raw or {}).get("identifier", [])
        if isinstance(one, dict) and one.get("system") and one.get("value")
    )
    if hospital != partner or not identifiers:
        return None  # what is asked at the partner is not asked at a third hospital
    gateway = next((one for one in await gateways_of(session, hospital) if desk.connected(one)), None)
    return None if gateway is None else Hospital(id=hospital, gateway=gateway, patient=identifiers[:16])


async def ask_through(
    desk: LockDesk, database: Database, hospital: Hospital, part: Part, *, consult: str, role: str, organisation: str,
    actor: str, now_ms: int,
) -> Came:  # fmt: skip
    """Ask match by match until the part is present by what came.

    Returns:
        Resources, or the code of the last refusal; ``not_found`` when the hospital has none.
    """
    code = QueryCode.NOT_FOUND.value
    came: list[dict[str, object]] = []
    try:
        async with asyncio.timeout(TOTAL_S):
            for match in part.any_of:
                question = _question(
                    hospital, match, consult, role, organisation, newest_first=part.fresh_h is not None
                )
                found = await _one(desk, database, hospital, match, question, actor, now_ms)
                came += found.resources
                if satisfies(part, came, now_ms * 1_000):
                    return Came(code="", resources=tuple(came))
                code = found.code or code
    except TimeoutError:
        code = QueryCode.TIMED_OUT.value
    return Came(code=NOT_FRESH if came else code, resources=tuple(came))


async def _one(
    desk: LockDesk, database: Database, hospital: Hospital, match: Match, question: Ask, actor: str, now_ms: int
) -> Came:
    began_ns = time.monotonic_ns()
    size = 0
    try:
        answer = await desk.ask(hospital.gateway, question)
        size = len(answer.body)
        came = Came(
            code=answer.code, resources=() if answer.code else tuple(read_answer(answer.body, match, hospital.patient))
        )
    except QueryFailed as failed:
        came = Came(code=failed.code.value)
    except AnswerUnusable:
        came = Came(code=QueryCode.MALFORMED.value)
    async with database.write() as session:
        session.add(
            LockQuestion(
                gateway_id=hospital.gateway, consult_id=question.consult, actor=actor, type=question.type,
                at_ms=now_ms, code=came.code, count=len(came.resources), size_bytes=size,
                took_us=(time.monotonic_ns() - began_ns) // 1_000,
            )
        )  # fmt: skip
    return came


def _question(
    hospital: Hospital, match: Match, consult: str, role: str, organisation: str, *, newest_first: bool
) -> Ask:
    params: list[tuple[str, str]] = []
    if match.codes and match.type != "ImagingStudy":  # modality is not among what policies let be asked
        name = "type" if match.type in ("DocumentReference", "Composition") else "code"
        params.append((name, _some(match.codes)))
    if match.categories:
        params.append(("category", _some(match.categories)))
    params.append(("_count", str(MAX_COUNT)))
    if newest_first and (dated := clinical_date(match.type)) is not None:
        params.append(("_sort", f"-{dated}"))
    return Ask(
        id=0, consult=consult, patient=hospital.patient, type=match.type, resource_id="", params=tuple(params),
        page="", role=role, organisation=organisation or "-", purpose=PURPOSE, timeout_ms=TIMEOUT_MS,
        max_bytes=MAX_BYTES, max_count=MAX_COUNT,
    )  # fmt: skip


def _some(codes: list[str]) -> str:
    """As many codes as one parameter holds; what is left out is asked for by people."""
    text = codes[0]
    for code in codes[1:]:
        if len(text) + len(code) + 1 > MAX_KEY_CHARS:
            break
        text += f",{code}"
    return text
