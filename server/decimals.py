"""JSON with decimals as they were written (R4 section 2.24.0.1: 7.40 says more than 7.4).

`parse_json` reads one that Python would write otherwise as an `Exact`, `text_of` puts its own spelling back. For
whatever carries clinical numbers: the record, the lock and the gateway inside the hospital.
"""

import json
import math
import re
from typing import Any

from server.storage.chain import canonical_json


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

    def __deepcopy__(self, memo: dict[int, Any]) -> "Exact":
        """Itself: nothing of it changes."""
        return self

    def __copy__(self) -> "Exact":
        return self


def parse_json(text: str | bytes | bytearray) -> Any:
    """JSON with its decimals as they were written.

    Raises:
        ValueError: no JSON.
        RecursionError: nested too deeply.
    """
    return json.loads(text, parse_float=decimal_of)


def decimal_of(text: str) -> float:
    """A JSON number with a point or an exponent."""
    plain = float(text)
    return plain if repr(plain) == text or math.isinf(plain) else Exact(text)


_MARK = "\ue000decimal:"
"""In front of a decimal on its way through the writer; nobody's own text, because that is looked for first."""
_MARKED = re.compile(f'"{_MARK}([^"]*)"')


def text_of(value: Any) -> str:
    """Canonical JSON with decimals as they were written.

    Raises:
        ValueError: a number that JSON does not have, or a text or name with our own mark in it.
        RecursionError: nested too deeply.
    """
    text = canonical_json(value)
    if _MARK in text:
        raise ValueError("a text with a private mark")
    return _MARKED.sub(r"\1", canonical_json(_marked(value))) if _has_exact(value) else text


def _has_exact(value: Any) -> bool:
    """Seldom; every answer through the lock is asked, so without a call for each of its parts."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, Exact):
            return True
    return False


def _marked(value: Any) -> Any:
    """A copy with every `Exact` as a marked text."""
    if isinstance(value, Exact):
        return f"{_MARK}{value.text}"
    if isinstance(value, dict):
        return {name: _marked(item) for name, item in value.items()}
    return [_marked(item) for item in value] if isinstance(value, list) else value
