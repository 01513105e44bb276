"""Fields of a JSON object from a client, each checked or refused.

The ORTC readers (``media.core.ortc``, ``media.core.ortc_transport``) take whatever JSON a client
sends; every look into it goes through here, so that the only thing they can raise is `OrtcError`.
"""

from typing import Any, Final

JsonObject = dict[str, Any]

MAX_LIST: Final = 128
"""Codecs or header extensions in one object; Chromium's capabilities have about 60 in all."""


class OrtcError(Exception):
    """A client's parameters cannot be used.

    ``code`` is ``bad_parameters``, the stable word of the control protocol; ``reason`` is for the
    operator and never repeats what the client sent.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.code = "bad_parameters"
        self.reason = reason


def object_of(value: object, where: str) -> JsonObject:
    if not isinstance(value, dict):
        raise OrtcError(f"{where} is not an object")
    return value


def list_of(entry: JsonObject, key: str, *, optional: bool = False) -> list[object]:
    value = entry.get(key)
    if value is None and optional:
        return []
    if not isinstance(value, list | tuple):
        raise OrtcError(f"{key} is not a list")
    if len(value) > MAX_LIST:
        raise OrtcError(f"{key} is too long")
    return list(value)


def text_of(entry: JsonObject, key: str, longest: int) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value or len(value) > longest:
        raise OrtcError(f"{key} is not a text of 1 to {longest} characters")
    return value


def optional_text(entry: JsonObject, key: str, longest: int) -> str | None:
    """None for a missing, null or empty text: clients write all three for "not given"."""
    return None if entry.get(key) in (None, "") else text_of(entry, key, longest)


def integer_of(entry: JsonObject, key: str, least: int, greatest: int) -> int:
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON and msgpack of some clients write 5.0
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= greatest:
        raise OrtcError(f"{key} is not an integer of {least} to {greatest}")
    return value


def optional_integer(entry: JsonObject, key: str, least: int, greatest: int) -> int | None:
    return None if entry.get(key) is None else integer_of(entry, key, least, greatest)
