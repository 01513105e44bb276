"""Wrapping arithmetic at its edges (RFC 1982 section 3.2, RFC 3550 A.1)."""

import pytest

from media.core.serial import add16, add32, diff16, diff32, extend16, extend32, newer16, newer32


@pytest.mark.parametrize(
    ("later", "earlier", "distance"),
    [(0, 65535, 1), (65535, 0, -1), (5, 5, 0), (32767, 0, 32767), (32768, 0, -32768), (0, 32768, -32768)],
)
def test_distance_goes_the_short_way_round(later: int, earlier: int, distance: int) -> None:
    assert diff16(later, earlier) == distance


def test_half_the_circle_is_newer_in_neither_direction() -> None:
    """RFC 1982 section 3.2 leaves it undefined; both answers "no" keep the relation antisymmetric."""
    assert not newer16(32768, 0)
    assert not newer16(0, 32768)
    assert not newer32(0x8000_0000, 0)
    assert newer16(0, 65535)
    assert newer32(0, 0xFFFF_FFFF)


def test_adding_wraps_both_ways() -> None:
    assert add16(65535, 1) == 0
    assert add16(0, -1) == 65535
    assert add32(0xFFFF_FFFF, 2) == 1
    assert add32(0, -1) == 0xFFFF_FFFF


def test_unwrapping_counts_on_over_the_wrap_and_back() -> None:
    reference = 65536 + 65535
    assert extend16(0, reference) == 2 * 65536
    assert extend16(65535, 2 * 65536) == 65536 + 65535
    assert extend32(3, 0x1_FFFF_FFFF) == 0x2_0000_0003


def test_32_bit_distance_is_signed() -> None:
    assert diff32(1, 0xFFFF_FFFF) == 2
    assert diff32(0xFFFF_FFFF, 1) == -2
    assert diff32(0x8000_0000, 0) == -0x8000_0000
