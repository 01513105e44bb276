"""Payload peeking stays inside the payload, whatever the bytes."""

from hypothesis import given
from hypothesis import strategies as st

from media.core.codecs import Codec, is_key_frame, key_frame_size
from media.core.rewriter import Segment
from media.core.shape import read_shape
from media.core.templates import renumber


@given(st.sampled_from(Codec), st.binary(max_size=40), st.binary(max_size=8), st.binary(max_size=8))
def test_only_the_payload_counts(codec: Codec, payload: bytes, before: bytes, after: bytes) -> None:
    """Never an exception, and never a byte from outside ``start:end``."""
    start, end = len(before), len(before) + len(payload)
    framed = before + payload + after
    assert is_key_frame(codec, framed, start, end) == is_key_frame(codec, payload, 0, len(payload))
    assert read_shape(codec, framed, start, end, 1) == read_shape(codec, payload, 0, len(payload), 1)
    assert key_frame_size(codec, framed, start, end) == key_frame_size(codec, payload, 0, len(payload))


@given(st.binary(min_size=2, max_size=20), st.integers(0, 0x7FFF), st.integers(0, 0xFF))
def test_renumbering_changes_the_counters_and_nothing_else(payload: bytes, by: int, tl0_by: int) -> None:
    """[RW4] In the width they have (RFC 7741 section 4.2: M tells it and must stay)."""
    before = read_shape(Codec.VP8, payload, 0, len(payload), 0)
    if before.picture is None:
        return
    changed = bytearray(payload)
    renumber(changed, 0, before.picture, Segment(0, 0, 0, by, tl0_by))
    after = read_shape(Codec.VP8, changed, 0, len(changed), 0)

    assert after.picture is not None
    cycle = 1 << 15 if before.picture.wide else 1 << 7
    assert after.picture.number == (before.picture.number + by) % cycle
    if before.picture.tl0_at >= 0:
        assert after.picture.tl0 == (before.picture.tl0 + tl0_by) & 0xFF
    assert after._replace(picture=None) == before._replace(picture=None)
    counted = {before.picture.at, before.picture.at + before.picture.wide, before.picture.tl0_at}
    assert all(changed[at] == payload[at] for at in range(len(payload)) if at not in counted)


@given(st.binary(max_size=12))
def test_the_shape_read_in_one_walk_agrees_with_the_search_for_key_frames(payload: bytes) -> None:
    shape = read_shape(Codec.VP8, payload, 0, len(payload), 1)
    assert shape.key == is_key_frame(Codec.VP8, payload, 0, len(payload))
    assert shape.first or not (shape.key or shape.sync)
