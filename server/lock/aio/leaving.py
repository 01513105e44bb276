"""A patient who leaves the bed: what is bound to it ends before the message about it counts as taken. [W21]

Ending bindings is safe to repeat and cannot be part of the record's transaction, so it comes first: if it fails, the
crossing is not acknowledged and comes again; if the hub dies in between, it comes again as well.
"""

from collections.abc import Awaitable, Callable
from typing import Literal

from server.gateway.core.crossing import Crossing
from server.gateway.hl7v2.signals import Ended, ended_by
from server.lock.aio.inbox import From
from server.record.aio.merge import survivor_of
from server.record.aio.store import AmbiguousPatient, patient_by_identifier
from server.storage.database import Database
from signaling.core.errors import Refusal
from signaling.core.ids import PatientId
from signaling.core.model import UnboundReason

Reason = Literal[UnboundReason.DISCHARGED, UnboundReason.TRANSFERRED]
EndBindings = Callable[[PatientId, Reason], Awaitable[int]]
"""`signaling.aio.service.ConsultService.end_bindings`."""
_REASONS: dict[Ended, Reason] = {
    Ended.DISCHARGED: UnboundReason.DISCHARGED,
    Ended.TRANSFERRED: UnboundReason.TRANSFERRED,
}


class Leaving:
    """The inbox's `Before`.

    Args:
        end_bindings: in all consults of a patient.
    """

    def __init__(self, database: Database, end_bindings: EndBindings) -> None:
        self._database, self._end_bindings = database, end_bindings

    async def __call__(self, crossing: Crossing, origin: From) -> None:
        """End what must end before this crossing is applied.

        Raises:
            TimeoutError: not now; the crossing must come again.
        """
        ended = ended_by(crossing.kind)
        if ended is None:
            return
        for patient in await self._patients(crossing, origin):
            try:
                await self._end_bindings(PatientId(patient), _REASONS[ended])
            except Refusal as refusal:
                raise TimeoutError(f"bindings not ended: {refusal.code}") from None

    async def _patients(self, crossing: Crossing, origin: From) -> list[str]:
        """Every record of this hospital that an identifier names, and what it was merged into: a binding too many ended
        is a bedside confirmation more, one too few shows a stranger's signal."""
        found: dict[str, None] = {}
        async with self._database.read() as session:
            for system, value in crossing.patient:
                try:
                    patient = await patient_by_identifier(session, system, value, owner=origin.hospital)
                except AmbiguousPatient:
                    continue
                if patient is not None:
                    found |= {patient: None, await survivor_of(session, patient): None}
        return list(found)
