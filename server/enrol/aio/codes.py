"""Make and use enrolment codes: one use, fifteen minutes, each step a row of the audit chain.

What is enrolled is the caller's business: `use` gives it the hospital the code was made for, inside the
transaction that spends the code, so that a code is never spent on nothing.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.clock import NowMs
from server.enrol.core.codes import CODE_BYTES, CODE_MS, code_hash, enrolment_code, read_enrolment_code
from server.identity.core.principal import PersonPrincipal
from server.storage import audit
from server.storage.database import Database
from server.storage.lock_tables import EnrolmentCode


class CodeInvalid(Exception):
    """Unknown, used or expired: which of them is not said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeCode:
    """The only time the code itself is seen."""

    id: str
    code: str
    expires_at_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class UsedCode:
    """What a code was good for."""

    id: str
    kind: str
    hospital: str
    name: str


class EnrolmentCodes:
    """Codes of this installation."""

    def __init__(self, database: Database, now_ms: NowMs, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._database, self._now_ms, self._random = database, now_ms, random

    async def make(self, person: PersonPrincipal | None, *, kind: str, hospital: str, name: str) -> MadeCode:
        """A new code for one thing of one hospital; without a person it is made on the hub's own command line."""
        code, now_ms = enrolment_code(self._random(CODE_BYTES)), self._now_ms()
        row = EnrolmentCode(
            id=f"ec_{secrets.token_hex(8)}",
            code_hash=code_hash(code),
            kind=kind,
            hospital_id=hospital,
            name=name,
            created_by=None if person is None else person.subject,
            created_at_ms=now_ms,
            expires_at_ms=now_ms + CODE_MS,
        )
        body = {"code": row.id, "kind": kind, "hospital": hospital}
        async with self._database.write() as session:
            session.add(row)
            await session.flush()
            actor = audit.SERVER if person is None else person.actor
            entry = audit.Entry(kind="enrolment_code_made", at_ms=now_ms, actor=actor, body=body)
            await audit.append(session, [entry])
        return MadeCode(id=row.id, code=code, expires_at_ms=row.expires_at_ms)

    async def use(self, session: AsyncSession, typed: str, kind: str, subject: str) -> UsedCode:
        """Spend a code, in the transaction that enrols ``subject``.

        Raises:
            CodeInvalid: nothing was changed.
        """
        code, now_ms = read_enrolment_code(typed), self._now_ms()
        if code is None:
            raise CodeInvalid
        # One statement decides: of two that come together one finds the row still unused.
        spent = await session.execute(
            update(EnrolmentCode)
            .where(
                EnrolmentCode.code_hash == code_hash(code),
                EnrolmentCode.kind == kind,
                EnrolmentCode.used_at_ms.is_(None),
                EnrolmentCode.expires_at_ms > now_ms,
            )
            .values(used_at_ms=now_ms, subject=subject)
            .returning(EnrolmentCode.id, EnrolmentCode.hospital_id, EnrolmentCode.name)
        )
        row = spent.one_or_none()
        if row is None:
            raise CodeInvalid
        return UsedCode(id=row.id, kind=kind, hospital=row.hospital_id, name=row.name)

    async def waiting(self, hospital: str | None) -> list[dict[str, object]]:
        """Codes that can still be used, without the codes."""
        query = select(EnrolmentCode).where(
            EnrolmentCode.used_at_ms.is_(None), EnrolmentCode.expires_at_ms > self._now_ms()
        )
        if hospital is not None:
            query = query.where(EnrolmentCode.hospital_id == hospital)
        async with self._database.read() as session:
            rows = (await session.scalars(query.order_by(EnrolmentCode.created_at_ms))).all()
        return [
            {
                "id": row.id,
                "kind": row.kind,
                "hospital": row.hospital_id,
                "name": row.name,
                "expires_at_ms": row.expires_at_ms,
            }
            for row in rows
        ]
