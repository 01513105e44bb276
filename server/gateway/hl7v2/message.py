"""Segments, fields, repetitions, components, and escape sequences (HL7 v2 chapter 2).

Tolerant where nothing else can be meant: lines that end in LF or CRLF, empty lines, blanks before MSH, a MSH-2 that
leaves out its last delimiters, a line break inside a text field. Each is counted in `Message.seen`. Everything else
that is no message raises `Hl7Refused`; what no mapping asks for is never looked at.

Values are unescaped when they are read, because an escaped delimiter must not split a field.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from server.gateway.hl7v2.charset import codec_of, decode
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused

MAX_SEGMENTS: Final = 20_000
MAX_REPETITIONS: Final = 1_000
NULL: Final = '""'
"""A field that holds two quotes says: delete what you have. An empty one says nothing."""

_STANDARD: Final = "^~\\&"
_SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_TEXT_SEGMENTS: Final = frozenset({"OBX", "NTE"})
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ud800-\udfff\ufffe\uffff]")
_LAYOUT: Final = re.compile(r"(?:br|ce|sp)\+?\d{0,3}|(?:in|ti|sk)[+-]?\d{0,3}|fi|nf")
"""Formatting commands of FT (chapter 2.7.6); `br`, `ce` and `sp` break the line."""


@dataclass(frozen=True, slots=True)
class Delimiters:
    """MSH-1 and MSH-2."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str

    @property
    def msh2(self) -> str:
        """As MSH-2 is written."""
        return self.component + self.repetition + self.escape + self.subcomponent


STANDARD: Final = Delimiters("|", *_STANDARD)


class Composite:
    """One repetition of a field; components and subcomponents count from 1 and are empty where there are none."""

    __slots__ = ("_message", "raw")

    def __init__(self, message: "Message", raw: str) -> None:
        self._message, self.raw = message, raw

    @property
    def is_null(self) -> bool:
        """Whether it says "delete"."""
        return self.raw == NULL

    def c(self, component: int, subcomponent: int = 1) -> str:
        """Text of a component (its first subcomponent unless another is asked for); NULL is empty."""
        parts = self.raw.split(self._message.delimiters.component)
        if len(parts) < component:
            return ""
        subs = parts[component - 1].split(self._message.delimiters.subcomponent)
        return self._message.text(subs[subcomponent - 1]) if len(subs) >= subcomponent else ""

    def st(self, component: int) -> str:
        """Text of a component of type ST, which has no subcomponents: an ampersand in it is the sender's own.

        Many senders do not escape it; read as a separator it would cut "amoxicillin & clavulanate" after the first.
        """
        return self._message.text(self.raw_part(component))

    def raw_part(self, component: int) -> str:
        """A component as it was sent."""
        parts = self.raw.split(self._message.delimiters.component)
        return parts[component - 1] if len(parts) >= component else ""

    def part(self, first: int, last: int) -> "Composite":
        """Some components as a composite of their own (the HD inside an EI, the XPN inside a XCN)."""
        parts = self.raw.split(self._message.delimiters.component)[first - 1 : last]
        return Composite(self._message, self._message.delimiters.component.join(parts))

    def whole(self, component: int) -> "Composite":
        """A component as a composite of its own: its subcomponents are the components (``XCN.9`` is a HD)."""
        raw = self.raw_part(component)
        return Composite(
            self._message, raw.replace(self._message.delimiters.subcomponent, self._message.delimiters.component)
        )

    def text(self) -> str:
        """All of it as one text, separators as they stand: for fields of type ST, TX and FT."""
        return self._message.text(self.raw)

    def __bool__(self) -> bool:
        return self.raw not in ("", NULL)


