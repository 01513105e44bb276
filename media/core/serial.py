"""Wrapping 16- and 32-bit arithmetic (RFC 1982, RFC 3550 section 5.1).

Sequence numbers and timestamps wrap, so "later" means "less than half the circle ahead". The rules
live here once; the inner loops that cannot afford a call repeat the expression and name this module.
"""

from typing import Final

MASK_16: Final = 0xFFFF
MASK_32: Final = 0xFFFF_FFFF
HALF_16: Final = 0x8000
HALF_32: Final = 0x8000_0000


def add16(value: int, delta: int) -> int:
    """``value + delta`` modulo 2^16; ``delta`` may be negative."""
    return (value + delta) & MASK_16


def diff16(later: int, earlier: int) -> int:
    """Signed distance from ``earlier`` to ``later``: -32768 to 32767. Exactly half the circle is -32768."""
    return ((later - earlier + HALF_16) & MASK_16) - HALF_16


def newer16(value: int, reference: int) -> bool:
    """``value`` comes after ``reference``; at exactly half the circle (undefined in RFC 1982) neither does."""
    return 0 < (value - reference) & MASK_16 < HALF_16


def extend16(value: int, reference: int) -> int:
    """The integer congruent to ``value`` that is nearest to ``reference``, an earlier result.

    Start with a reference of at least 2^16, or what precedes the first number may come out negative.
    """
    return reference + diff16(value, reference & MASK_16)


def add32(value: int, delta: int) -> int:
    """``value + delta`` modulo 2^32; ``delta`` may be negative."""
    return (value + delta) & MASK_32


def diff32(later: int, earlier: int) -> int:
    """Signed distance from ``earlier`` to ``later``: -2^31 to 2^31 - 1. Exactly half the circle is -2^31."""
    return ((later - earlier + HALF_32) & MASK_32) - HALF_32


def newer32(value: int, reference: int) -> bool:
    """``value`` comes after ``reference``; at exactly half the circle neither does."""
    return 0 < (value - reference) & MASK_32 < HALF_32


def extend32(value: int, reference: int) -> int:
    """The integer congruent to ``value`` that is nearest to ``reference``, an earlier result."""
    return reference + diff32(value, reference & MASK_32)
