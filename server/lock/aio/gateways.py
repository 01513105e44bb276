"""Gateways as administrators see them: enrol, list, revoke, and the log of what crossed."""

import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from server.clock import NowMs
from server.enrol.aio.codes import CodeInvalid, EnrolmentCodes
from server.gateway.sealing import read_private, write_private
from server.identity.core.principal import PersonPrincipal
from server.lock.core.proof import enrolment_statement, verified
from server.lock.core.wire import GENESIS
from server.storage import audit
from server.storage.database import Database
from server.storage.lock_tables import GatewayRow, LockCrossing, LockQuestion
from server.storage.models import Hospital

KIND = "gateway"
KEY_FILE = "lock-key"
MOST_LISTED = 500


class ProofInvalid(Exception):
    """The newcomer does not have the private key of the public key it handed in, or the key is taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Enrolled:
    """What the gateway keeps."""

    gateway: str
    name: str
    hospital: str
    hospital_name: str


def lock_key(data_dir: Path) -> Ed25519PrivateKey:
    """The key by which gateways know this hub, made at the first start; processes of one hub share the file.

    It appears whole and durable: half a key, or another one after a power cut, and no gateway would know its hub again.

    Raises:
        StartError: the folder cannot be written, or the file not be read or is readable by others.
        ValueError: the file does not hold a key.
    """
    path = data_dir / KEY_FILE
    with contextlib.suppress(FileExistsError):
        write_private(path, Ed25519PrivateKey.generate().private_bytes_raw(), exclusive=True)
    return Ed25519PrivateKey.from_private_bytes(read_private(path))


class Gateways:
    """Gateways in the database."""

    def __init__(self, database: Database, codes: EnrolmentCodes, now_ms: NowMs) -> None:
        self._database, self._codes, self._now_ms = database, codes, now_ms

    async def enrol(self, code: str, public_key: bytes, signature: bytes) -> Enrolled:
        """Bind a key to the hospital for which the code was made; the code is spent with it.

        Raises:
            CodeInvalid: unknown, used or expired.
            ProofInvalid: the code is still good.
        """
        if not verified(public_key, signature, enrolment_statement(code, public_key)):
            raise ProofInvalid
        gateway, now_ms = f"g_{secrets.token_hex(8)}", self._now_ms()
        try:
            async with self._database.write() as session:
                used = await self._codes.use(session, code, KIND, gateway)
                hospital = await session.get(Hospital, used.hospital)
                if hospital is None:
                    raise CodeInvalid
                session.add(
                    GatewayRow(
                        id=gateway, hospital_id=used.hospital, name=used.name, public_key=public_key,
                        enrolled_at_ms=now_ms, mark=GENESIS, outbox_mark=GENESIS,
                    )
                )  # fmt: skip
                await session.flush()
                body = {"gateway": gateway, "hospital": used.hospital, "code": used.id}
                entry = audit.Entry(kind="gateway_enrolled", at_ms=now_ms, actor=f"gateway:{gateway}", body=body)
                await audit.append(session, [entry])
        except IntegrityError:
            raise ProofInvalid from None
        return Enrolled(gateway=gateway, name=used.name, hospital=used.hospital, hospital_name=hospital.name)

    async def revoke(self, person: PersonPrincipal, gateway: str, hospital: str | None) -> bool:
        """End a gateway's right for good; False when there is none such (of this hospital) that is not revoked."""
        now_ms = self._now_ms()
        where = [GatewayRow.id == gateway, GatewayRow.revoked_at_ms.is_(None)]
        if hospital is not None:
            where.append(GatewayRow.hospital_id == hospital)
        async with self._database.write() as session:
            done = await session.execute(
                update(GatewayRow).where(*where).values(revoked_at_ms=now_ms).returning(GatewayRow.id)
            )
            if done.one_or_none() is None:
                return False
            body = {"gateway": gateway}
            entry = audit.Entry(kind="gateway_revoked", at_ms=now_ms, actor=person.actor, body=body)
            await audit.append(session, [entry])
        return True

    async def listed(self, hospital: str | None) -> Sequence[GatewayRow]:
        """Gateways of one hospital, or all."""
        query = select(GatewayRow).order_by(GatewayRow.hospital_id, GatewayRow.enrolled_at_ms)
        if hospital is not None:
            query = query.where(GatewayRow.hospital_id == hospital)
        async with self._database.read() as session:
            return (await session.scalars(query)).all()

    async def find(self, gateway: str, hospital: str | None) -> GatewayRow | None:
        """One gateway, if it is of this hospital."""
        async with self._database.read() as session:
            row = await session.get(GatewayRow, gateway)
        return row if row is not None and hospital in (None, row.hospital_id) else None

    async def crossings(self, gateway: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """The log, newest first."""
        query = select(LockCrossing).where(LockCrossing.gateway_id == gateway)
        if before is not None:
            query = query.where(LockCrossing.id < before)
        async with self._database.read() as session:
            rows = (await session.scalars(query.order_by(LockCrossing.id.desc()).limit(min(limit, MOST_LISTED)))).all()
        return [_crossing_json(row) for row in rows]

    async def questions(self, gateway: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Questions that were asked of this gateway, newest first."""
        query = select(LockQuestion).where(LockQuestion.gateway_id == gateway)
        if before is not None:
            query = query.where(LockQuestion.id < before)
        async with self._database.read() as session:
            rows = (await session.scalars(query.order_by(LockQuestion.id.desc()).limit(min(limit, MOST_LISTED)))).all()
        names = ("id", "consult_id", "actor", "type", "at_ms", "code", "count", "size_bytes", "took_us")
        return [{name: getattr(row, name) for name in names} for row in rows]


async def gateways_of(session: AsyncSession, hospital: str) -> Sequence[str]:
    """Gateways of a hospital that are not revoked, the one enrolled last first."""
    query = (
        select(GatewayRow.id)
        .where(GatewayRow.hospital_id == hospital, GatewayRow.revoked_at_ms.is_(None))
        .order_by(GatewayRow.enrolled_at_ms.desc(), GatewayRow.id)
    )
    return (await session.scalars(query)).all()


def _crossing_json(row: LockCrossing) -> dict[str, Any]:
    names = (
        "id", "stream", "sequence", "last", "source", "kind", "size_bytes", "verdict", "code", "reason", "made_us",
        "gateway_received_us", "gateway_journaled_us", "gateway_sent_us", "hub_received_us", "hub_committed_us",
    )  # fmt: skip
    return {name: getattr(row, name) for name in names}