class Segment:
    """One line; fields count as in the standard (MSH-1 is the separator itself)."""

    __slots__ = ("_fields", "_message", "name")

    def __init__(self, message: "Message", name: str, fields: list[str]) -> None:
        self._message, self.name, self._fields = message, name, fields

    def raw(self, number: int) -> str:
        """A field as it was sent."""
        return self._fields[number - 1] if 0 < number <= len(self._fields) else ""

    def all(self, number: int) -> list[Composite]:
        """The field's repetitions that hold something.

        Raises:
            Hl7Refused: ``too_large``.
        """
        parts = self.raw(number).split(self._message.delimiters.repetition)
        if len(parts) > MAX_REPETITIONS:
            raise Hl7Refused(Hl7Code.TOO_LARGE, f"{self.name}-{number}")
        return [Composite(self._message, part) for part in parts if part.strip() not in ("", NULL)]

    def first(self, number: int) -> Composite:
        """The field's first repetition; false where it is empty."""
        found = self.all(number)
        return found[0] if found else Composite(self._message, "")

    def one(self, number: int) -> Composite:
        """The whole field as one value, repetition separators as they stand (ST, TX, FT)."""
        return Composite(self._message, self.raw(number))

    def v(self, number: int, component: int = 1, subcomponent: int = 1) -> str:
        """Text of a component of the first repetition."""
        return self.first(number).c(component, subcomponent).strip()

    def is_null(self, number: int) -> bool:
        """Whether the field says "delete"."""
        return self.raw(number).strip() == NULL


@dataclass(slots=True)
class Message:
    """A parsed message."""

    delimiters: Delimiters
    charset: str
    """As MSH-18 writes it."""
    segments: list[Segment] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    """What was tolerated, ignored or left out, by a stable word; for metrics, never for decisions."""

    @property
    def msh(self) -> Segment:
        """The header."""
        return self.segments[0]

    def first(self, name: str) -> Segment | None:
        """The first segment of a name."""
        return next(self.named(name), None)

    def named(self, name: str) -> Iterator[Segment]:
        """All segments of a name."""
        return (segment for segment in self.segments if segment.name == name)

    def text(self, raw: str) -> str:
        """A value without its escape sequences and without characters that FHIR's ``string`` does not have."""
        if raw == NULL:
            return ""
        if self.delimiters.escape and self.delimiters.escape in raw:
            raw = self._unescaped(raw)
        clean = _CONTROL.sub("", raw)
        if len(clean) != len(raw):
            self.seen["control_character"] += len(raw) - len(clean)
        return clean

    def _unescaped(self, raw: str) -> str:
        parts = raw.split(self.delimiters.escape)
        out, at = [parts[0]], 1
        while at < len(parts):
            # A sequence is closed by a second escape character; a lone one is a text's own backslash (C:\temp).
            meant = self._meaning(parts[at]) if at + 1 < len(parts) else None
            if meant is None:
                out.append(self.delimiters.escape + parts[at])
                self.seen["lone_escape"] += 1
                at += 1
            else:
                out += [meant, parts[at + 1]]
                at += 2
        return "".join(out)

    def _meaning(self, code: str) -> str | None:
        d = self.delimiters
        single = {"F": d.field, "S": d.component, "T": d.subcomponent, "R": d.repetition, "E": d.escape, "P": "#"}
        if code in single:
            return single[code]
        if code in ("H", "N"):
            return ""
        if code[:1] == "." and _LAYOUT.fullmatch(code[1:].lower()):
            return "\n" if code[1:3].lower() in ("br", "ce", "sp") else " "
        if code[:1] == "X":
            return self._hex(code[1:])
        return None

    def _hex(self, digits: str) -> str | None:
        try:
            return bytes.fromhex(digits).decode(codec_of(self.charset) or "utf-8")
        except ValueError:  # includes UnicodeDecodeError
            self.seen["hex_escape"] += 1
            return None


