"""How little a stranger's connectivity check may cost.

Anybody can send STUN to the media port. `claimed_ufrag` reads just enough of a check to know whether it is for
somebody here, at a small part of the price of parsing and authenticating it; most of a flood ends there. Whoever
knows a ufrag but not the password costs an HMAC each time: `StrangerLimit` counts those failures per source
and lets only so many through. A check that is right is never counted, and a check from an address already
learnt never asked, so that a crowd behind one hospital's address is not kept out by its own size.

Sources can be forged. So failures for unknown ufrags cost nobody's tokens, or a flood with a hospital's address on it
would keep that hospital out. The table is bounded; when it is full of sources that are all in debt, further ones share
one bucket.
"""

from collections.abc import Hashable
from typing import Final

MAX_CHECK_BYTES: Final = 548
"""RFC 8489 section 6.1: what fits any path; a check is about 100 bytes."""
MAX_SOURCES: Final = 4_096
FAILURES_HZ: Final = 50
BURST: Final = 100

_HEADER_BYTES: Final = 20
_BINDING_REQUEST: Final = b"\x00\x01"
_COOKIE: Final = b"\x21\x12\xa4\x42"
_USERNAME, _MESSAGE_INTEGRITY = 0x0006, 0x0008


def claimed_ufrag(check: bytes) -> str | None:
    """The receiver's half of USERNAME in a binding request; None for anything else, whatever the bytes.

    Attributes behind MESSAGE-INTEGRITY are not protected and not looked at (RFC 8489 section 14.5).
    """
    end = len(check)
    if not _HEADER_BYTES < end <= MAX_CHECK_BYTES or check[:2] != _BINDING_REQUEST or check[4:8] != _COOKIE:
        return None
    if (check[2] << 8 | check[3]) + _HEADER_BYTES != end:
        return None
    position = _HEADER_BYTES
    while position + 4 <= end:
        kind = check[position] << 8 | check[position + 1]
        length = check[position + 2] << 8 | check[position + 3]
        position += 4
        if kind == _MESSAGE_INTEGRITY or position + length > end:
            return None
        if kind == _USERNAME:
            name = check[position : position + length].partition(b":")[0]
            return name.decode() if name.isascii() else None
        position += length + (-length & 3)
    return None


class StrangerLimit:
    """A token bucket per source, charged for failures only."""

    __slots__ = ("_crowd", "_debts")

    def __init__(self) -> None:
        self._debts: dict[Hashable, tuple[float, int]] = {}
        """Tokens missing and when, least recently charged first."""
        self._crowd: tuple[float, int] = (0.0, 0)

    def __len__(self) -> int:
        return len(self._debts)

    def allows(self, source: Hashable, now_us: int) -> bool:
        """Another attempt of this source may be looked at."""
        debt = self._debts.get(source)
        if debt is None:
            if len(self._debts) < MAX_SOURCES or self._forget_settled(now_us):
                return True
            debt = self._crowd
        return _left(debt, now_us) <= BURST - 1

    def charge(self, source: Hashable, now_us: int) -> None:
        """An attempt failed."""
        debt = self._debts.pop(source, None)
        if debt is None and len(self._debts) >= MAX_SOURCES and not self._forget_settled(now_us):
            self._crowd = (_left(self._crowd, now_us) + 1, now_us)
            return
        self._debts[source] = ((0.0 if debt is None else _left(debt, now_us)) + 1, now_us)

    def _forget_settled(self, now_us: int) -> bool:
        """Make room by the source charged longest ago, if it owes nothing any more."""
        oldest = next(iter(self._debts))
        if _left(self._debts[oldest], now_us) > 0:
            return False
        del self._debts[oldest]
        return True


def _left(debt: tuple[float, int], now_us: int) -> float:
    """What is still owed."""
    return max(0.0, debt[0] - max(0, now_us - debt[1]) * FAILURES_HZ / 1e6)
