"""What a transaction or batch asks for, in the order it is carried out; pure.

A Bundle becomes a list of `Step`s: method, type, id or condition, and the
resource. References between its entries (``urn:uuid:...``, or the address an
entry was exported from) are replaced once every entry has its id
(`rewritten`). Order: R4 section 3.1.0.11.2.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from server.record.core.outcome import FhirCode, FhirRefusal, Place
from server.record.core.params import TYPES
from server.record.core.resource import is_id

MAX_ENTRIES = 2_000
_ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "GET": 3}
_ETAG = re.compile(r'(?:W/)?"(\d{1,9})"', re.ASCII)
_RESOURCE_URL = re.compile(r"(?:.*/)?([A-Z][A-Za-z]{1,63})/([A-Za-z0-9.-]{1,64})", re.ASCII)

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One interaction.

    Args:
        place: number of the entry.
        id: of an update, read or deletion; None where the server chooses or a condition does.
        condition: finds the resource to change, to read, or (with POST) that must not be there yet.
        if_match: the version that the writer has seen.
        if_none_match: of a read: tags of versions that need not be sent again.
        full_url: what other entries call it.
    """

    place: int
    method: str
    type: str
    id: str | None = None
    condition: Pairs | None = None
    if_match: int | None = None
    if_none_match: tuple[str, ...] = ()
    full_url: str = ""
    resource: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a Bundle asks for.

    Args:
        transaction: all or nothing; else each entry for itself.
        steps: in the order they are carried out.
        refused: entries that cannot be, by their number; only of a batch.
    """

    transaction: bool
    steps: list[Step]
    refused: dict[int, FhirRefusal]


def plan(bundle: Any) -> Plan:
    """Read a Bundle.

    Raises:
        FhirRefusal: with the entry it is about; nothing else, whatever the Bundle holds.
    """
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise FhirRefusal(FhirCode.BUNDLE, "the body is no Bundle")
    if bundle.get("type") not in ("transaction", "batch"):
        raise FhirRefusal(FhirCode.BUNDLE, "a transaction or a batch", [Place("Bundle.type")])
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise FhirRefusal(FhirCode.BUNDLE, "", [Place("Bundle.entry")])
    if len(entries) > MAX_ENTRIES:
        raise FhirRefusal(FhirCode.TOO_MANY, f"at most {MAX_ENTRIES} entries")
    transaction, steps, refused = bundle["type"] == "transaction", [], {}
    for place, entry in enumerate(entries):
        try:
            steps.append(step_of(place, entry))
        except FhirRefusal as refusal:
            refused[place] = refusal.within(f"Bundle.entry[{place}]")
            if transaction:
                raise refused[place] from None
    _refuse_twins(steps)
    return Plan(transaction, sorted(steps, key=lambda step: (_ORDER[step.method], step.place)), refused)


def _refuse_twins(steps: Sequence[Step]) -> None:
    seen: set[str] = set()
    for step in steps:
        for name in {step.full_url, f"{step.type}/{step.id}" if step.id and step.method != "GET" else ""} - {""}:
            if name in seen:
                raise FhirRefusal(
                    FhirCode.BUNDLE, "two entries are one resource", [Place(f"Bundle.entry[{step.place}]")]
                )
            seen.add(name)


def step_of(place: int, entry: Any) -> Step:
    """One entry.

    Raises:
        FhirRefusal: it cannot be carried out.
    """
    request = entry.get("request") if isinstance(entry, dict) else None
    if not isinstance(request, dict):
        raise FhirRefusal(FhirCode.BUNDLE, "the entry has no request")
    method, url = request.get("method"), request.get("url")
    if method not in _ORDER or not isinstance(url, str):
        raise FhirRefusal(FhirCode.UNSUPPORTED, "GET, POST, PUT or DELETE", [Place("request.method")])
    kind, id_, asked = _address(url)
    condition = None if asked is None else _search_of(asked) if method == "GET" else read_condition(asked)
    if_none_exist = request.get("ifNoneExist")
    if method == "POST":
        if id_ is not None or condition is not None:
            raise FhirRefusal(FhirCode.BUNDLE, "a creation is sent to its type", [Place("request.url")])
        if not isinstance(if_none_exist, str | None):
            raise FhirRefusal(FhirCode.BUNDLE, "", [Place("request.ifNoneExist")])
        condition = None if if_none_exist is None else read_condition(if_none_exist)
    elif method != "GET" and id_ is None and condition is None:
        raise FhirRefusal(FhirCode.BUNDLE, "which resource", [Place("request.url")])
    if_none_match = request.get("ifNoneMatch")
    if if_none_match is not None and (method != "GET" or not isinstance(if_none_match, str)):
        raise FhirRefusal(FhirCode.UNSUPPORTED, "ifNoneMatch is for reading", [Place("request.ifNoneMatch")])
    resource = entry.get("resource")
    if method in ("POST", "PUT"):
        _check_resource(resource, kind, id_)
    full_url = entry.get("fullUrl")
    return Step(
        place=place,
        method=method,
        type=kind,
        id=id_,
        condition=condition,
        if_match=read_etag(request.get("ifMatch")),
        if_none_match=() if if_none_match is None else tuple(one.strip() for one in if_none_match.split(",")),
        full_url=full_url if isinstance(full_url, str) else "",
        resource=resource if method in ("POST", "PUT") else None,
    )


def _check_resource(resource: Any, kind: str, id_: str | None) -> None:
    if not isinstance(resource, dict) or resource.get("resourceType") != kind:
        raise FhirRefusal(FhirCode.BUNDLE, "the resource is not of the type of its address", [Place("resource")])
    if id_ is not None and resource.get("id") != id_:
        raise FhirRefusal(FhirCode.WRONG_ID, "", [Place("resource.id")])


def _address(url: str) -> tuple[str, str | None, str | None]:
    try:
        parts = urlsplit(url.removeprefix("/"))
    except ValueError:
        raise FhirRefusal(FhirCode.BUNDLE, "not an address", [Place("request.url")]) from None
    pieces = [unquote(piece) for piece in parts.path.split("/") if piece]
    if parts.scheme or parts.netloc or not 1 <= len(pieces) <= 2:
        raise FhirRefusal(FhirCode.BUNDLE, "the address is Type, Type/id or Type?condition", [Place("request.url")])
    if pieces[0] not in TYPES:
        raise FhirRefusal(FhirCode.UNKNOWN_TYPE, "", [Place("request.url")])
    if len(pieces) == 2 and not is_id(pieces[1]):
        raise FhirRefusal(FhirCode.BUNDLE, "not an id", [Place("request.url")])
    if parts.query and len(pieces) == 2:
        raise FhirRefusal(FhirCode.BUNDLE, "an id and a condition", [Place("request.url")])
    return pieces[0], pieces[1] if len(pieces) == 2 else None, parts.query or None


def _search_of(text: str) -> Pairs:
    try:
        return tuple(parse_qsl(text, keep_blank_values=True, max_num_fields=50))
    except ValueError:
        raise FhirRefusal(FhirCode.QUERY, "", [Place("request.url")]) from None


def read_condition(text: str) -> Pairs:
    """Query of a condition.

    Raises:
        FhirRefusal: it names nothing, or has an empty parameter: leaving that out would make it fit others.
    """
    try:
        pairs = tuple(parse_qsl(text.lstrip("?"), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        pairs = ()
    if not pairs or not all(name and value for name, value in pairs):
        raise FhirRefusal(FhirCode.QUERY, "a condition names what it is about")
    return pairs


def read_etag(value: Any) -> int | None:
    """Version of ``W/"3"``; None where there is none.

    Raises:
        FhirRefusal: it is no version of ours, so it cannot be the present one.
    """
    if value is None:
        return None
    found = _ETAG.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise FhirRefusal(FhirCode.STALE, "not a version of ours")
    return int(found[1])


# ------------------------------------------------------------------ references


def names_of(step: Step) -> Iterator[str]:
    """What other entries may call a step's resource."""
    if step.full_url:
        yield step.full_url
        found = _RESOURCE_URL.fullmatch(step.full_url)
        if found and found[1] == step.type:
            yield f"{found[1]}/{found[2]}"


def references_in(value: Any) -> Iterator[str]:
    """Every reference of a resource, as it stands."""
    if isinstance(value, dict):
        reference = value.get("reference")
        if isinstance(reference, str):
            yield reference
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            if isinstance(item, (dict, list)):
                yield from references_in(item)


def rewritten(value: Any, names: Mapping[str, str]) -> Any:
    """A copy with references replaced by what ``names`` says; also the addresses of attachments."""
    if isinstance(value, list):
        return [rewritten(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: names.get(item, item)
        if name in ("reference", "url") and isinstance(item, str)
        else rewritten(item, names)
        for name, item in value.items()
    }


def conditional(reference: str) -> tuple[str, Pairs] | None:
    """``(type, condition)`` of a conditional reference (``Practitioner?identifier=...``); None for any other.

    Raises:
        FhirRefusal: it names nothing.
    """
    kind, mark, text = reference.partition("?")
    if not mark or kind not in TYPES:
        return None
    return kind, read_condition(text)


def unresolved(reference: str) -> bool:
    """Whether a reference only means something inside its Bundle."""
    return reference.startswith(("urn:uuid:", "urn:oid:"))
