"""The rule per field: which elements of a FHIR resource may cross, and as what. Default deny.

A rule names element paths of one resource type (``name.family``, ``value[x]``, ``component.code``). A path allows
everything below it; lists are passed through; what no path names is left out, extensions and narrative
too. ``replace`` puts a fixed value, ``hash`` a pseudonym that is the same for the same value under the hospital's
own secret. ``resourceType`` and ``id`` always cross: the hub could not file a resource without.

A resource whose type has no rule does not cross at all; references to it inside the same Bundle go with it. Three ways
around a rule are closed wherever a path allows a whole element: a *contained* resource crosses by the rule of its own
type; the extensions of a primitive (``_birthDate``) go when the primitive is replaced or hashed; and what a
reference to a person says beside its address (``subject.display`` is the patient's name, ``subject.identifier`` her
number) crosses only where the rule of that person's type lets the same out, or a path names it.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

ALWAYS = frozenset({"resourceType", "id"})
CHOICE = "[x]"
PSEUDONYM_CHARS = 20
MAX_DEPTH = 40
PEOPLE = frozenset({"Patient", "RelatedPerson", "Person"})
"""Types whose names and numbers are a person's own, also where a reference repeats them."""
ABOUT_PATIENT = frozenset({"subject", "patient", "for", "beneficiary", "securityContext"})
"""Elements that name the patient when nothing else in them says whom."""
REFERENCE = frozenset({"id", "extension", "reference", "type", "identifier", "display", "_display"})
REQUEST = ("method", "url", "ifMatch", "ifNoneExist")


class FieldsInvalid(ValueError):
    """A body that is no FHIR JSON, or nothing of it may cross; the text names types, never values."""


@dataclass(slots=True)
class _Node:
    """One level of the allowed paths of a type."""

    children: dict[str, "_Node"] = field(default_factory=dict)
    whole: bool = False
    replacement: str | None = None
    hashed: bool = False
    systems: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What of one resource type may cross."""

    allow: tuple[str, ...] = ()
    replace: Mapping[str, str] = field(default_factory=dict)
    hash: tuple[str, ...] = ()
    identifier_systems: tuple[str, ...] = ()
    """Of the resource's identifiers, the systems that may cross; empty: all."""


