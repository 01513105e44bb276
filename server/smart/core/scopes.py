"""Scopes: what an access token is good for.

SMART App Launch 2.2 section 3.0.2 (``patient/Observation.rs``), the spelling of
version 1 (``patient/Observation.read``), FHIRcast's (H23:
``fhircast/Patient-open.read``) and those without a resource (``openid``,
``launch/patient``...). A scope that we do not understand is never granted, so a
misspelt one gives less, not more. Scopes narrowed by a query
(``...rs?category=...``) are not understood either: half of a narrowing would be none.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

LEVELS = ("patient", "user", "system")
ACTIONS = "cruds"
"""create, read, update, delete, search: the order in which version 2 demands them."""
PLAIN = frozenset(
    {"openid", "fhirUser", "launch", "launch/patient", "launch/encounter", "online_access", "offline_access"}
)
MAX_CHARS = 4_000

_V1 = {"read": "rs", "write": "cud", "*": ACTIONS}
_RESOURCE = re.compile(r"(patient|user|system)/(\*|[A-Z][A-Za-z]{1,63})\.(read|write|\*|c?r?u?d?s?)")
_FHIRCAST = re.compile(r"fhircast/(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})\.(read|write|\*)")


@dataclass(frozen=True, slots=True)
class ResourceScope:
    """``level/type.actions``; type ``*`` is all."""

    level: str
    type: str
    actions: str

    def __str__(self) -> str:
        return f"{self.level}/{self.type}.{self.actions}"


@dataclass(frozen=True, slots=True)
class FhircastScope:
    """``fhircast/event.action``; ``event`` in lower case, ``*`` is all."""

    event: str
    action: str


@dataclass(frozen=True, slots=True)
class Scopes:
    """A set of scopes, as granted or as asked for."""

    resources: frozenset[ResourceScope] = frozenset()
    fhircast: frozenset[FhircastScope] = frozenset()
    plain: frozenset[str] = frozenset()
    text: str = ""
    """Those that were understood, in the order and spelling they came in."""

    @classmethod
    def parse(cls, text: str) -> "Scopes":
        """Read a space-separated list; what is not understood is left out."""
        resources, fhircast, plain, kept = set(), set(), set(), []
        for word in dict.fromkeys(text[:MAX_CHARS].split(" ")):
            if word in PLAIN:
                plain.add(word)
            elif (found := _RESOURCE.fullmatch(word)) and found[3]:
                resources.add(ResourceScope(found[1], found[2], _V1.get(found[3], found[3])))
            elif found := _FHIRCAST.fullmatch(word):
                fhircast.add(FhircastScope(found[1].lower(), found[2]))
            else:
                continue
            kept.append(word)
        return cls(frozenset(resources), frozenset(fhircast), frozenset(plain), " ".join(kept))

    def allows(self, level: str, type: str, action: str) -> bool:
        """Whether ``action`` (one letter of ``cruds``) on a resource type is covered at this level."""
        assert len(action) == 1, "one action at a time"
        return any(
            scope.level == level and scope.type in ("*", type) and action in scope.actions for scope in self.resources
        )

    def level_for(self, type: str, action: str) -> str | None:
        """The widest level at which the action is covered, None when it is not at all."""
        return next((level for level in reversed(LEVELS) if self.allows(level, type, action)), None)

    def allows_from(self, level: str, type: str, action: str) -> bool:
        """Whether the action is covered at this level or a wider one: what a request that reaches so far may touch."""
        return any(self.allows(one, type, action) for one in LEVELS[LEVELS.index(level) :])

    def allows_event(self, event: str, action: str) -> bool:
        """Whether an event of FHIRcast may be received (``read``) or sent (``write``); names fold case. [H23]"""
        return any(scope.event in ("*", event.lower()) and scope.action in ("*", action) for scope in self.fhircast)

    def has_level(self, level: str) -> bool:
        """Whether anything is covered at this level."""
        return any(scope.level == level for scope in self.resources)

    def within(self, most: "Scopes", *, roles: Iterable[str] = LEVELS) -> "Scopes":
        """What is left of these when no more than ``most``, and only the named levels, may be granted.

        A scope that ``most`` covers in part is granted in that part.
        """
        levels = frozenset(roles)
        words: list[str] = []
        for word in self.text.split():
            one = Scopes.parse(word)
            words.extend(one.plain & most.plain)
            for wanted in one.resources:
                parts = [_both(wanted, limit) for limit in most.resources if wanted.level in levels]
                # In the spelling that it was asked in, where all of it is granted.
                words.extend([word] if str(wanted) in parts else sorted({part for part in parts if part}))
            for event in one.fhircast:
                shared = {part for limit in most.fhircast if (part := _both_events(event, limit))}
                words.extend([word] if f"fhircast/{event.event}.{event.action}" in shared else sorted(shared))
        return Scopes.parse(" ".join(words))


def _both(one: ResourceScope, other: ResourceScope) -> str:
    """The scope that both cover; empty when there is none."""
    if one.level != other.level or (one.type != other.type and "*" not in (one.type, other.type)):
        return ""
    actions = "".join(action for action in ACTIONS if action in one.actions and action in other.actions)
    return f"{one.level}/{other.type if one.type == '*' else one.type}.{actions}" if actions else ""


def _both_events(one: FhircastScope, other: FhircastScope) -> str:
    if "*" not in (one.event, other.event) and one.event != other.event:
        return ""
    if "*" not in (one.action, other.action) and one.action != other.action:
        return ""
    event = other.event if one.event == "*" else one.event
    return f"fhircast/{event}.{other.action if one.action == '*' else one.action}"
