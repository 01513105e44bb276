"""Who is let in: the handshake of LOCK_PROTOCOL.md at the hub's end. [LK5]-[LK9]

Nobody learns from it which gateways exist: a stranger hears ``refused`` after the proof, as one with a wrong key does.
Only who has proved its key hears that it was revoked.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.lock.aio.outbox import outbox_fits, outbox_inside
from server.lock.aio.pipe import Pipe
from server.lock.core.proof import gateway_statement, hub_statement, verified
from server.lock.core.wire import GENESIS, VERSION, Challenge, Hello, Proof, WireError, encode
from server.storage import audit
from server.storage.database import Database
from server.storage.lock_tables import GatewayRow, LockCrossing

HANDSHAKE_S = 10.0


class NotLetIn(Exception):
    """The gateway hears ``code`` and the connection ends."""

    def __init__(self, code: str, reason: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Proved:
    """A gateway that has proved its key; nothing was changed yet."""

    hello: Hello
    proof: Proof
    hospital: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """Let in: everything that went before is fenced off."""

    connection: int
    up_to: int
    mark: bytes
    inward_up_to: int
    inward_reset: bool


class Admission:
    """The hub's part of handshakes.

    Args:
        key: the hub's own lock key; gateways got its public half when they enrolled.
        origins: addresses by which this hub may be dialled.
    """

    def __init__(
        self, database: Database, key: Ed25519PrivateKey, origins: frozenset[str], now_us: Callable[[], int]
    ) -> None:
        self._database, self._key, self._origins, self._now_us = database, key, origins, now_us

    async def prove(self, pipe: Pipe) -> Proved:
        """Hello, challenge, proof.

        Raises:
            NotLetIn: with what to tell.
            WireError, PipeClosed, TimeoutError: as they say.
        """
        async with asyncio.timeout(HANDSHAKE_S):
            hello, hello_bytes = await pipe.read()
            if not isinstance(hello, Hello):
                raise WireError("Hello first")
            if VERSION not in hello.versions:
                raise NotLetIn("version", f"this hub speaks version {VERSION}")
            if hello.origin not in self._origins:
                raise NotLetIn("refused")
            nonce, now_us = secrets.token_bytes(32), self._now_us()
            signature = self._key.sign(hub_statement(hello_bytes, nonce, now_us))
            challenge = Challenge(version=VERSION, nonce=nonce, now_us=now_us, signature=signature)
            await pipe.send_now(challenge)
            proof, _data = await pipe.read()
        if not isinstance(proof, Proof):
            raise WireError("Proof then")
        async with self._database.read() as session:
            row = await session.get(GatewayRow, hello.gateway)
        statement = gateway_statement(hello_bytes, encode(challenge), proof.up_to, proof.mark)
        # A stranger's signature is checked too, against a key that fits nothing: its refusal takes as long.
        key = row.public_key if row is not None else bytes(32)
        if not verified(key, proof.signature, statement) or row is None:
            raise NotLetIn("refused")
        if row.revoked_at_ms is not None:
            raise NotLetIn("revoked")
        return Proved(hello=hello, proof=proof, hospital=row.hospital_id)

    async def admit(self, proved: Proved) -> Admitted:
        """Make this the gateway's one connection; what older ones still try to commit is fenced off. [LK8]

        Raises:
            NotLetIn: ``revoked`` meanwhile, or ``journal_behind``.
        """
        hello, now_ms = proved.hello, self._now_us() // 1_000
        async with self._database.write() as session:
            row = await session.scalar(select(GatewayRow).where(GatewayRow.id == hello.gateway).with_for_update())
            if row is None or row.revoked_at_ms is not None:
                raise NotLetIn("revoked")
            renewed = row.stream != hello.stream
            if renewed:
                if await _was_used(session, hello):
                    raise NotLetIn("journal_behind")
                row.stream, row.received, row.mark = hello.stream, 0, GENESIS
            elif hello.last < row.received:
                raise NotLetIn("journal_behind")
            fits = await outbox_fits(session, hello.gateway, proved.proof.up_to, proved.proof.mark)
            inward = proved.proof.up_to if fits else 0
            await outbox_inside(session, hello.gateway, inward)
            row.connection += 1
            row.connected_at_ms = row.seen_at_ms = now_ms
            row.software, row.policy = hello.software, hello.policy
            admitted = Admitted(
                connection=row.connection, up_to=row.received, mark=row.mark, inward_up_to=inward, inward_reset=not fits
            )
            await session.flush()
            body = {"gateway": hello.gateway, "connection": admitted.connection, "policy": hello.policy}
            if renewed:
                body["stream"] = hello.stream
            entry = audit.Entry(kind="lock_connected", at_ms=now_ms, actor=f"gateway:{hello.gateway}", body=body)
            await audit.append(session, [entry])
        return admitted

    async def gone(self, gateway: str, connection: int) -> None:
        """The connection is over."""
        async with self._database.write() as session:
            await session.execute(
                update(GatewayRow)
                .where(GatewayRow.id == gateway, GatewayRow.connection == connection)
                .values(connected_at_ms=None, seen_at_ms=self._now_us() // 1_000)
            )


async def _was_used(session: AsyncSession, hello: Hello) -> bool:
    query = select(LockCrossing.id).where(LockCrossing.gateway_id == hello.gateway, LockCrossing.stream == hello.stream)
    return await session.scalar(query.limit(1)) is not None
