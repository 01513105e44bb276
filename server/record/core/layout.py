"""How a resource is kept as text, and how it is sent.

Kept: canonical JSON with ``meta`` in front, without the two parts of ``meta``
that are the server's (R4 section 2.6.4.1: a client's are ignored). Two
writes of the same content are then the same text, and version and time go in by
putting strings together: sending never parses what was checked when it came.

A decimal is kept as it was written (R4 section 2.24.0.1: 7.40 says more than 7.4):
`parse_json` reads one that Python would write otherwise as a `Decimal`-like
`Exact`, and `text_of` puts its own spelling back.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from server.storage.chain import canonical_json

SERVER_META = ("versionId", "lastUpdated")
_HEAD = '{"meta":{'


class Exact(float):
    """A decimal that remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> "Exact":
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __str__(self) -> str:
        """What the FHIR models read it by."""
        return self.text


def parse_json(text: str | bytes) -> Any:
    """JSON with its decimals as they were written.

    Raises:
        ValueError: no JSON.
        RecursionError: nested too deeply.
    """
    return json.loads(text, parse_float=_decimal)


def _decimal(text: str) -> float:
    plain = float(text)
    return plain if repr(plain) == text or math.isinf(plain) else Exact(text)


_MARK = "\ue000decimal:"
"""In front of a decimal on its way through the writer; nobody's own text, because that is looked for first."""
_MARKED = re.compile(f'"{_MARK}([^"]*)"')


def text_of(value: Any) -> str:
    """Canonical JSON with decimals as they were written.

    Raises:
        ValueError: a number that JSON does not have, or a text with our own mark in it.
    """
    marked = _marked(value)
    text = canonical_json(value if marked is None else marked)
    return text if marked is None else _MARKED.sub(r"\1", text)


def _marked(value: Any) -> Any:
    """A copy with every `Exact` as a marked text; None where there is none, which is nearly always."""
    if isinstance(value, Exact):
        return f"{_MARK}{value.text}"
    if isinstance(value, dict):
        changed = {name: found for name, item in value.items() if (found := _marked(item)) is not None}
        return {**value, **changed} if changed else None
    if isinstance(value, list):
        found = [_marked(item) for item in value]
        return (
            [item if one is None else one for item, one in zip(value, found, strict=True)]
            if any(one is not None for one in found)
            else None
        )
    if isinstance(value, str) and _MARK in value:
        raise ValueError("a text with a private mark")
    return None


def kept_text(resource: Mapping[str, Any]) -> str:
    """Text to keep.

    Raises:
        ValueError: a number that JSON does not have.
    """
    meta = {name: value for name, value in (resource.get("meta") or {}).items() if name not in SERVER_META}
    rest = {name: value for name, value in resource.items() if name != "meta"}
    return f'{{"meta":{text_of(meta)},{text_of(rest)[1:]}'


def sent_text(kept: str, version: int, written_at_ms: int) -> str:
    """The resource with its version and time."""
    assert kept.startswith(_HEAD), "only what `kept_text` made is stored"
    body = kept[len(_HEAD) :]
    comma = "" if body.startswith("}") else ","
    return f'{_HEAD}"lastUpdated":"{instant(written_at_ms)}","versionId":"{version}"{comma}{body}'


def instant(at_ms: int) -> str:
    """FHIR instant in UTC."""
    moment = datetime.fromtimestamp(at_ms // 1_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1_000:03d}Z"


def etag(version: int) -> str:
    """Weak entity tag of a version (R4 section 3.1.0.1.3)."""
    return f'W/"{version}"'
