"""MLLP: a message between VT (0x0B) and FS CR (0x1C 0x0D), out of a stream that may be cut anywhere.

Strict where a guess could join two messages, tolerant where nothing else can be meant (HL7 Transport
Specification: MLLP Release 1; what real senders do is counted by kind):

- bytes before VT are dropped (`Flaw.GARBAGE`), also line ends between messages, which many senders write;
- FS followed by another byte than CR ends the message all the same (`Flaw.NO_CR`);
- VT inside a message: the one before never ended, and is given as `Cut` (`Flaw.NO_FS`), never as a message;
- a message longer than the bound is not kept: its head stays for a NAK, the rest is passed over up to its FS.

The buffer never holds more than the bound and one read. Charsets in which VT or FS are part of a character (UTF-16)
cannot be framed and are refused by `charset`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

VT: Final = b"\x0b"
FS: Final = b"\x1c"
CR: Final = b"\r"
_BETWEEN: Final = b"\r\n"
_HEAD_BYTES: Final = 4096
"""Of a message that is too long: enough for its MSH."""


class Flaw(StrEnum):
    """What is wrong with the framing; counted."""

    GARBAGE = "garbage"
    NO_CR = "no_cr"
    NO_FS = "no_fs"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class Framed:
    """The bytes of one message."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """A message that cannot be used: its start, and why."""

    head: bytes
    flaw: Flaw


def frame(body: bytes) -> bytes:
    """A message as it goes over the wire.

    Raises:
        ValueError: the body holds VT or FS, so no receiver could find its end.
    """
    if VT in body or FS in body:
        raise ValueError("a body with VT or FS cannot be framed")
    return VT + body + FS + CR


class Deframer:
    """Bytes in, messages out; see the module.

    Args:
        limit_bytes: longest message that is kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._buffer = bytearray()
        self._searched = 0
        self._inside = False
        self._skipping = False
        self._after_fs = False
        self.flaws: dict[Flaw, int] = dict.fromkeys(Flaw, 0)

    @property
    def inside(self) -> bool:
        """Whether a message has begun that has not ended."""
        return self._inside

    def feed(self, data: bytes) -> list[Framed | Cut]:
        """What is complete now, in order."""
        self._buffer += data
        found: list[Framed | Cut] = []
        while self._buffer:
            if self._after_fs:
                self._take_cr()
            elif self._inside:
                if not self._take_message(found):
                    break
            elif not self._seek_start():
                break
        return found

    def end(self) -> list[Framed | Cut]:
        """The stream ended: an unfinished message is reported, never used."""
        if not self._inside or self._skipping:
            return []
        return [self._cut(bytes(self._buffer[:_HEAD_BYTES]), Flaw.NO_FS)]

    def _take_cr(self) -> None:
        self._after_fs = False
        if self._buffer.startswith(CR):
            del self._buffer[:1]
        else:
            self.flaws[Flaw.NO_CR] += 1

    def _seek_start(self) -> bool:
        at = self._buffer.find(VT)
        garbage = self._buffer if at < 0 else self._buffer[:at]
        if garbage.strip(_BETWEEN):
            self.flaws[Flaw.GARBAGE] += 1
        if at < 0:
            self._buffer.clear()
            return False
        del self._buffer[: at + 1]
        self._inside, self._skipping, self._searched = True, False, 0
        return True

    def _take_message(self, found: list[Framed | Cut]) -> bool:
        end, again = self._buffer.find(FS, self._searched), self._buffer.find(VT, self._searched)
        if again >= 0 and (end < 0 or again < end):
            head = bytes(self._buffer[: min(again, _HEAD_BYTES)])
            if not self._skipping and head.strip(_BETWEEN):
                found.append(self._cut(head, Flaw.NO_FS))
            elif not self._skipping:
                self.flaws[Flaw.NO_FS] += 1  # VT twice: nothing was begun that somebody could be told about
            del self._buffer[: again + 1]
            self._skipping, self._searched = False, 0
            return True
        size = len(self._buffer) if end < 0 else end
        if size > self._limit and not self._skipping:
            self._skipping = True
            found.append(self._cut(bytes(self._buffer[:_HEAD_BYTES]), Flaw.TOO_LARGE))
        if end < 0:
            if self._skipping:
                self._buffer.clear()
            self._searched = len(self._buffer)
            return False
        if not self._skipping:
            found.append(Framed(bytes(self._buffer[:end])))
        del self._buffer[: end + 1]
        self._inside, self._skipping, self._after_fs, self._searched = False, False, True, 0
        return True

    def _cut(self, head: bytes, flaw: Flaw) -> Cut:
        self.flaws[flaw] += 1
        return Cut(head, flaw)
