"""Whose record an access token reaches now, and the audit row of every reading.

Asked for each request: a consult that has ended, and a membership that was taken
back, close the record at once.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from server.record.core.outcome import FhirCode, FhirRefusal
from server.record.core.reach import Reach
from server.smart.aio.bearer import AccessToken
from server.smart.core.scopes import LEVELS
from server.storage import audit
from server.storage.database import Database
from server.storage.models import ConsultMember, ConsultPatient, ConsultState
from signaling.core.model import ConsultStatus

log = structlog.get_logger(__name__)

MAX_WAITING = 2_000
MAX_TOLD = 100
"""Patients that one audit row names; a hospital's search may meet more, and tells how many."""


async def patients_of_person(session: AsyncSession, person: str, consult: str | None = None) -> frozenset[str]:
    """Patients of the open consults that a person is a member of, or of one of them."""
    query = (
        select(ConsultPatient.patient_id)
        .join(ConsultMember, ConsultMember.consult_id == ConsultPatient.consult_id)
        .join(ConsultState, ConsultState.consult_id == ConsultPatient.consult_id)
        .where(ConsultMember.kind == "person", ConsultMember.subject_id == person)
        .where(ConsultState.status == ConsultStatus.OPEN.value)
    )
    if consult is not None:
        query = query.where(ConsultPatient.consult_id == consult)
    return frozenset(await session.scalars(query))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and how far one request of theirs reaches.

    A token may have scopes of two levels (``user/Patient.r patient/Observation.r``). A request has one: what is
    touched on the way, by an include, a chain or a condition, must be covered at the level that the request
    reaches at, or the narrow scope would be answered with the wide one's patients.
    """

    token: AccessToken
    reach: Reach
    level: str

    def covers(self, action: str, kind: str) -> bool:
        """Whether the scopes cover an action on a type as far as this request reaches."""
        return self.token.scopes.allows_from(self.level, kind, action)

    def need(self, action: str, kind: str) -> None:
        """Refuse what they do not cover.

        Raises:
            FhirRefusal: ``forbidden``.
        """
        if not self.covers(action, kind):
            raise FhirRefusal(FhirCode.FORBIDDEN, "the scopes of the token do not cover this")


async def caller_of(session: AsyncSession, token: AccessToken, steps: Sequence[tuple[str, str]]) -> Caller:
    """What a token reaches for these ``(action, type)``: at the widest level that covers them all.

    Raises:
        FhirRefusal: ``forbidden``: its scopes are too small, whatever is stored.
    """
    level = next(
        (one for one in reversed(LEVELS) if all(token.scopes.allows_from(one, kind, action) for action, kind in steps)),
        None,
    )
    if level == "system" and token.hospital is not None:
        return Caller(token, Reach.of_hospital(token.hospital), level)
    if level in ("user", "patient") and token.subject is not None:
        patients = await patients_of_person(session, token.subject, token.consult)
        mine = patients if level == "user" else patients & {token.patient or ""}
        return Caller(token, Reach.of_patients(mine), level)
    raise FhirRefusal(FhirCode.FORBIDDEN, "the scopes of the token do not cover this")


class Recorder:
    """Writes audit rows for readers, who wait for theirs: what is shown is on record first (G5).

    Readers that come while a transaction is under way share the next one.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def record(self, entries: Sequence[audit.Entry]) -> None:
        """Return when the entries are committed; they are also where nobody waits for that any more.

        Raises:
            FhirRefusal: ``busy``: the database does not keep up.
            SQLAlchemyError: they could not be written; nothing may be shown.
        """
        if self._waiting >= MAX_WAITING:
            raise FhirRefusal(FhirCode.BUSY, "too many readers at once")
        self._waiting += 1
        self._idle.clear()
        try:
            await self._database.at_once.write(lambda hand: audit.append_at_once(hand, entries))
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._idle.set()

    async def close(self) -> None:
        """Wait for those who wait; idempotent."""
        await self._idle.wait()


def read_entry(
    token: AccessToken, what: str, at_ms: int, *, patients: Sequence[str | None], **body: str | int | Sequence[str]
) -> audit.Entry:
    """The audit row of one reading; ``patients`` are those of what was shown."""
    whose = sorted({one for one in patients if one is not None})
    told: dict[str, object] = {"client": token.client, "patients": whose[:MAX_TOLD], **body}
    if len(whose) > MAX_TOLD:
        told["patients_in_all"] = len(whose)
    return audit.Entry(kind=what, at_ms=at_ms, actor=token.actor, consult_id=token.consult, body=told)
