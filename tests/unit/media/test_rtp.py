"""RTP headers by offset: both extension forms, and nothing believed that runs out of the packet."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.rtp import MalformedPacket, build_extensions, is_rtcp, read_extensions


def test_the_one_byte_form() -> None:
    """RFC 8285 section 4.2: padding between elements is skipped, id 15 ends the list."""
    data = bytearray(pack("!HH", 0xBEDE, 3) + b"\x10\xaa\x00\x21\xbb\xcc\x00\x00\xf0\x31\x01\x02")

    elements, stop = read_extensions(data, 0, len(data))

    assert [(key, bytes(data[at : at + count])) for key, at, count in elements] == [(1, b"\xaa"), (2, b"\xbb\xcc")]
    assert stop == 16


def test_the_two_byte_form() -> None:
    data = bytearray(pack("!HH", 0x1000, 2) + b"\x11\x00\x22\x03abc\x00")

    elements, _ = read_extensions(data, 0, len(data))

    assert [(key, bytes(data[at : at + count])) for key, at, count in elements] == [(0x11, b""), (0x22, b"abc")]


def test_an_unknown_profile_is_skipped_whole() -> None:
    assert read_extensions(bytearray(pack("!HHI", 0x4242, 1, 7)), 0, 8) == ([], 8)


@pytest.mark.parametrize(
    "block",
    [
        b"\xbe\xde",
        pack("!HH", 0xBEDE, 2) + bytes(4),
        pack("!HH", 0xBEDE, 1) + b"\x1f\0\0\0",
        pack("!HH", 0x1000, 1) + b"\x01\x09\0\0",
        pack("!HH", 0x1000, 1) + b"\x00\x00\x00\x05",
    ],
)
def test_what_runs_out_is_malformed(block: bytes) -> None:
    with pytest.raises(MalformedPacket):
        read_extensions(bytearray(block), 0, len(block))


@given(st.binary(max_size=80))
def test_nothing_but_malformed_is_ever_raised(block: bytes) -> None:
    try:
        elements, stop = read_extensions(bytearray(block), 0, len(block))
    except MalformedPacket:
        return
    assert stop <= len(block)
    assert all(at + count <= stop for _, at, count in elements)


@given(st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16), max_size=8))
def test_what_is_built_is_read_back(values: dict[int, bytes]) -> None:
    block = bytearray(build_extensions(list(values.items())))

    assert len(block) % 4 == 0
    elements = read_extensions(block, 0, len(block))[0] if values else []
    assert {key: bytes(block[at : at + count]) for key, at, count in elements} == values


def test_a_long_element_takes_the_two_byte_form() -> None:
    block = bytearray(build_extensions([(3, bytes(20)), (4, b"x")]))

    elements, _ = read_extensions(block, 0, len(block))

    assert [(key, count) for key, _, count in elements] == [(3, 20), (4, 1)]


@pytest.mark.parametrize(
    ("second", "expected"), [(96, False), (0x80 | 111, False), (200, True), (206, True), (191, False)]
)
def test_rtcp_is_told_from_rtp(second: int, expected: bool) -> None:
    assert is_rtcp(second) is expected
