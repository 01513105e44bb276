"""Who a session is, as its token said: fixed when the socket connects, never taken from a message."""

from pydantic import Field

from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.model import Participant, Role, ScreenRole, ShortText, Value


class Admission(Value):
    """One participant's right to be in one consult."""

    consult: ConsultId
    participant: ParticipantId
    role: Role
    name: ShortText
    hospital: ShortText = ""
    screen: ScreenRole | None = None
    screen_number: int | None = Field(default=None, ge=1, le=9)
    grant: ShortText = ""
    """What the right rests on, in words that only who gave it understands; when that is revoked, so is this. [SE12]"""
    hub: bool = False
    """Of the hub's own hospital. [IC2]"""
    simulated: bool = False
    """Everything this participant sends is marked SIMULATED, whatever it says itself (W9)."""

    def as_participant(self, joined_at_ms: int) -> Participant:
        """How the others will see it."""
        return Participant(
            id=self.participant,
            role=self.role,
            name=self.name,
            hospital=self.hospital,
            screen=self.screen,
            screen_number=self.screen_number,
            joined_at_ms=joined_at_ms,
            simulated=self.simulated,
            hub=self.hub,
        )
