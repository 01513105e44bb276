"""How old a crossing is that was refused until its patient was known, and comes again. [LK25]

What came since then, and was applied, is newer, whatever order the numbers have now. A corrected result may cross
between the registration and the older result that the registration brings back; HL7 v2 need not say when a result was
issued, so only the hub can tell: its clock (`server.clock`, which does not run backwards while the program runs) says
when it refused the one and wrote the other.
"""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from server.gateway.core.crossing import Crossing
from server.lock.aio.inbox import From, key_hash
from server.lock.core.wire import PATIENT_INCOMPLETE
from server.storage.fhir_tables import FhirResource
from server.storage.lock_tables import GatewayRow, LockCrossing


class Held:
    """When one crossing was first refused so; asked of the database at most once, and only when it matters."""

    def __init__(self, session: AsyncSession, crossing: Crossing, origin: From) -> None:
        self._session, self._crossing, self._origin = session, crossing, origin
        self.kind = crossing.kind
        self._is_read, self._since_ms = False, 0

    async def is_older_than(self, row: FhirResource) -> bool:
        """Whether what is there was written when this crossing had come already, and had been refused."""
        if not self._is_read:
            self._since_ms = await self._first_refused_ms()
            self._is_read = True
        return 0 < self._since_ms <= row.written_at_ms

    async def _first_refused_ms(self) -> int:
        """0: never. The machine may have been another gateway of its hospital then. [LK1]"""
        of_hospital = select(GatewayRow.id).where(GatewayRow.hospital_id == self._origin.hospital)
        gateways = {self._origin.gateway, *(await self._session.scalars(of_hospital)).all()}
        hashes = [key_hash(gateway, self._origin.source, self._crossing.key) for gateway in sorted(gateways)]
        first_us = await self._session.scalar(
            select(func.min(LockCrossing.hub_committed_us)).where(
                LockCrossing.gateway_id.in_(gateways),
                LockCrossing.key_hash.in_(hashes),
                LockCrossing.code == PATIENT_INCOMPLETE,
            )
        )
        return 0 if first_us is None else first_us // 1_000
