"""Resources of one message -> one FHIR transaction in which everything refers to one patient.

The hub may know patient and visit already, from other messages or from elsewhere: these two are found by identifier.
An ADT message updates them (conditional update; what it leaves empty stays as the hub has it, `server.lock.core.
standing`); every other message only makes sure that they are there (conditional create), so that the few words of a
PID in a result never overwrite a registration.
Everything else has an id derived from its business key (order number, document number): a repeat or a correction is the
same resource (`Profile.resource_id`).
"""

import base64
import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

from server.gateway.hl7v2.datatypes import Context, Json, only
from server.gateway.hl7v2.signals import NULLED

TEST_TAG: Final = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}
"""Data of no real person (W9)."""


class Transaction:
    """Collects the entries of one bundle.

    Args:
        source: where the message came from, as ``meta.source``.
        test: tag everything as test data.
        sender_category: observation category that the profile gives this sender, or empty.
    """

    def __init__(self, ctx: Context, *, source: str, test: bool, sender_category: str = "") -> None:
        self.ctx, self.sender_category = ctx, sender_category
        self._source, self._test = source, test
        self._entries: dict[str, Json] = {}
        self._used: dict[tuple[str, ...], int] = {}
        self.patient = ""
        self.encounter = ""

    @property
    def subject(self) -> Json:
        """Reference to the patient."""
        return {"reference": self.patient}

    @property
    def visit(self) -> Json | None:
        """Reference to the visit, if the message has one."""
        return {"reference": self.encounter} if self.encounter else None

    def found_by(self, resource: Json, identifier: tuple[str, str], *, whole: bool, nulls: Iterable[str] = ()) -> str:
        """Add a patient or visit that is found by (system, value); its id is the hub's to give.

        Args:
            whole: the message may change what is there.
            nulls: elements that it deletes (`signals.NULLED`).

        Returns:
            The reference for the others of this bundle.
        """
        system, value = identifier
        kind = resource["resourceType"]
        query = f"identifier={quote(token_part(system), safe=':/')}|{quote(token_part(value), safe='')}"
        if whole:
            request = {"method": "PUT", "url": f"{kind}?{query}"}
        else:
            request = {"method": "POST", "url": kind, "ifNoneExist": query}
        urn = self.ctx.profile.urn(kind, system, value)
        marked = self._marked(resource)
        if tags := [{"system": NULLED, "code": element} for element in nulls]:
            marked["meta"]["tag"] = [*marked["meta"].get("tag", []), *tags]
        self._entries[urn] = {"fullUrl": urn, "resource": marked, "request": request}
        return urn

    def put(self, kind: str, resource: Json, *key: str) -> str:
        """Add a resource under the id of its key; the same key twice in one message gets a number.

        Returns:
            Its reference.
        """
        seen = self._used.get((kind, *key), 0)
        self._used[(kind, *key)] = seen + 1
        parts = key if seen == 0 else (*key, str(seen))
        id_ = self.ctx.profile.resource_id(kind, *parts)
        resource = {"resourceType": kind, "id": id_} | resource
        reference = f"{kind}/{id_}"
        self._entries[reference] = {
            "fullUrl": self.ctx.profile.urn(kind, *parts),
            "resource": self._marked(resource),
            "request": {"method": "PUT", "url": reference},
        }
        return reference

    def binary(self, content_type: str, data: bytes, *key: str) -> Json:
        """Add bytes of the patient.

        Returns:
            An Attachment that refers to them.
        """
        resource = {
            "contentType": content_type,
            "securityContext": self.subject,
            "data": base64.b64encode(data).decode(),
        }
        reference = self.put("Binary", resource, *key)
        return only(contentType=content_type, url=reference, size=len(data))

    def bundle(self) -> Json:
        """The transaction."""
        return {"resourceType": "Bundle", "type": "transaction", "entry": list(self._entries.values())}

    def _marked(self, resource: Json) -> Json:
        meta: dict[str, Any] = {"source": self._source}
        if self._test:
            meta["tag"] = [TEST_TAG]
        id_ = {"id": resource["id"]} if "id" in resource else {}
        return {"resourceType": resource["resourceType"], **id_, "meta": meta} | resource


def token_part(text: str) -> str:
    """A part of a search token. Unescaped, a comma in a patient's number would ask for somebody else as well (R4
    section 3.1.1.4.0.2)."""
    return re.sub(r"([\\,|$])", r"\\\1", text)
