"""The hospital's policy: what may cross, in which direction, and who may ask. Default deny.

One TOML file of the hospital, checked whole before it is used; ``consilium gateway check-policy`` says what it
means. An example with every key is in `server/gateway/POLICY.md`. It is decided here and nowhere else,
before anything is written or sent:

* `Policy.outward`: the whitelist of kinds, then the rule per field (`fields.py`);
* `Policy.inward`: the whitelist of what the hub may send in;
* `Policy.question`: who may ask what through the lock, whatever the hub has already checked.

Reasons name kinds, types and elements, never their values (G8).
"""

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from server.decimals import parse_json, text_of
from server.gateway.core.crossing import FHIR_JSON, Crossing, LockRefused, RefusalCode
from server.gateway.core.fields import FieldFilter, FieldRule, FieldsInvalid, check_path
from server.gateway.core.responder import QueryCode, QueryFailed, RecordQuery

Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]
TypeName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z]{1,63}$")]
Path = Annotated[str, StringConstraints(min_length=1, max_length=200)]

FORBIDDEN_PARAMS = frozenset({"patient", "subject", "identifier", "_filter", "_query", "_type", "_format", "_elements"})
"""Of a question: who it is about is said by the consult alone, and what of it may cross by the field rules."""
COUNT = "_count"
FORBIDDEN_PREFIXES = ("_include", "_revinclude", "_has", "_contained", "_list")


