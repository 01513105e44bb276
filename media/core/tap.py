"""What a worker and the application say to each other about the waveforms of one Router.

A tap is one Unix stream connection per Router, opened by the worker with a key that the application gave it in
``tap_data``. It carries nothing but copies, so neither control nor media ever waits for it. Little endian:

    u8 kind | u32 length | body                 worker -> application
      FRAME    one frame as its source made it (no transport flags), each once, in order of acceptance
      MESSAGE  u8 length of the DataProducer's id, the id, then one vital-signs message
      AGAIN    a frame that was asked for
      GONE     u32 stream, u32 first, u32 last: the worker will never have these
      DROPPED  u32 how many records did not fit since the last of this kind

    u32 stream | u32 first | u32 last           application -> worker: these frames again, as far as they are kept

The worker's end is ``media.aio.tap``, the application's ``server.waveforms.tap``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from media.core.waveform.frame import HEADER_BYTES, MAGIC

HEAD: Final = Struct("<BI")
RANGE: Final = Struct("<III")
COUNT: Final = Struct("<I")
KEY_BYTES: Final = 16
MAX_BODY_BYTES: Final = 16_384
"""A frame has at most 8192 bytes, a message at most 512 and an id of 128."""
EVERYTHING: Final = 2**32 - 1
"""As ``last``: up to the newest."""


class TapKind(IntEnum):
    """Kind of a record."""

    FRAME = 1
    MESSAGE = 2
    AGAIN = 3
    GONE = 4
    DROPPED = 5


class MalformedTap(Exception):
    """The other end broke the framing; the connection cannot go on."""


def build_record(kind: TapKind, body: bytes) -> bytes:
    """One record."""
    return HEAD.pack(kind, len(body)) + body


@dataclass(frozen=True, slots=True)
class TappedFrame:
    """A frame; the worker has checked it."""

    frame: bytes
    again: bool


@dataclass(frozen=True, slots=True)
class TappedMessage:
    """A vital-signs message of a DataProducer; the worker has checked it."""

    producer: str
    message: bytes


@dataclass(frozen=True, slots=True)
class TappedGone:
    """The worker will never have these."""

    stream_id: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class TappedDropped:
    """So many records did not fit."""

    count: int


def read_record(kind: int, body: bytes) -> TappedFrame | TappedMessage | TappedGone | TappedDropped:
    """What a record says.

    Raises:
        MalformedTap: it says nothing; nothing else, whatever the bytes.
    """
    match kind:
        case TapKind.FRAME | TapKind.AGAIN if len(body) >= HEADER_BYTES and body.startswith(MAGIC):
            return TappedFrame(body, kind == TapKind.AGAIN)
        case TapKind.MESSAGE if body and len(body) > 1 + body[0]:
            try:
                return TappedMessage(body[1 : 1 + body[0]].decode("ascii"), body[1 + body[0] :])
            except UnicodeDecodeError:
                raise MalformedTap("id of a DataProducer") from None
        case TapKind.GONE if len(body) == RANGE.size:
            stream_id, first, last = RANGE.unpack(body)
            if first <= last:
                return TappedGone(stream_id, first, last)
        case TapKind.DROPPED if len(body) == COUNT.size:
            return TappedDropped(*COUNT.unpack(body))
    raise MalformedTap(f"record of kind {kind} and {len(body)} bytes")


class TapReader:
    """Cuts what a worker sends into records."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Kind and body of each record that is whole now.

        Raises:
            MalformedTap: a record of impossible length.
        """
        data = self._rest + data if self._rest else data
        at, size = 0, len(data)
        try:
            while size - at >= HEAD.size:
                kind, length = HEAD.unpack_from(data, at)
                if length > MAX_BODY_BYTES:
                    raise MalformedTap(f"record of {length} bytes")
                end = at + HEAD.size + length
                if end > size:
                    break
                body = data[at + HEAD.size : end]
                at = end
                yield kind, body
        finally:
            self._rest = data[at:]
