"""What a specialty wants to see before it is called: tables as data (TOML), read and checked once.

A table names *parts*. A part is found in the record by one of its *matches* (FHIR type, codes, categories), or is
a *fact* that the sender writes down because no record has it (time last known well). ``fresh_h`` says how old the
newest evidence may be. A table may build on another one (``extends``); a part with the same key replaces that one's.

Our own tables are in ``server/casepack/tables``; a hospital's own come from a folder in the settings and replace
ours by specialty. Judging a record by a table is `completeness.py`.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from server.record.core.params import TYPES

SECTIONS = (
    "problems", "medication", "allergies", "vitals", "labs", "imaging", "ecg", "documents", "opinions",
)  # fmt: skip
"""Of a pack, in its order, after the request itself."""
MAX_PARTS = 60
_SPECIALTY = re.compile(r"[a-z][a-z0-9-]{0,39}")

Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Words = Annotated[str, Field(min_length=1, max_length=120)]
Code = Annotated[str, Field(pattern=r"^\S{1,200}$")]


class TableInvalid(ValueError):
    """A table cannot be used; the text names file or place."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Match(_Value):
    """Evidence: a resource of ``type`` that has one of ``codes`` and one of ``categories``, where these are named.

    A code is ``system|code``, or the code alone for any system.
    """

    type: str
    codes: Annotated[list[Code], Field(max_length=80)] = []
    categories: Annotated[list[Code], Field(max_length=20)] = []
    statuses: Annotated[list[Code], Field(max_length=10)] = []
    """Only resources in one of these states."""
    body: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=40)] = []
    """Of an ImagingStudy: the part of the body, as codes or as words of its description."""

    @model_validator(mode="after")
    def _known(self) -> "Match":
        if self.type not in TYPES or not TYPES[self.type].patient:
            raise ValueError("type is not one of a patient's record")
        if self.body and self.type != "ImagingStudy":
            raise ValueError("body is told by an ImagingStudy only")
        return self


class Part(_Value):
    """One thing that a specialty wants to see."""

    key: Key
    en: Words
    zh: Words
    section: str = "documents"
    need: Literal["needed", "if_known"] = "needed"
    """``if_known``: its lack is told, and does not make the pack incomplete."""
    fresh_h: Annotated[int, Field(ge=1, le=24 * 3650)] | None = None
    fact: Literal["text", "time"] | None = None
    any_of: Annotated[list[Match], Field(max_length=20)] = []

    @model_validator(mode="after")
    def _whole(self) -> "Part":
        if self.section not in SECTIONS:
            raise ValueError("section")
        if (self.fact is None) == (not self.any_of):
            raise ValueError("a part is a fact, or is found by any_of")
        if self.fact == "text" and self.fresh_h is not None:
            raise ValueError("a text has no age")
        return self


class _Raw(_Value):
    specialty: Key
    en: Words
    zh: Words
    extends: Key | None = None
    part: Annotated[list[Part], Field(max_length=MAX_PARTS)] = []


@dataclass(frozen=True, slots=True)
class Table:
    """The parts of one specialty, in their order."""

    specialty: str
    en: str
    zh: str
    parts: tuple[Part, ...]

    def part(self, key: str) -> Part | None:
        """One part."""
        return next((part for part in self.parts if part.key == key), None)


def read_tables(texts: Mapping[str, str]) -> dict[str, Table]:
    """Tables by specialty.

    Args:
        texts: TOML by name of the file, later ones replacing earlier ones of the same specialty.

    Raises:
        TableInvalid: with the file, and the place in it.
    """
    raws: dict[str, _Raw] = {}
    for name, text in texts.items():
        raw = _read(name, text)
        raws[raw.specialty] = raw
    return {specialty: _resolved(raws, specialty) for specialty in sorted(raws)}


def _read(name: str, text: str) -> _Raw:
    try:
        raw = _Raw.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as problem:
        raise TableInvalid(f"{name}: not TOML: {problem}") from None
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TableInvalid(f"{name}: {place}: {first['msg']}") from None
    if len({part.key for part in raw.part}) != len(raw.part):
        raise TableInvalid(f"{name}: a part stands twice")
    return raw


def _resolved(raws: Mapping[str, _Raw], specialty: str) -> Table:
    chain: list[_Raw] = []
    at: str | None = specialty
    while at is not None:
        if at not in raws:
            raise TableInvalid(f"{chain[-1].specialty}: extends {at}, which there is not")
        if raws[at] in chain:
            raise TableInvalid(f"{specialty}: extends itself")
        chain.append(raws[at])
        at = raws[at].extends
    parts: dict[str, Part] = {}
    for raw in reversed(chain):
        parts |= {part.key: part for part in raw.part}
    if len(parts) > MAX_PARTS:
        raise TableInvalid(f"{specialty}: more than {MAX_PARTS} parts")
    own = chain[0]
    # A specialty's own parts first: they are what it looks at.
    order = [part.key for part in own.part] + [key for key in parts if all(key != part.key for part in own.part)]
    return Table(specialty=own.specialty, en=own.en, zh=own.zh, parts=tuple(parts[key] for key in order))
