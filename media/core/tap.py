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
from enum import IntEnum
from struct import Struct
from typing import Final

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