class PolicyInvalid(Exception):
    """The file cannot be used; the text is a sentence that names the place."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class OutRule(_Part):
    """Kinds that may leave the hospital."""

    kind: Word
    """Exact, or with ``*`` and ``?``: ``ADT^A0?``."""
    sources: tuple[Word, ...] = ()
    """Adapters it may come from; empty: any."""
    types: tuple[TypeName, ...] = ()
    """Resource types it may carry, of those that have field rules; empty: all of these."""
    media_types: tuple[Word, ...] = (FHIR_JSON,)
    about: tuple[Word, ...] = ()
    """Names of metadata that may cross with a body that is not FHIR. Such a body crosses whole or not at all."""
    identifier_systems: tuple[str, ...] = ()
    """Of the patient's identifiers in the envelope, the systems that may cross; empty: all. Of those in the body
    `Fields.identifier_systems` decides."""


class InRule(_Part):
    """Kinds that the hub may send into the hospital."""

    kind: Word
    media_types: tuple[Word, ...] = (FHIR_JSON,)


class Fields(_Part):
    """`fields.FieldRule` as written in the file."""

    allow: tuple[Path, ...] = ()
    hash: tuple[Path, ...] = ()
    replace: dict[Path, str] = Field(default_factory=dict)
    identifier_systems: tuple[str, ...] = ()

    @field_validator("allow", "hash", "replace")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        for path in value:
            check_path(path)
        return value


class Questions(_Part):
    """Who may ask through the lock. Without this part of the file nobody may."""

    types: tuple[TypeName, ...]
    roles: tuple[Word, ...]
    organisations: tuple[Word, ...]
    """Ids of hospitals as the hub names them; ``*`` for all."""
    purposes: tuple[Word, ...] = ("consult",)
    identifier_systems: tuple[str, ...] = ()
    """Systems of the hospital's own patient identifiers: others are not looked up; empty: all are."""
    params: tuple[Word, ...] = ("_count", "_sort", "_lastUpdated", "code", "category", "date", "status", "type")
    max_bytes: Annotated[int, Field(ge=1_000, le=16 * 1024 * 1024)] = 4 * 1024 * 1024
    max_count: Annotated[int, Field(ge=1, le=1_000)] = 500
    at_once: Annotated[int, Field(ge=1, le=64)] = 8
    per_minute: Annotated[int, Field(ge=1, le=100_000)] = 600

    @field_validator("params")
    @classmethod
    def _params(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if _is_forbidden(name):
                raise ValueError(f"{name} can never be asked: who is asked about is said by the consult")
        return value


class PolicyFile(_Part):
    """The whole file."""

    version: Literal[1]
    out: tuple[OutRule, ...] = ()
    in_: tuple[InRule, ...] = Field(default=(), alias="in")
    fields: dict[TypeName, Fields] = Field(default_factory=dict)
    questions: Questions | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """A crossing as it may cross, and the types that were left out of it."""

    crossing: Crossing
    left_out: tuple[str, ...] = ()


class Policy:
    """A checked file, ready to decide."""

    def __init__(self, file: PolicyFile, secret: bytes, fingerprint: str) -> None:
        self.file, self.fingerprint = file, fingerprint
        rules = {
            kind: FieldRule(
                allow=one.allow, replace=one.replace, hash=one.hash, identifier_systems=one.identifier_systems
            )
            for kind, one in file.fields.items()
        }
        self._filter = FieldFilter(rules, secret)

    def outward(self, source: str, crossing: Crossing) -> Admitted:
        """What of it may leave the hospital.

        Raises:
            LockRefused: ``not_allowed`` or ``malformed``.
        """
        rule = next((one for one in self.file.out if _matches(one, source, crossing)), None)
        if rule is None:
            raise LockRefused(RefusalCode.NOT_ALLOWED, f"the policy names no {crossing.kind} from {source}")
        if crossing.media_type not in rule.media_types:
            raise LockRefused(RefusalCode.NOT_ALLOWED, f"{crossing.kind} may not be {crossing.media_type}")
        patient = tuple(
            pair for pair in crossing.patient if not rule.identifier_systems or pair[0] in rule.identifier_systems
        )
        about = tuple(pair for pair in crossing.about if pair[0] in rule.about)
        body = crossing.body
        left_out: tuple[str, ...] = ()
        if crossing.media_type == FHIR_JSON:
            body, left_out = self._body(crossing.body, frozenset(rule.types) or None)
        return Admitted(crossing=replace(crossing, patient=patient, about=about, body=body), left_out=left_out)

    def still_names(self, source: str, crossing: Crossing) -> bool:
        """Whether what was let out once is of a kind and form that still may leave."""
        rule = next((one for one in self.file.out if _matches(one, source, crossing)), None)
        return rule is not None and crossing.media_type in rule.media_types

    def inward(self, crossing: Crossing) -> None:
        """Whether it may enter the hospital.

        Raises:
            LockRefused: ``not_allowed``.
        """
        for rule in self.file.in_:
            if fnmatchcase(crossing.kind, rule.kind) and crossing.media_type in rule.media_types:
                return
        raise LockRefused(RefusalCode.NOT_ALLOWED, f"the policy lets no {crossing.kind} in")

    def question(self, query: RecordQuery, *, role: str, organisation: str, purpose: str) -> RecordQuery:
        """The question as it may be asked: bounded, and about the hospital's own identifiers only.

        Raises:
            QueryFailed: ``not_allowed``; which part of the policy says so is in the reason, for the hospital's log;
                ``malformed`` for a ``_count`` that is no number.
        """
        asked = self.file.questions
        if asked is None:
            raise QueryFailed(QueryCode.NOT_ALLOWED, "questions")
        if query.type not in asked.types or query.type not in self._filter.types:
            raise QueryFailed(QueryCode.NOT_ALLOWED, "type")
        if role not in asked.roles:
            raise QueryFailed(QueryCode.NOT_ALLOWED, "role")
        if organisation not in asked.organisations and "*" not in asked.organisations:
            raise QueryFailed(QueryCode.NOT_ALLOWED, "organisation")
        if purpose not in asked.purposes:
            raise QueryFailed(QueryCode.NOT_ALLOWED, "purpose")
        for name, _value in query.params:
            if _is_forbidden(name) or name.partition(":")[0] not in asked.params:
                raise QueryFailed(QueryCode.NOT_ALLOWED, "parameter")
        patient = tuple(
            pair for pair in query.patient if not asked.identifier_systems or pair[0] in asked.identifier_systems
        )
        if not patient:
            raise QueryFailed(QueryCode.NOT_ALLOWED, "identifier system")
        return replace(
            query,
            patient=patient,
            params=tuple(pair for pair in query.params if pair[0] != COUNT),
            max_bytes=min(query.max_bytes, asked.max_bytes),
            max_count=min(query.max_count, asked.max_count, *_counts(query)),
        )

    def answer(self, resource: Mapping[str, Any]) -> dict[str, Any] | None:
        """What of one answered resource may cross.

        Raises:
            fields.FieldsInvalid: nested too deeply.
        """
        return self._filter.resource(resource)

    def _body(self, body: bytes, types: frozenset[str] | None) -> tuple[bytes, tuple[str, ...]]:
        try:
            bundle, left_out = self._filter.bundle(parse_json(body), types)
            # Also here: NaN, Infinity and half a surrogate pair can be read as JSON and not be written.
            text = text_of(bundle).encode()
        except (ValueError, RecursionError) as problem:
            if isinstance(problem, FieldsInvalid):
                code = RefusalCode.NOT_ALLOWED if "may cross" in str(problem) else RefusalCode.MALFORMED
                raise LockRefused(code, str(problem)) from None
            raise LockRefused(RefusalCode.MALFORMED, "the body is not JSON") from None
        return text, left_out


def parse_policy(text: str, secret: bytes) -> Policy:
    """A policy from its TOML.

    Raises:
        PolicyInvalid: with the place and what is wrong there.
    """
    try:
        file = PolicyFile.model_validate(_tuples(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as problem:
        raise PolicyInvalid(f"The policy is not TOML: {problem}.") from None
    except ValidationError as problem:
        raise PolicyInvalid(_sentence(problem)) from None
    for place, rule in enumerate(file.out):
        missing = sorted(set(rule.types) - set(file.fields))
        if missing:
            raise PolicyInvalid(f"out[{place}] names {missing[0]}, which has no [fields.{missing[0]}]: add one.")
    asked = set(file.questions.types) - set(file.fields) if file.questions else set()
    if asked:
        raise PolicyInvalid(f"questions.types names {min(asked)}, which has no [fields.{min(asked)}]: add one.")
    return Policy(file, secret, hashlib.sha256(text.encode()).hexdigest()[:16])


def _matches(rule: OutRule, source: str, crossing: Crossing) -> bool:
    return fnmatchcase(crossing.kind, rule.kind) and (not rule.sources or source in rule.sources)


def _counts(query: RecordQuery) -> list[int]:
    """What is asked for by ``_count``: a bound like the others, and as such the responder's to keep."""
    values = [value for name, value in query.params if name == COUNT]
    if not all(value.isascii() and value.isdigit() and 0 < len(value) < 10 and int(value) for value in values):
        raise QueryFailed(QueryCode.MALFORMED, COUNT)
    return [int(value) for value in values]


def _is_forbidden(name: str) -> bool:
    base = name.partition(":")[0]
    return base in FORBIDDEN_PARAMS or base.startswith(FORBIDDEN_PREFIXES) or "." in name


def _tuples(value: Any) -> Any:
    """TOML has arrays, the models tuples; strict models do not turn one into the other."""
    if isinstance(value, list):
        return tuple(_tuples(one) for one in value)
    if isinstance(value, dict):
        return {name: _tuples(one) for name, one in value.items()}
    return value


_SAYS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "extra_forbidden": lambda _error: "is not a key of the policy",
    "missing": lambda _error: "is missing",
}


def _sentence(problem: ValidationError) -> str:
    first = problem.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    says = _SAYS.get(first["type"])
    text = says(first) if says else first["msg"].removeprefix("Value error, ")
    return f"{place}: {text}."
