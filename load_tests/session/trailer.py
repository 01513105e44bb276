"""What a simulated session's media packets end with: where they come from, and when they left.

``mark (4) | consult + 1 (4) | time of sending in ns since 1970, 0 on a line that delays (8)``, big-endian. A packet
of a real browser has none: it is counted and answered like any other, but nothing is read from it.
"""

from __future__ import annotations

import struct
from typing import Final

MARK: Final = b"CLD1"
TRAILER: Final = struct.Struct("!4sIQ")


def build_trailer(consult: int, sent_ns: int) -> bytes:
    """Of a packet of a session in this consult."""
    return TRAILER.pack(MARK, consult + 1, sent_ns)


def read_trailer(payload: bytes) -> tuple[int, int] | None:
    """``(consult, sent_ns)``; None where there is none."""
    if len(payload) < TRAILER.size:
        return None
    mark, consult, sent_ns = TRAILER.unpack_from(payload, len(payload) - TRAILER.size)
    return (consult - 1, sent_ns) if mark == MARK else None