class FieldFilter:
    """Compiled rules of all types.

    Args:
        secret: of the hospital; makes pseudonyms that nobody else can make.
    """

    def __init__(self, rules: Mapping[str, FieldRule], secret: bytes) -> None:
        self._roots = {kind: _compile(rule) for kind, rule in rules.items()}
        self._secret = secret

    @property
    def types(self) -> frozenset[str]:
        """Types of which anything may cross."""
        return frozenset(self._roots)

    def resource(self, resource: Mapping[str, Any]) -> dict[str, Any] | None:
        """What may cross of one resource; None when its type may not."""
        return _Pass(self._roots, self._secret, {}).resource(resource, 0)

    def bundle(self, bundle: Any, types: frozenset[str] | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What may cross of a transaction Bundle, and the types that were left out.

        Args:
            types: of those that have a rule, the ones this kind of message may carry; None is all.

        Raises:
            FieldsInvalid: not a Bundle of resources, or nothing is left, or a person is found by what may not cross.
        """
        pairs = _entries_of(bundle)
        named = {name: str(one.get("resourceType")) for entry, one in pairs for name in _names_of(entry, one)}
        roots = self._roots if types is None else {kind: one for kind, one in self._roots.items() if kind in types}
        passing = _Pass(roots, self._secret, named)
        kept, left_out, gone = [], set(), set()
        for entry, resource in pairs:
            kind = str(resource.get("resourceType"))
            filtered = passing.resource(resource, 0)
            if filtered is None:
                left_out.add(kind[:64])
                gone.update(_names_of(entry, resource))
            else:
                kept.append({**passing.frame_of(entry, kind), "resource": filtered})
        if not kept:
            raise FieldsInvalid(f"nothing of it may cross: {', '.join(sorted(left_out)) or 'empty'}")
        if gone:
            for entry in kept:
                _drop_references(entry["resource"], gone, 0)
        return {"resourceType": "Bundle", "type": bundle.get("type"), "entry": kept}, tuple(sorted(left_out))


@dataclass(frozen=True, slots=True)
class _Pass:
    """One body on its way through the rules.

    Args:
        named: types of the resources of the same Bundle, by the names under which others refer to them.
    """

    roots: Mapping[str, _Node]
    secret: bytes
    named: Mapping[str, str]

    def resource(self, resource: Mapping[str, Any], depth: int) -> dict[str, Any] | None:
        """What may cross of a resource; None when its type may not."""
        kind = resource.get("resourceType")
        root = self.roots.get(kind) if isinstance(kind, str) else None
        if root is None:
            return None
        if root.systems and isinstance(resource.get("identifier"), list):
            listed = [one for one in resource["identifier"] if _has_system(one, root.systems)]
            resource = {**resource, "identifier": listed}
        always = {name: resource[name] for name in ("resourceType", "id") if name in resource}
        rest = {name: inner for name, inner in resource.items() if name not in ALWAYS}
        return {**always, **self._object(rest, root, depth, whole=False)}

    def frame_of(self, entry: Mapping[str, Any], kind: str) -> dict[str, Any]:
        """Of an entry itself: its name and what is to be done with it, which the gateway's own mapping made.

        Raises:
            FieldsInvalid: a person would be found by an identifier that may not cross.
        """
        request = entry.get("request")
        frame: dict[str, Any] = {"fullUrl": entry["fullUrl"]} if isinstance(entry.get("fullUrl"), str) else {}
        if isinstance(request, dict):
            frame["request"] = {name: request[name] for name in REQUEST if name in request}
            for name in ("url", "ifNoneExist"):
                if kind in PEOPLE and not self._may_find(str(request.get(name, "")), kind):
                    raise FieldsInvalid(f"no {kind} may cross: it is found by an identifier that may not")
        return frame

    def _may_find(self, text: str, kind: str) -> bool:
        for part in text.rpartition("?")[2].split("&"):
            name, _, value = part.partition("=")
            number = {"system": unquote(value).partition("|")[0]}
            if name.partition(":")[0] == "identifier" and not self._tells_number(kind, number):
                return False
        return True

    def _tells_number(self, kind: str, identifier: Any) -> bool:
        """Whether an identifier of such a person may cross."""
        return self._tells(kind, "identifier") and _has_system(identifier, self.roots[kind].systems)

    def _tells(self, kind: str, element: str) -> bool:
        """Whether the rule of a type lets an element out as it is, or parts of it."""
        node = self.roots[kind].children.get(element) if kind in self.roots else None
        return node is not None and node.replacement is None and not node.hashed

    def _object(self, value: Mapping[str, Any], node: _Node, depth: int, *, whole: bool) -> dict[str, Any]:
        """``whole``: a path above allows everything that no longer path says otherwise of."""
        if depth > MAX_DEPTH:
            raise FieldsInvalid("nested too deeply")
        kept: dict[str, Any] = {}
        for name, inner in value.items():
            child = _child(node, name)
            if child is None:
                if not whole or _is_changed(_child(node, name.removeprefix("_"))):
                    continue
                result = self._whole(inner, depth + 1, name)
            else:
                result = self._value(inner, child, depth, name, whole=whole or child.whole)
            if result is not None and result != {} and result != []:
                kept[name] = result
        return kept

    def _value(self, value: Any, node: _Node, depth: int, name: str, *, whole: bool) -> Any:
        if isinstance(value, list):
            if depth > MAX_DEPTH:
                raise FieldsInvalid("nested too deeply")
            found = (self._value(item, node, depth + 1, name, whole=whole) for item in value)
            return [one for one in found if one is not None and one != {} and one != []]
        if node.replacement is not None:
            return node.replacement
        if node.hashed:
            return self._pseudonym(value)
        if isinstance(value, dict) and "resourceType" in value:
            return self.resource(value, depth + 1) if whole or node.children else None
        if isinstance(value, dict) and node.children:
            told = value if not whole else self._told(value, name, node)
            return self._object(told, node, depth + 1, whole=whole)
        return self._whole(value, depth, name) if whole else None

    def _whole(self, value: Any, depth: int, name: str) -> Any:
        """Something that may cross as it is, but for the resources and references within."""
        if not isinstance(value, (dict, list)):
            return value
        if depth > MAX_DEPTH:
            raise FieldsInvalid("nested too deeply")
        if isinstance(value, list):
            kept: list[Any] = []
            for one in value:
                result = self._whole(one, depth + 1, name) if isinstance(one, (dict, list)) else one
                # A null stays: in ``given`` and ``_given`` it keeps the places of two lists together.
                if result is not None or one is None:
                    kept.append(result)
            return kept
        if "resourceType" in value:
            return self.resource(value, depth + 1)
        if "display" in value or "identifier" in value:
            value = self._told(value, name, None)
        told: dict[str, Any] = {}
        for inner, one in value.items():
            if isinstance(one, (dict, list)):
                one = self._whole(one, depth + 1, inner)
            if one is not None:
                told[inner] = one
        return told

    def _told(self, value: Mapping[str, Any], name: str, node: _Node | None) -> Mapping[str, Any]:
        """A reference to a person without what that person's type does not let out; anything else as it is."""
        kind = self._person(value, name)
        if kind is None:
            return value
        named = node.children if node is not None else {}
        gone = set()
        if "display" not in named and not self._tells(kind, "name"):
            gone |= {"display", "_display"}
        if "identifier" not in named and not self._tells_number(kind, value.get("identifier")):
            gone.add("identifier")
        return {inner: one for inner, one in value.items() if inner not in gone}

    def _person(self, value: Mapping[str, Any], name: str) -> str | None:
        """Which kind of person a reference names; None when it is no reference to one."""
        if "display" not in value and "identifier" not in value:
            return None  # it tells nothing, whomever it names
        reference, kind = value.get("reference"), value.get("type")
        if not isinstance(reference, str) and not value.keys() <= REFERENCE:
            return None
        if isinstance(reference, str):
            parts = reference.partition("?")[0].partition("/_history/")[0].split("/")
            kind = self.named.get(reference) or (parts[-2] if len(parts) > 1 else kind)
        if kind in PEOPLE:
            return str(kind)
        is_known = isinstance(kind, str) and kind.isalpha()
        return "Patient" if not is_known and name in ABOUT_PATIENT else None

    def _pseudonym(self, value: Any) -> str | None:
        if not isinstance(value, (str, int, float)):
            return None  # a whole element has no pseudonym
        digest = hmac.new(self.secret, str(value).encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
        return base64.b32encode(digest).decode().lower()[:PSEUDONYM_CHARS]


def check_path(path: str) -> None:
    """Whether it can be an element path.

    Raises:
        ValueError: with a sentence.
    """
    parts = path.split(".")
    if not all(part.removesuffix(CHOICE).removeprefix("_").isalnum() and part.isascii() for part in parts):
        raise ValueError(f"{path!r} is not an element path such as name.family or value[x]")


def _compile(rule: FieldRule) -> _Node:
    root = _Node(systems=frozenset(rule.identifier_systems))
    for path in rule.allow:
        _node(root, path).whole = True
    for path, value in rule.replace.items():
        _node(root, path).replacement = value
    for path in rule.hash:
        _node(root, path).hashed = True
    return root


def _node(root: _Node, path: str) -> _Node:
    for part in path.split("."):
        root = root.children.setdefault(part, _Node())
    return root


def _child(node: _Node, name: str) -> _Node | None:
    found = node.children.get(name)
    if found is not None:
        return found
    for path, child in node.children.items():
        if path.endswith(CHOICE):
            stem = path.removesuffix(CHOICE)
            if name.startswith(stem) and name[len(stem) : len(stem) + 1].isupper():
                return child
    return None


def _has_system(identifier: Any, systems: frozenset[str]) -> bool:
    return not systems or (isinstance(identifier, dict) and identifier.get("system") in systems)


def _is_changed(node: _Node | None) -> bool:
    return node is not None and (node.hashed or node.replacement is not None)


def _entries_of(bundle: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each entry of a Bundle with its resource."""
    entries = bundle.get("entry") if isinstance(bundle, dict) else None
    if not isinstance(entries, list) or bundle.get("resourceType") != "Bundle":
        raise FieldsInvalid("the body is not a Bundle")
    pairs = []
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            raise FieldsInvalid("an entry has no resource")
        pairs.append((entry, resource))
    return pairs


def _names_of(entry: Mapping[str, Any], resource: Mapping[str, Any]) -> set[str]:
    names = {f"{resource.get('resourceType')}/{resource['id']}"} if "id" in resource else set()
    return names | ({entry["fullUrl"]} if isinstance(entry.get("fullUrl"), str) else set())


def _drop_references(value: Any, gone: set[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise FieldsInvalid("nested too deeply")
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str) and value["reference"] in gone:
            del value["reference"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            _drop_references(one, gone, depth + 1)
