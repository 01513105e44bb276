"""A resource of the hospital's own FHIR server -> a transaction that may cross; no I/O.

Ids of the hospital's server mean nothing outside and are not sent: a resource gets an id made of its own
(`Profile.resource_id`), so that its next version is the same resource. The patient is named by identifiers. References
to other resources of the record are renamed alike; what is no part of a record (practitioners, places, devices) stays
as words. Narrative is left out: it is made for the hospital's own screens and may be active.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from server.gateway.adapters.fhir_answers import SEARCHABLE, owners_of
from server.gateway.core.crossing import FHIR_JSON, MAX_PATIENT_IDENTIFIERS, Crossing
from server.gateway.hl7v2.bundle import TEST_TAG, Transaction
from server.gateway.hl7v2.convert import bundle_body
from server.gateway.hl7v2.datatypes import Context, Json, content_of, only
from server.gateway.hl7v2.profile import Profile
from server.gateway.hl7v2.times import instant_us

_LOCAL: Final = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?")
_OWN: Final = frozenset({"id", "meta", "text", "implicitRules", "language"})
_PERSON: Final = _OWN | {"link", "managingOrganization", "generalPractitioner", "contained"}
"""What of a Patient is about the hospital's server and not about the person."""
_VERIFICATION: Final = {
    "Condition": "http://terminology.hl7.org/CodeSystem/condition-ver-status",
    "AllergyIntolerance": "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",
}
"""Types that are withdrawn by their verification, not by a status."""
RETRACTABLE: Final = SEARCHABLE - {"FamilyMemberHistory", "Media", "Specimen"}
"""Types that FHIR R4 lets be entered in error by a status that is a code of that name."""


class NoNews(Exception):
    """A resource that does not cross; the text is a stable word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """A patient of the hospital's server."""

    resource: Json
    pairs: tuple[tuple[str, str], ...]
    """(system, value) that may cross, the one that finds the patient first."""


def person_of(resource: Json, systems: Iterable[str]) -> Person:
    """A patient by the identifiers that the integrator names, in that order.

    Raises:
        NoNews: ``authority_unknown``.
    """
    order = list(systems)
    carried = [one for one in resource.get("identifier") or () if isinstance(one, dict)]
    pairs = [(str(one["system"]), str(one["value"])) for one in carried if one.get("system") and one.get("value")]
    known = sorted((pair for pair in dict.fromkeys(pairs) if pair[0] in order), key=lambda pair: order.index(pair[0]))
    if not known:
        raise NoNews("authority_unknown")
    return Person(resource=resource, pairs=tuple(known[:MAX_PATIENT_IDENTIFIERS]))


def patient_id_of(resource: Any, kind: str, base: str) -> str:
    """Id of the one patient a resource is about.

    Raises:
        NoNews: ``not_this_type``, ``no_patient`` or ``several_patients``.
    """
    if not isinstance(resource, dict) or resource.get("resourceType") != kind:
        raise NoNews("not_this_type")
    if kind == "Patient":
        return str(resource.get("id"))
    found = {_local(owner.get("reference"), base) for owner in owners_of(resource, kind) if isinstance(owner, dict)}
    if len(found) != 1:
        raise NoNews("several_patients" if found else "no_patient")
    one = found.pop()
    if one is None or one[0] != "Patient":
        raise NoNews("no_patient")
    return one[1]


