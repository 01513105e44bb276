"""What an integrator says about one hospital's interface; nothing here is guessed from messages."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from server.gateway.hl7v2.charset import codec_of

_NAMESPACE: Final = uuid.UUID("6e2f6a0c-6f0b-5c53-9d4a-1f6c7a1f0c55")
"""Of our deterministic fullUrls; any fixed value serves."""


class ProfileInvalid(ValueError):
    """The configuration cannot be used; the text says what to change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One hospital's conventions."""

    hospital: str
    """Stable short id of the hospital: part of every resource id, so that two hospitals never share one."""
    authorities: Mapping[str, str]
    """Assigning authority -> identifier system (a URI). The key is CX-4's universal id or its namespace id, or
    ``NAMESPACE/TYPE`` with CX-5 where an authority assigns several kinds (``GOOD HEALTH/MR``). An identifier whose
    authority is not here, and that brings no ISO OID, has no system: it is shown, and matches nobody."""
    default_authority: str = ""
    """System of a record number in PID-3 whose CX-4 is empty; empty: such an identifier has none."""
    primary_system: str = ""
    """System of the identifier by which patients are found, whatever the order in PID-3; empty: the first that has one.
    To be set where senders order PID-3 differently."""
    national_id_system: str = ""
    """System of PID-19; empty: PID-19 is left out."""
    zone: str = "Asia/Shanghai"
    charset: str = "UNICODE UTF-8"
    """Where MSH-18 is empty; a name of table 0211."""
    coding_systems: Mapping[str, str] = field(default_factory=dict)
    """Local code systems: what CWE-3 says -> URI. Standard ones (`tables.CODE_SYSTEMS`) need no entry."""
    test_patients: frozenset[tuple[str, str]] = frozenset()
    """(system, value) of patients who are no persons; their data is tagged so (W9), and MSH-11 = T or D concerns
    nobody else."""
    categories: Mapping[str, str] = field(default_factory=dict)
    """Observation category by sending application (MSH-3), where OBR-24 is empty: ``LIS`` -> ``laboratory``."""
    slot_minutes: int | None = None
    """Length of an appointment for which SIU says none; None refuses such a message."""

    def __post_init__(self) -> None:
        if not self.hospital or not self.hospital.isprintable():
            raise ProfileInvalid("hospital needs an id")
        for name, system in (*self.authorities.items(), ("default_authority", self.default_authority)):
            if (system or name != "default_authority") and ":" not in system:
                raise ProfileInvalid(f"the system of {name!r} must be a URI")
        if codec_of(self.charset) is None:
            raise ProfileInvalid(f"{self.charset!r} is no character set of HL7 table 0211 that is taken")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ProfileInvalid(f"{self.zone!r} is no time zone") from None

    @property
    def tz(self) -> tzinfo:
        """The hospital's time zone."""
        return ZoneInfo(self.zone)

    def is_test(self, identifiers: tuple[tuple[str, str], ...]) -> bool:
        """Whether the identifiers are a test patient's."""
        return not self.test_patients.isdisjoint(identifiers)

    def resource_id(self, kind: str, *parts: str) -> str:
        """The same parts always give the same FHIR id, so that a repeated message is the same resource."""
        text = "\x1f".join((self.hospital, kind, *parts))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]

    def urn(self, kind: str, *parts: str) -> str:
        """A fullUrl for an entry whose id only the server knows."""
        return uuid.uuid5(_NAMESPACE, self.resource_id(kind, *parts)).urn
