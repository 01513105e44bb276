"""Laws of the wrapping arithmetic."""

from hypothesis import given
from hypothesis import strategies as st

from media.core import serial

seq = st.integers(0, 0xFFFF)
word = st.integers(0, 0xFFFF_FFFF)
step = st.integers(-0x7FFF, 0x7FFF)


@given(seq, step)
def test_difference_undoes_addition(value: int, delta: int) -> None:
    assert serial.diff16(serial.add16(value, delta), value) == delta


@given(seq, seq)
def test_newer_is_antisymmetric(one: int, other: int) -> None:
    assert not (serial.newer16(one, other) and serial.newer16(other, one))


@given(st.integers(1 << 16, 1 << 63), step)
def test_unwrapping_finds_any_number_within_half_a_circle(reference: int, delta: int) -> None:
    true = reference + delta
    assert serial.extend16(true & 0xFFFF, reference) == true


@given(st.integers(1 << 32, 1 << 63), st.integers(-0x7FFF_FFFF, 0x7FFF_FFFF))
def test_unwrapping_32_bits(reference: int, delta: int) -> None:
    true = reference + delta
    assert serial.extend32(true & 0xFFFF_FFFF, reference) == true


@given(word, word)
def test_32_bit_order_agrees_with_the_difference(one: int, other: int) -> None:
    assert serial.newer32(one, other) == (serial.diff32(one, other) > 0)
