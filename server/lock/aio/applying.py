"""How what crossed becomes part of the record.

FHIR transactions go to the store as they are, owned by the gateway's hospital, in the inbox's own transaction. A
file (DICOM, PDF, WFDB) is written sealed (`vault.py`) and synced before the row that names it is committed: a
crash between the two leaves a file nobody names, never a name without a file. Outcomes of what the hub sent
end the outbox row they belong to; what the hospital's operator did by hand becomes a row of the audit chain. [LK23]
"""

import asyncio
import json
import secrets
from collections.abc import Iterable
from typing import Any, Protocol

import msgpack
from sqlalchemy.ext.asyncio import AsyncSession

from server.decimals import parse_json
from server.gateway.core.crossing import FHIR_JSON, Crossing
from server.gateway.hl7v2.signals import MERGE, merge_of
from server.lock.aio.held import Held
from server.lock.aio.inbox import CrossingRefused, From
from server.lock.aio.outbox import MalformedOutcome, outcome
from server.lock.aio.standing import is_stranger, patients_named, settled
from server.lock.aio.vault import Vault
from server.lock.core.wire import (
    OPERATOR_KIND,
    OPERATOR_REASONS,
    OUTCOME_KIND,
    OUTCOME_SOURCE,
    PATIENT_INCOMPLETE,
    Pairs,
)
from server.record.aio.merge import merge_patient, survivor_of
from server.record.core.outcome import FhirRefusal
from server.record.core.reach import Reach
from server.record.core.resource import PatientIncomplete, ResourceInvalid
from server.storage import audit
from server.storage.lock_tables import LockFile

MAX_UID = 64
ACTIONS = {word: word for word in ("resend", "discard")}
DIRECTIONS = {word: word for word in ("outward", "inward")}
FILE_TYPES = frozenset(
    {
        "application/dicom",
        "application/edf",
        "application/json",
        "application/x-scp-ecg",
        "application/pdf",
        "application/zip",
        "image/jpeg",
        "image/png",
        "text/plain",
        "application/xml",
    }
)
"""Media types kept as files; nothing a browser would run (G12)."""


class ApplyBundle(Protocol):
    """`server.record.aio`'s transaction: all or nothing."""

    async def __call__(
        self, session: AsyncSession, bundle: Any, *, actor: str, at_ms: int, owner_hospital: str
    ) -> object: ...


class Applying:
    """The inbox's `Apply`.

    Args:
        vault: where files go.
    """

    def __init__(self, apply_bundle: ApplyBundle, vault: Vault) -> None:
        self._apply_bundle, self._vault = apply_bundle, vault

    async def __call__(self, session: AsyncSession, crossing: Crossing, origin: From, at_ms: int) -> None:
        """Apply one crossing.

        Raises:
            CrossingRefused: ``unsupported``, ``malformed``, ``invalid``, ``patient_incomplete``, ``other_person`` or a
                code of the record.
        """
        if origin.source == OUTCOME_SOURCE and crossing.kind == OPERATOR_KIND:
            await _operation(session, crossing, origin, at_ms)
        elif origin.source == OUTCOME_SOURCE or crossing.kind in (OUTCOME_KIND, OPERATOR_KIND):
            await self._outcome(session, crossing, origin)
        elif crossing.media_type == FHIR_JSON:
            await self._bundle(session, crossing, origin, at_ms)
        elif crossing.media_type in FILE_TYPES:
            await self._file(session, crossing, origin, at_ms)
        else:
            raise CrossingRefused("unsupported", f"the record keeps no {crossing.media_type}")

    async def _outcome(self, session: AsyncSession, crossing: Crossing, origin: From) -> None:
        if origin.source != OUTCOME_SOURCE or crossing.kind != OUTCOME_KIND:
            raise CrossingRefused("malformed", "outcome")
        try:
            await outcome(session, origin.gateway, crossing.body)
        except MalformedOutcome:
            raise CrossingRefused("malformed", "outcome") from None

    async def _bundle(self, session: AsyncSession, crossing: Crossing, origin: From, at_ms: int) -> None:
        try:
            bundle = parse_json(crossing.body)
        except (ValueError, RecursionError):
            raise CrossingRefused("malformed", "the body is not JSON") from None
        try:
            made = await settled(session, bundle, owner=origin.hospital, held=Held(session, crossing, origin))
            await self._apply_bundle(session, made, actor=origin.actor, at_ms=at_ms, owner_hospital=origin.hospital)
            await _merge(session, crossing, bundle, origin, at_ms)
        except PatientIncomplete as incomplete:
            raise CrossingRefused(PATIENT_INCOMPLETE, incomplete.detail) from None
        except FhirRefusal as refusal:
            raise CrossingRefused(refusal.code.value, _places(refusal)) from None
        except ResourceInvalid as invalid:
            raise CrossingRefused("invalid", str(invalid)) from None

    async def _file(self, session: AsyncSession, crossing: Crossing, origin: From, at_ms: int) -> None:
        digest = await asyncio.to_thread(self._vault.keep, crossing.body)
        file, about = f"lf_{secrets.token_hex(12)}", json.dumps(crossing.about, ensure_ascii=False)
        session.add(
            LockFile(
                id=file, gateway_id=origin.gateway, stream=origin.stream,
                sequence=origin.sequence, patient_id=await _whose(session, crossing, origin), kind=crossing.kind,
                media_type=crossing.media_type, instance=instance_of(crossing.about), sha256=digest,
                size_bytes=len(crossing.body), made_us=crossing.made_us, at_ms=at_ms,
                **self._vault.seal_row(LockFile.__tablename__, file, about=about),
            )
        )  # fmt: skip
        await session.flush()


