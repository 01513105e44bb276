"""Who a request comes from, once its cookie or secret has been checked."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.model import Role, ScreenRole


class AccessRole(StrEnum):
    """Column of the HTTP permission table; finer than the role inside a consult."""

    DOCTOR = "doctor"
    NURSE = "nurse"
    ADMIN = "admin"
    GUEST = "guest"
    RECORD_SCREEN = "record_screen"
    OTHER_SCREEN = "other_screen"
    ROOM = "room"
    DEVICE = "device"


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Base: ``subject`` is unique within ``kind``; ``credential`` names what it was proved by (a hash)."""

    kind: str
    subject: str
    access: AccessRole
    credential: str
    name: str
    hospital_id: str
    hospital: str

    @property
    def actor(self) -> str:
        """How the audit trail names them."""
        return f"{self.kind}:{self.subject}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonPrincipal(Principal):
    """Someone with an account."""

    name_latin: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestPrincipal(Principal):
    """Someone who came by a one-time link; knows one consult only."""

    consult: ConsultId


@dataclass(frozen=True, kw_only=True, slots=True)
class ScreenPrincipal(Principal):
    """A paired wall display."""

    station: str
    station_name: str
    room: str
    number: int
    role: ScreenRole
    identify_until_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DevicePrincipal(Principal):
    """A room or device with a secret of its own."""

    simulated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Membership:
    """That a principal may enter a consult, and as what."""

    consult: ConsultId
    participant: ParticipantId
    role: Role


def participant_id(consult: str, kind: str, subject: str) -> ParticipantId:
    """The same id for the same one in the same consult, at every join; says nothing about other consults."""
    digest = hashlib.sha256(f"{consult}\n{kind}\n{subject}".encode()).hexdigest()
    return ParticipantId(f"p_{digest[:20]}")
