"""What crosses the lock, and what an adapter inside the hospital sees of it.

An adapter (MLLP, DICOM, a watched folder) turns one message of the hospital into one
`Crossing` and puts it into its `Outlet`. `put` returns when the crossing is durable in the
journal: only then may the adapter say AA or 0x0000 to whoever sent it, because from then on no
power cut loses it. What comes the other way is handed to an `Inlet` by its kind, in order, one
at a time, until it is delivered or refused for good.

Bodies that cross outward are FHIR Bundles (``application/fhir+json``, type transaction), made
inside the hospital, so that the rule per field is a rule about FHIR element paths; or files
(DICOM, WFDB, PDF) with what must be known of them in ``about``.

What is asked through the lock on demand is `responder.py`; what may cross is `policy.py`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

MAX_KIND_CHARS = 64
MAX_KEY_CHARS = 200
MAX_BODY_BYTES = 64 * 1024 * 1024
"""A multi-frame image or a day of waveforms is cut up or linked, never one message."""
MAX_PATIENT_IDENTIFIERS = 16
MAX_ABOUT = 32

_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9^_./ -]*")

FHIR_JSON = "application/fhir+json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """One thing that crosses, whole.

    Equal ``key`` from the same adapter means the same message: it crosses once.
    """

    kind: str
    """``ADT^A01``, ``ORU^R01``, ``FHIR Observation``, ``DICOM ECG``: what the policy's whitelist names."""
    key: str
    """Unique in its source and the same in every repeat: e.g. sending application + MSH-10, or a SOP Instance UID."""
    patient: tuple[tuple[str, str], ...]
    """Identifiers as (system, value); empty only where the kind concerns no patient."""
    media_type: str
    body: bytes
    made_us: int
    """When the source made it, UTC microseconds; shown, never used for order."""
    about: tuple[tuple[str, str], ...] = ()
    """Metadata of a body that is not FHIR, as (name, value); the policy's field rules apply to the names."""


class RefusalCode(StrEnum):
    """Why a crossing was not taken; stable, also in the crossing log of both sides."""

    NOT_ALLOWED = "not_allowed"
    """The policy's whitelist does not name this kind in this direction."""
    FULL = "full"
    """The journal is at its bound: the source keeps the message and tries again."""
    MALFORMED = "malformed"
    """Not a crossing: a kind, key, identifier or body that cannot be one. Trying again is of no use."""
    TOO_LARGE = "too_large"
    UNAVAILABLE = "unavailable"
    """The disk does not take it now."""
    KEY_REUSED = "key_reused"
    """The key was used for other content: two messages share a control id. Nothing crosses unseen."""


class LockRefused(Exception):
    """The lock did not take a crossing; nothing was kept of it.

    Args:
        code: stable.
        reason: for the operator; names elements and limits, never their values (G8).
    """

    def __init__(self, code: RefusalCode, reason: str = "") -> None:
        super().__init__(f"{code.value}: {reason}" if reason else code.value)
        self.code = code
        self.reason = reason

    @property
    def is_final(self) -> bool:
        """Whether sending the same again cannot succeed (HL7: AR instead of AE)."""
        return self.code not in (RefusalCode.FULL, RefusalCode.UNAVAILABLE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """The crossing is on disk and will cross exactly once."""

    sequence: int
    repeated: bool
    """Its key was taken before: nothing new was kept, and the source may be told the same as then."""
    almost_full: bool = False
    """The journal is beyond its warning level; slow sources down where that is possible."""


class Outlet(Protocol):
    """The way out for one adapter; the adapter's name is the source of everything put here."""

    async def put(self, crossing: Crossing) -> Receipt:
        """Keep a crossing durably, to be sent in the order of its source.

        Cancelling the call leaves the crossing either wholly kept or not at all; a repeat with the same key is then
        the way to find out.

        Raises:
            LockRefused: with a stable code; nothing was kept.
        """
        ...


class Adapter(Protocol):
    """One way in which the hospital's systems talk to the gateway."""

    name: str
    """Unique in one gateway, stable over restarts: dedupe keys and order belong to it."""

    async def run(self, outlet: Outlet) -> None:
        """Serve until cancelled. Listens on addresses inside the hospital only."""
        ...


class DeliveryFailed(Exception):
    """An inlet could not hand a crossing to the hospital.

    Args:
        retry: the same may succeed later (its peer was down); False refuses it for good.
        reason: a stable word for the log, without content.
    """

    def __init__(self, *, retry: bool, reason: str) -> None:
        super().__init__(reason)
        self.retry = retry
        self.reason = reason


class Inlet(Protocol):
    """Takes what the hub sends to the hospital, by kind."""

    name: str
    kinds: frozenset[str]
    """Kinds it takes; no two inlets of one gateway share one."""

    async def deliver(self, crossing: Crossing) -> None:
        """Hand it over; returning means the hospital has it durably (its AA).

        After a crash the same crossing may come again with the same key: the inlet sends it with the same control
        id, so that the receiving system can tell.

        Raises:
            DeliveryFailed: not taken.
        """
        ...


def check_crossing(crossing: Crossing) -> None:
    """Whether it can cross at all, whatever the policy says.

    Raises:
        LockRefused: ``malformed`` or ``too_large``.
    """
    if not 0 < len(crossing.kind) <= MAX_KIND_CHARS or not _KIND.fullmatch(crossing.kind):
        raise LockRefused(RefusalCode.MALFORMED, "kind")
    if not 0 < len(crossing.key) <= MAX_KEY_CHARS or not crossing.key.isprintable():
        raise LockRefused(RefusalCode.MALFORMED, "key")
    if not 0 < len(crossing.media_type) <= MAX_KIND_CHARS or not (
        crossing.media_type.isascii() and crossing.media_type.isprintable()
    ):
        raise LockRefused(RefusalCode.MALFORMED, "media type")
    if len(crossing.patient) > MAX_PATIENT_IDENTIFIERS or not all(is_identifier(*pair) for pair in crossing.patient):
        raise LockRefused(RefusalCode.MALFORMED, "patient identifiers")
    if len(crossing.about) > MAX_ABOUT or not all(is_identifier(*pair) for pair in crossing.about):
        raise LockRefused(RefusalCode.MALFORMED, "metadata")
    if not crossing.body:
        raise LockRefused(RefusalCode.MALFORMED, "empty body")
    if len(crossing.body) > MAX_BODY_BYTES:
        raise LockRefused(RefusalCode.TOO_LARGE, f"more than {MAX_BODY_BYTES} bytes")
    if not 0 <= crossing.made_us < 2**63:
        raise LockRefused(RefusalCode.MALFORMED, "time")


def is_identifier(name: str, value: str) -> bool:
    """Whether a pair of an identifier (system, value), or of metadata, can be carried."""
    return value != "" and all(len(part) <= MAX_KEY_CHARS and part.isprintable() for part in (name, value))
