"""RFC 4571 framing: any bytes, cut anywhere."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.framing import MAX_FRAME_BYTES, MAX_REST_BYTES, MalformedFrame, join, split

datagrams = st.lists(st.binary(max_size=40) | st.just(bytes(MAX_FRAME_BYTES)), max_size=12)


def read(stream: bytes, cuts: list[int]) -> list[bytes]:
    """What comes out when the stream arrives in pieces, each behind the rest of the one before."""
    got = []
    rest = b""
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for start, end in itertools.pairwise(edges):
        held = bytearray(rest + stream[start:end])
        frames, position = split(held, len(held))
        got += [bytes(held[offset : offset + size]) for offset, size in frames]
        rest = bytes(held[position:])
        assert len(rest) <= MAX_REST_BYTES
    assert rest == b""
    return got


@given(datagrams, st.lists(st.integers(0, 1 << 20), max_size=20))
def test_what_was_framed_comes_out_wherever_the_stream_is_cut(sent: list[bytes], cuts: list[int]) -> None:
    """Empty frames mean nothing (RFC 4571 section 2); all others come out whole, once, in order."""
    stream = b"".join(len(one).to_bytes(2, "big") + one for one in sent)

    assert read(stream, cuts) == [one for one in sent if one]


@given(st.binary(max_size=4000))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    try:
        frames, position = split(bytearray(data), len(data))
    except MalformedFrame:
        return
    assert position <= len(data)
    assert len(data) - position <= MAX_REST_BYTES
    assert all(0 < size <= MAX_FRAME_BYTES and offset + size <= position for offset, size in frames)


def test_a_length_no_datagram_has_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(MalformedFrame):
        split(bytearray((MAX_FRAME_BYTES + 1).to_bytes(2, "big")), 2)


def test_bytes_behind_what_has_come_are_not_looked_at() -> None:
    """The buffer is longer than its content, and holds what others left there."""
    assert split(bytearray(b"\x00\x01a\xff\xff"), 3) == ([(2, 1)], 3)


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 1500))
def test_a_run_is_framed_datagram_by_datagram(run: bytes, segment_bytes: int) -> None:
    assert read(bytes(join(memoryview(run), segment_bytes)), []) == [
        run[start : start + segment_bytes] for start in range(0, len(run), segment_bytes)
    ]