def version_of(resource: Json) -> str:
    """What tells one version from another: the server's word, or else the content."""
    meta = resource.get("meta")
    said = meta.get("versionId") if isinstance(meta, dict) else None
    if isinstance(said, str) and 0 < len(said) <= 64 and said.isprintable():
        return said
    text = json.dumps(resource, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def changed_us(resource: Json) -> int:
    """``meta.lastUpdated``; 0 where it has none."""
    meta = resource.get("meta")
    return instant_us(meta.get("lastUpdated")) if isinstance(meta, dict) else 0


def retracted(resource: Json) -> Json:
    """A resource that the hospital's server deleted, as what was entered in error; it stays in the record, marked.

    Raises:
        NoNews: ``deleted_unsaid``: of a type that has no such state.
    """
    kind = str(resource.get("resourceType"))
    if kind in _VERIFICATION:
        state = {"verificationStatus": {"coding": [{"system": _VERIFICATION[kind], "code": "entered-in-error"}]}}
        return {name: value for name, value in resource.items() if name != "clinicalStatus"} | state
    if kind not in RETRACTABLE:
        raise NoNews("deleted_unsaid")
    return resource | {"status": "entered-in-error"}


def crossing_of(
    resource: Json, person: Person, *, name: str, base: str, profile: Profile, version: str,
    binaries: Mapping[str, bytes],
) -> Crossing:  # fmt: skip
    """One version of one resource as it crosses.

    Args:
        name: of the adapter: the hospital may have several servers.
        version: from `version_of`, or what stands for the deletion.
        binaries: content of its attachments by their addresses, as far as it was fetched.
    """
    kind, id_ = str(resource["resourceType"]), str(resource["id"])
    ctx = Context(profile=profile, zone=profile.tz, seen=Counter())
    test = profile.is_test(person.pairs)
    transaction = Transaction(ctx, source=f"urn:fhir:{name}", test=test)
    known = {name_: value for name_, value in person.resource.items() if name_ not in _PERSON}
    known["identifier"] = _identifiers(person)
    transaction.patient = transaction.found_by(known, person.pairs[0], whole=kind == "Patient")
    if kind != "Patient":
        body = {one: value for one, value in resource.items() if one not in _OWN and one != "resourceType"}
        body = _renamed(body, _Names(name, base, profile, transaction.patient, str(person.resource.get("id"))))
        _attach(body, transaction, binaries, name, id_)
        meta: Json = only(source=f"urn:fhir:{name}", security=_security(resource), tag=[TEST_TAG] if test else None)
        transaction.put(kind, {"meta": meta} | body, "fhir", name, kind, id_)
    return Crossing(
        kind=f"FHIR {kind}",
        key=f"{kind}/{id_}/{version}",
        patient=person.pairs,
        media_type=FHIR_JSON,
        body=bundle_body(transaction.bundle()),
        made_us=changed_us(resource),
    )


def _identifiers(person: Person) -> list[Json]:
    carried = person.resource.get("identifier") or ()
    return [
        {one: value for one, value in found.items() if one != "assigner"}
        for found in carried
        if isinstance(found, dict) and (found.get("system"), found.get("value")) in person.pairs
    ]


def _security(resource: Json) -> list[Any]:
    meta = resource.get("meta")
    labels = meta.get("security") if isinstance(meta, dict) else None
    return labels if isinstance(labels, list) else []


@dataclass(frozen=True, slots=True)
class _Names:
    """How what the hospital's server calls things is called outside."""

    server: str
    base: str
    profile: Profile
    patient: str
    patient_id: str

    def __call__(self, reference: Json) -> Json:
        found = _local(reference.get("reference"), self.base)
        if found is None:
            return reference if str(reference.get("reference", "#")).startswith("#") else _words(reference)
        kind, id_ = found
        if found == ("Patient", self.patient_id):
            return _words(reference) | {"reference": self.patient}
        if kind in SEARCHABLE:
            own = self.profile.resource_id(kind, "fhir", self.server, kind, id_)
            return _words(reference) | {"reference": f"{kind}/{own}"}
        system = self.profile.urn("fhir-server", self.server, kind)
        return {"type": kind, "identifier": {"system": system, "value": id_}} | _words(reference)


def _words(reference: Json) -> Json:
    return {name: value for name, value in reference.items() if name != "reference"} or {"display": "-"}


def _local(text: Any, base: str) -> tuple[str, str] | None:
    if not isinstance(text, str):
        return None
    match = _LOCAL.fullmatch(text.removeprefix(f"{base}/"))
    return None if match is None else (match.group(1), match.group(2))


def _renamed(value: Any, names: _Names) -> Any:
    if isinstance(value, list):
        return [_renamed(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("reference"), str):
        value = names(value)
    return {name: _renamed(one, names) for name, one in value.items() if name != "text" or not _is_narrative(one)}


def _is_narrative(value: Any) -> bool:
    return isinstance(value, dict) and "div" in value


def attachments_in(resource: Json) -> list[Json]:
    """Attachments of a report or document."""
    found = [*(resource.get("presentedForm") or ())]
    found += [one.get("attachment") for one in resource.get("content") or () if isinstance(one, dict)]
    return [one for one in found if isinstance(one, dict)]


def _attach(body: Json, transaction: Transaction, binaries: Mapping[str, bytes], name: str, id_: str) -> None:
    """Content that was fetched goes along; an address that only means something inside does not."""
    for number, one in enumerate(attachments_in(body)):
        url = one.pop("url", None)
        data = binaries.get(url) if isinstance(url, str) else None
        kind = content_of(data) if data else None
        if data and kind is not None:
            one.update(transaction.binary(kind, data, "fhir", name, id_, str(number)))
            one.pop("hash", None)
        elif not one:
            one["title"] = "-"
