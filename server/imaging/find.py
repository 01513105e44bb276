"""Where the bytes of a DICOM instance are: a file that came through the lock, or a Binary of the record.

Only files that the lock filed under exactly this patient are looked at. A
Binary is found by an id made of the instance's UID, since R4 has no link from
an instance to its bytes; it belongs to the patient whose ``securityContext`` it names.
"""

import base64
import binascii
import hashlib
import json
from typing import Any, Final

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from server.record.aio.store import find_one
from server.storage.lock_tables import LockFile

DICOM: Final = "application/dicom"
MAX_BYTES: Final = 512 * 1024 * 1024
_LOOKED_AT: Final = 20_000
"""Files of one patient."""


def binary_id(instance: str) -> str:
    """Id of the Binary that holds an instance."""
    return f"dicom-{hashlib.sha256(instance.encode()).hexdigest()[:40]}"


def lists_instance(study: dict[str, Any], instance: str) -> bool:
    """Whether an ImagingStudy names this instance."""
    return any(one.get("uid") == instance for series in study.get("series", []) for one in series.get("instance", []))


def dicom_instance(document: dict[str, Any]) -> str | None:
    """UID of the DICOM object that a DocumentReference names as its content; None when it names none."""
    for content in document.get("content", []):
        attachment = content.get("attachment", {})
        url = str(attachment.get("url", ""))
        if attachment.get("contentType") == DICOM and url.startswith("urn:oid:"):
            return url.removeprefix("urn:oid:")[:64]
    return None


async def stored_digest(session: AsyncSession, patient: str, instance: str) -> str | None:
    """SHA-256 under which the lock keeps the newest file of an instance; None when none came."""
    written_before = and_(LockFile.sealed_with == "", LockFile.about.contains(instance))
    query = (
        select(LockFile.sha256, LockFile.instance, LockFile.sealed_with, LockFile.about, LockFile.size_bytes)
        .where(LockFile.patient_id == patient, LockFile.media_type == DICOM)
        .where(or_(LockFile.instance == instance, written_before))
        .order_by(LockFile.at_ms.desc())
        .limit(_LOOKED_AT)
    )
    for sha256, named, sealed_with, about, size in await session.execute(query):
        of = named if sealed_with else dict(json.loads(about)).get("instance")
        if of == instance and size <= MAX_BYTES:
            return str(sha256)
    return None


async def binary_bytes(session: AsyncSession, patient: str, instance: str) -> bytes | None:
    """The instance out of the record's own Binary; None when there is none."""
    found = await find_one(session, patient, "Binary", binary_id(instance))
    if found is None or found.get("contentType") != DICOM:
        return None
    try:
        return base64.b64decode(found.get("data", ""), validate=True)
    except binascii.Error:
        return None
