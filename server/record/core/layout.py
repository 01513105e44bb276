"""How a resource is kept as text, and how it is sent.

Kept: canonical JSON with ``meta`` in front, without the two parts of ``meta``
that are the server's (R4 section 2.6.4.1: a client's are ignored). Two
writes of the same content are then the same text, and version and time go in by
putting strings together: sending never parses what was checked when it came.

A decimal is kept as it was written (`server.decimals`).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from server.decimals import text_of

SERVER_META = ("versionId", "lastUpdated")
_HEAD = '{"meta":{'


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
