"""The rule per field: which elements of a FHIR resource may cross, and as what. Default deny.

A rule names element paths of one resource type (``name.family``, ``value[x]``, ``component.code``). A path allows
everything below it; lists are passed through; what no path names is left out, extensions and narrative
too. ``replace`` puts a fixed value, ``hash`` a pseudonym that is the same for the same value under the hospital's
own secret. ``resourceType`` and ``id`` always cross: the hub could not file a resource without.

A resource whose type has no rule does not cross at all; references to it inside the same Bundle go with it.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ALWAYS = frozenset({"resourceType", "id"})
CHOICE = "[x]"
PSEUDONYM_CHARS = 20
MAX_DEPTH = 40


class FieldsInvalid(ValueError):
    """A body that is no FHIR JSON, or nothing of it may cross; the text names types, never values."""


@dataclass(slots=True)
class _Node:
    """One level of the allowed paths of a type."""

    children: dict[str, "_Node"] = field(default_factory=dict)
    whole: bool = False
    replacement: str | None = None
    hashed: bool = False


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What of one resource type may cross."""

    allow: tuple[str, ...] = ()
    replace: Mapping[str, str] = field(default_factory=dict)
    hash: tuple[str, ...] = ()


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
        kind = resource.get("resourceType")
        root = self._roots.get(kind) if isinstance(kind, str) else None
        if root is None:
            return None
        kept = self._object(resource, root, 0, whole=False)
        return {**{name: resource[name] for name in ("resourceType", "id") if name in resource}, **kept}

    def bundle(self, bundle: Any, types: frozenset[str] | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What may cross of a transaction Bundle, and the types that were left out.

        Args:
            types: of those that have a rule, the ones this kind of message may carry; None is all.

        Raises:
            FieldsInvalid: not a Bundle of resources, or nothing is left.
        """
        entries = bundle.get("entry") if isinstance(bundle, dict) else None
        if not isinstance(entries, list) or bundle.get("resourceType") != "Bundle":
            raise FieldsInvalid("the body is not a Bundle")
        kept, left_out, gone = [], set(), set()
        for entry in entries:
            resource = entry.get("resource") if isinstance(entry, dict) else None
            if not isinstance(resource, dict):
                raise FieldsInvalid("an entry has no resource")
            kind = str(resource.get("resourceType"))
            filtered = self.resource(resource) if types is None or kind in types else None
            if filtered is None:
                left_out.add(kind[:64])
                gone.update(_names_of(entry, resource))
            else:
                kept.append({**_frame_of(entry), "resource": filtered})
        if not kept:
            raise FieldsInvalid(f"nothing of it may cross: {', '.join(sorted(left_out)) or 'empty'}")
        if gone:
            for entry in kept:
                _drop_references(entry["resource"], gone, 0)
        return {"resourceType": "Bundle", "type": bundle.get("type"), "entry": kept}, tuple(sorted(left_out))

    def _object(self, value: Mapping[str, Any], node: _Node, depth: int, *, whole: bool) -> dict[str, Any]:
        """``whole``: a path above allows everything that no longer path says otherwise of."""
        if depth > MAX_DEPTH:
            raise FieldsInvalid("nested too deeply")
        kept: dict[str, Any] = {}
        for name, inner in value.items():
            child = _child(node, name)
            if name in ALWAYS and depth == 0:
                continue
            if child is None:
                if whole:
                    kept[name] = inner
                continue
            result = self._value(inner, child, depth, whole=whole or child.whole)
            if result is not None and result != {} and result != []:
                kept[name] = result
        return kept

    def _value(self, value: Any, node: _Node, depth: int, *, whole: bool) -> Any:
        if isinstance(value, list):
            if depth > MAX_DEPTH:
                raise FieldsInvalid("nested too deeply")
            found = (self._value(item, node, depth + 1, whole=whole) for item in value)
            return [one for one in found if one is not None and one != {} and one != []]
        if node.replacement is not None:
            return node.replacement
        if node.hashed:
            return self._pseudonym(value)
        if isinstance(value, dict) and node.children:
            return self._object(value, node, depth + 1, whole=whole)
        return value if whole else None

    def _pseudonym(self, value: Any) -> str | None:
        if not isinstance(value, (str, int, float)):
            return None  # a whole element has no pseudonym
        digest = hmac.new(self._secret, str(value).encode(), hashlib.sha256).digest()
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
    root = _Node()
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


def _frame_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Of an entry itself: its name and what is to be done with it, which the gateway's own mapping made."""
    request = entry.get("request")
    frame: dict[str, Any] = {"fullUrl": entry["fullUrl"]} if isinstance(entry.get("fullUrl"), str) else {}
    if isinstance(request, dict):
        frame["request"] = {
            name: request[name] for name in ("method", "url", "ifMatch", "ifNoneExist") if name in request
        }
    return frame


def _names_of(entry: Mapping[str, Any], resource: Mapping[str, Any]) -> set[str]:
    names = {f"{resource.get('resourceType')}/{resource['id']}"} if "id" in resource else set()
    return names | ({entry["fullUrl"]} if isinstance(entry.get("fullUrl"), str) else set())


def _drop_references(value: Any, gone: set[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise FieldsInvalid("nested too deeply")
    if isinstance(value, dict):
        if value.get("reference") in gone:
            del value["reference"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            _drop_references(one, gone, depth + 1)
