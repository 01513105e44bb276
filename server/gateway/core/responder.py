"""A question of the hub to the hospital's own FHIR server, and its answer.

A consult's participants may read exactly that consult's patients. The hub asks; the
gateway decides again by the hospital's policy (`policy.py`) and then asks a `Responder`, which
is the FHIR client inside. The answer is bounded, filtered by the policy's field rules, and
kept nowhere.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordQuery:
    """One read or search, already allowed by the policy when a responder sees it."""

    type: str
    """FHIR resource type."""
    resource_id: str | None
    """A read of one resource (still only if it is the patient's); None is a search."""
    params: tuple[tuple[str, str], ...]
    """Search parameters in order; never ``patient``, ``subject``, ``identifier``, chains or includes: who is asked
    about is said by ``patient`` alone."""
    patient: tuple[tuple[str, str], ...]
    """Identifiers (system, value) of the one patient, all of the same person."""
    max_bytes: int
    """Answer at most this much."""
    max_count: int
    """Resources in one answer."""
    page: str = ""
    """Opaque: what an earlier answer gave as ``next_page``; empty is the first page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordAnswer:
    """Resources as parsed JSON objects, each of the asked patient; newest first where the server sorts."""

    resources: tuple[dict[str, object], ...]
    next_page: str = ""
    """Opaque, at most 2000 characters, without personal data; empty when this was all."""


class QueryCode(StrEnum):
    """Why a question has no answer; stable, shown to people as a sentence by the hub."""

    NOT_ALLOWED = "not_allowed"
    """By the hospital's policy."""
    NOT_FOUND = "not_found"
    """No such patient or resource: the two are not told apart."""
    UNAVAILABLE = "unavailable"
    """The hospital's server does not answer."""
    TIMED_OUT = "timed_out"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    CANCELLED = "cancelled"
    """The consult ended meanwhile."""
    BUSY = "busy"
    """Too many questions at once."""


class QueryFailed(Exception):
    """There is no answer.

    Args:
        code: stable.
        reason: for the operator, without content.
    """

    def __init__(self, code: QueryCode, reason: str = "") -> None:
        super().__init__(f"{code.value}: {reason}" if reason else code.value)
        self.code = code
        self.reason = reason


class Responder(Protocol):
    """Asks the hospital's FHIR server."""

    async def answer(self, query: RecordQuery) -> RecordAnswer:
        """Read or search; cancelled when the consult ends or time is up, and leaves nothing behind.

        Raises:
            QueryFailed: ``not_found``, ``unavailable``, ``too_large`` or ``malformed``.
        """
        ...

    async def close(self) -> None:
        """Hang up; idempotent."""
        ...