def instance_of(about: Pairs) -> str:
    """UID of a DICOM object, as its row names it in the open; empty for what is none (PS3.5 9.1: 64 characters)."""
    instance = dict(about).get("instance", "")
    return instance if len(instance) <= MAX_UID else ""


async def _merge(session: AsyncSession, crossing: Crossing, bundle: Any, origin: From, at_ms: int) -> None:
    """ADT A40: the retired record's data becomes the survivor's; a record that is not here has none.

    Raises:
        CrossingRefused: ``invalid`` where the policy left nothing of the merge, ``many_match``, ``unsupported``.
        FhirRefusal: they cannot be merged.
    """
    merge = merge_of(crossing.kind, bundle)
    if merge is None:
        if crossing.kind == MERGE:  # applied in silence, two records of one person would stay two
            raise CrossingRefused("invalid", "the merge does not say which record is retired: Patient.link")
        return
    reach = Reach.of_hospital(origin.hospital)
    retired: set[str] = set()
    for system, value in merge.retired:
        named = await patients_named(session, system, value, reach)
        if len(named) > 1:
            raise CrossingRefused("many_match", "the retired record")
        retired |= set(named)
    survivors = await _survivors(session, merge.survivor, reach, retired)
    for one in sorted(retired):
        if len(survivors) != 1:
            raise CrossingRefused("many_match" if survivors else "unsupported", "the surviving record")
        (survivor,) = survivors
        present = await survivor_of(session, one)
        if survivor == one or present not in (one, survivor):
            raise CrossingRefused("unsupported", "they are merged the other way round, or elsewhere")
        await merge_patient(session, survivor=survivor, merged=one, actor=origin.actor, at_ms=at_ms)


async def _whose(session: AsyncSession, crossing: Crossing, origin: From) -> str | None:
    """The one stored patient of this hospital whom all known identifiers name; None when they name none or
    several, or when the object calls its patient by another name and birth date."""
    found = await _survivors(session, crossing.patient, Reach.of_hospital(origin.hospital), set())
    if len(found) != 1:
        return None
    (patient,) = found
    about = dict(crossing.about)
    said = {
        "birthDate": about.get("birth_date", ""),
        "name": [{"text": name} for name in about.get("patient_name", "").split("=") if name],
    }
    return None if await is_stranger(session, patient, said) else patient


async def _survivors(
    session: AsyncSession, identifiers: Iterable[tuple[str, str]], reach: Reach, but: set[str]
) -> set[str]:
    """Whom the identifiers name, merges followed."""
    ids = {one for system, value in identifiers for one in await patients_named(session, system, value, reach)}
    return {await survivor_of(session, one) for one in ids - but}


async def _operation(session: AsyncSession, crossing: Crossing, origin: From, at_ms: int) -> None:
    try:
        told = msgpack.unpackb(crossing.body)
        body = {
            "gateway": origin.gateway, "action": ACTIONS[told["action"]], "direction": DIRECTIONS[told["direction"]],
            "stream": str(told["stream"])[:64], "sequence": int(told["sequence"]),
            "reason": OPERATOR_REASONS[OPERATOR_REASONS.index(told["reason"])],
        }  # fmt: skip
    except Exception:  # the decoder documents no closed list of what it raises on hostile bytes
        raise CrossingRefused("malformed", "operator") from None
    await audit.append(session, [audit.Entry(kind="lock_operator", at_ms=at_ms, actor=origin.actor, body=body)])


def _places(refusal: FhirRefusal) -> str:
    places = ", ".join(place.expression for place in getattr(refusal, "places", ())[:5])
    return " ".join(part for part in (getattr(refusal, "detail", ""), places) if part)[:300]