def parse(data: bytes, *, default_charset: str) -> Message:
    """A message from its bytes, without its frame.

    Raises:
        Hl7Refused: it is none. Nothing else, whatever the bytes.
    """
    seen: Counter[str] = Counter()
    data = data.strip(b" \t\r\n\x00")
    if not data.removeprefix(b"\xef\xbb\xbf").startswith(b"MSH"):
        raise Hl7Refused(Hl7Code.NOT_HL7)
    text, charset = decode(data, default_charset, seen)
    lines = _lines(text, seen)
    delimiters = _delimiters(lines[0], seen)
    if len(lines) > MAX_SEGMENTS:
        raise Hl7Refused(Hl7Code.TOO_LARGE, "segments")
    message = Message(delimiters=delimiters, charset=charset, seen=seen)
    for line in _joined(lines, delimiters.field, seen):
        name, fields = line[:3], line[4:].split(delimiters.field)
        if name == "MSH":
            if message.segments:
                raise Hl7Refused(Hl7Code.SEGMENT, "MSH")
            fields = [delimiters.field, *fields]
        elif name.startswith("Z"):
            seen["z_segment"] += 1
            continue
        message.segments.append(Segment(message, name, fields))
    return message


def split_messages(data: bytes, limit: int) -> list[bytes]:
    """The messages of a file, batch headers and trailers (FHS, BHS, BTS, FTS) left away.

    Raises:
        Hl7Refused: none, or more than ``limit``.
    """
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\x0b", b"").replace(b"\x1c", b"")
    found: list[list[bytes]] = []
    for line in re.split(rb"\r\n|\r|\n", data):
        if line[:3] in (b"FHS", b"BHS", b"BTS", b"FTS"):
            continue
        if line.startswith(b"MSH"):
            found.append([])
        if found:
            found[-1].append(line)
        elif line.strip():
            raise Hl7Refused(Hl7Code.NOT_HL7)
    if not 0 < len(found) <= limit:
        raise Hl7Refused(Hl7Code.TOO_LARGE if found else Hl7Code.NOT_HL7, "messages")
    return [b"\r".join(lines) for lines in found]


def _lines(text: str, seen: Counter[str]) -> list[str]:
    """Segments end in CR; where a message has none they end in LF, and a LF beside CR belongs to it or to a text."""
    if "\r" in text:
        if "\r\n" in text:
            seen["crlf"] += 1
            text = text.replace("\r\n", "\r")
        lines = [line.strip("\n") for line in text.split("\r")]
    else:
        if "\n" in text:
            seen["lf"] += 1
        lines = text.split("\n")
    return [line for line in lines if line.strip()]


def _joined(lines: list[str], separator: str, seen: Counter[str]) -> Iterator[str]:
    """Lines that begin no segment continue a text field; anywhere else they are refused."""
    whole = ""
    for line in lines:
        if _SEGMENT.fullmatch(line[:3]) and (len(line) == 3 or line[3] == separator):
            if whole:
                yield whole
            whole = line
        elif whole[:3] in _TEXT_SEGMENTS:
            seen["line_break_in_text"] += 1
            whole += "\n" + line
        else:
            raise Hl7Refused(Hl7Code.SEGMENT, whole[:3])
    yield whole


def _delimiters(header: str, seen: Counter[str]) -> Delimiters:
    if len(header) < 8:
        raise Hl7Refused(Hl7Code.DELIMITERS, "MSH-1")
    separator = header[3]
    declared = header[4:].split(separator, 1)[0]
    if len(declared) == 5:  # the truncation character of 2.7; nothing is truncated here
        declared = declared[:4]
    elif 1 <= len(declared) < 4:
        seen["short_msh2"] += 1
        declared += _STANDARD[len(declared) :]
    signs = separator + declared
    usable = len(signs) == 5 == len(set(signs)) and signs.isascii() and signs.isprintable()
    if not usable or any(sign.isalnum() or sign in ' "' for sign in signs):
        raise Hl7Refused(Hl7Code.DELIMITERS, "MSH-2")
    return Delimiters(*signs)
