"""RED (RFC 2198): what is read is what was written; anything else is refused and nothing else raised."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.red import MAX_BLOCKS, Forms, MalformedRed, forms, wrapped

THEIRS, OURS = 111, 100

blocks = st.lists(st.tuples(st.integers(0, (1 << 14) - 1), st.binary(max_size=1023)), max_size=MAX_BLOCKS - 1)


def red(older: list[tuple[int, bytes]], newest: bytes, payload_type: int) -> bytes:
    """As RFC 2198 section 3 draws it: one word for each older block, one octet for the newest, then the data."""
    headers = b"".join(
        (1 << 31 | payload_type << 24 | offset << 10 | len(data)).to_bytes(4, "big") for offset, data in older
    )
    return headers + bytes((payload_type,)) + b"".join(data for _, data in older) + newest


@given(blocks, st.binary(max_size=200), st.binary(max_size=20), st.binary(max_size=20))
def test_both_forms_of_a_packet(older: list[tuple[int, bytes]], newest: bytes, before: bytes, behind: bytes) -> None:
    """Whole: the same blocks under the Router's payload type. Plain: the newest alone. Neither looks outside."""
    packet = red(older, newest, THEIRS)
    data = bytearray(before + packet + behind)

    found = forms(data, len(before), len(before) + len(packet), THEIRS, OURS)

    assert found == Forms(red(older, newest, OURS), newest)


@given(st.binary(max_size=200))
def test_opus_without_red_is_read_by_those_who_take_red(plain: bytes) -> None:
    whole, same = wrapped(plain, 0, len(plain), OURS)

    assert same == plain
    assert forms(whole, 0, len(whole), OURS, OURS).plain == plain


@given(st.binary(max_size=64))
def test_whatever_the_bytes_nothing_else_is_raised(data: bytes) -> None:
    with contextlib.suppress(MalformedRed):
        found = forms(data, 0, len(data), THEIRS, OURS)
        assert len(found.plain) < len(data) == len(found.whole)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        red([(960, b"old")], b"", THEIRS)[:7],  # the older block is cut off
        red([(960, b"old")], b"new", THEIRS)[:4],  # no octet for the newest
        red([], b"new", 9),  # another codec
        red([(960, b"old")], b"new", THEIRS).replace(bytes((THEIRS,)), b"\x09"),  # two codecs
        red([(0, b"")] * MAX_BLOCKS, b"new", THEIRS),  # more than anybody sends
    ],
)
def test_malformed(packet: bytes) -> None:
    with pytest.raises(MalformedRed):
        forms(packet, 0, len(packet), THEIRS, OURS)
