"""The text of SDP, taken apart and put together (RFC 8866), for anything a stranger may send.

Only the shape is read here: session lines, then sections that each begin with ``m=``, and in both
the ``a=`` attributes in their order. What they mean for a publisher is ``media.core.whip``. Every
length is bounded, every line is printable, and the only error is `SdpError`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_CHARS: Final = 32_768
"""A browser's offer of two sections is about 8 kB."""
MAX_LINES: Final = 1_024
MAX_LINE_CHARS: Final = 2_048
MAX_SECTIONS: Final = 16
MAX_FORMATS: Final = 64

_TOKEN: Final = frozenset("!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz{|}~")
_ICE: Final = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/")

Attribute = tuple[str, str]
"""Name and value; the value of a flag is empty."""


class SdpError(Exception):
    """The description cannot be used.

    ``code`` is stable: ``bad_sdp`` for what breaks the format, ``unsupported`` for what is well formed
    and not done here. ``reason`` never repeats what was sent.
    """

    def __init__(self, reason: str, code: str = "bad_sdp") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Attributes:
    """Look-ups that session and section share."""

    attributes: tuple[Attribute, ...]

    def values(self, name: str) -> Iterator[str]:
        """Values of every attribute of this name, in order."""
        return (value for key, value in self.attributes if key == name)

    def value(self, name: str) -> str | None:
        """The first of them."""
        return next(self.values(name), None)

    def has(self, name: str) -> bool:
        """There is at least one."""
        return any(key == name for key, _ in self.attributes)


@dataclass(frozen=True, slots=True)
class Section(_Attributes):
    """One ``m=`` line and what follows it."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True)
class Description(_Attributes):
    """A whole description."""

    attributes: tuple[Attribute, ...]
    sections: tuple[Section, ...]


def parse(text: str, *, fragment: bool = False) -> Description:
    """Read a description.

    Args:
        fragment: it is a piece as trickle ICE sends (RFC 8840), which needs no session lines.

    Raises:
        SdpError: nothing else, whatever the text.
    """
    lines = _lines(text)
    if not fragment and lines[:1] != [("v", "0")]:
        raise SdpError("does not begin with v=0")
    session: list[Attribute] = []
    heads: list[tuple[str, int, str, tuple[str, ...]]] = []
    bodies: list[list[Attribute]] = []
    for kind, value in lines:
        if kind == "m":
            if len(heads) == MAX_SECTIONS:
                raise SdpError("too many sections")
            heads.append(_media_line(value))
            bodies.append([])
        elif kind == "a":
            name, _, content = value.partition(":")
            if not is_token(name):
                raise SdpError("attribute without a name")
            (bodies[-1] if bodies else session).append((name, content))
    sections = tuple(Section(*head, tuple(body)) for head, body in zip(heads, bodies, strict=True))
    return Description(tuple(session), sections)


def is_token(text: str) -> bool:
    """RFC 8866 section 9, ``token``."""
    return bool(text) and set(text) <= _TOKEN


def is_ice_text(text: str, least: int, greatest: int) -> bool:
    """So many characters of RFC 8839's ``ice-char``."""
    return least <= len(text) <= greatest and set(text) <= _ICE


def integer(text: str, least: int, greatest: int) -> int:
    """A decimal number without sign.

    Raises:
        SdpError: not one, or out of range.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or not least <= int(text) <= greatest:
        raise SdpError("a number is out of range")
    return int(text)


def _lines(text: str) -> list[tuple[str, str]]:
    if len(text) > MAX_CHARS:
        raise SdpError("too long")
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if len(lines) > MAX_LINES:
        raise SdpError("too many lines")
    found = []
    for line in lines:
        if len(line) > MAX_LINE_CHARS or len(line) < 2 or line[1] != "=" or not line.isprintable():
            raise SdpError("not a line of SDP")
        found.append((line[0], line[2:].rstrip(" ")))
    return found


def _media_line(value: str) -> tuple[str, int, str, tuple[str, ...]]:
    parts = value.split(" ")
    if not 4 <= len(parts) <= 3 + MAX_FORMATS or not is_token(parts[0]):
        raise SdpError("not a media line")
    if not all(is_token(part) for part in (*parts[2].split("/"), *parts[3:])):
        raise SdpError("not a media line")
    return parts[0], integer(parts[1], 0, 65_535), parts[2], tuple(parts[3:])
