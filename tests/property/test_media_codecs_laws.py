"""Payload peeking stays inside the payload, whatever the bytes."""

from hypothesis import given
from hypothesis import strategies as st

from media.core.codecs import NOWHERE, Codec, is_key_frame, read_picture_id, vp8_fields, write_picture_id
from media.core.shape import read_shape


@given(st.sampled_from(Codec), st.binary(max_size=40), st.binary(max_size=8), st.binary(max_size=8))
def test_only_the_payload_counts(codec: Codec, payload: bytes, before: bytes, after: bytes) -> None:
    """Never an exception, and never a byte from outside ``start:end``."""
    start, end = len(before), len(before) + len(payload)
    framed = before + payload + after
    assert is_key_frame(codec, framed, start, end) == is_key_frame(codec, payload, 0, len(payload))
    shifted = vp8_fields(framed, start, end)
    plain = vp8_fields(payload, 0, len(payload))
    assert shifted[1] == plain[1]
    for moved, at in ((shifted[0], plain[0]), (shifted[2], plain[2])):
        assert moved == (NOWHERE if at == NOWHERE else at + start)


@given(st.binary(min_size=2, max_size=20), st.integers(0, 0x7FFF))
def test_rewriting_changes_the_number_and_nothing_else(payload: bytes, picture_id: int) -> None:
    at, bits, tl0_at = vp8_fields(payload, 0, len(payload))
    if at == NOWHERE:
        return
    rewritten = bytearray(payload)
    write_picture_id(rewritten, at, bits, picture_id)
    assert read_picture_id(rewritten, at, bits) == picture_id % (1 << bits)
    assert vp8_fields(rewritten, 0, len(rewritten)) == (at, bits, tl0_at)
    width = 1 if bits == 7 else 2
    assert rewritten[:at] + rewritten[at + width :] == payload[:at] + payload[at + width :]


@given(st.binary(max_size=12), st.binary(max_size=4), st.binary(max_size=4))
def test_the_shape_read_in_one_walk_is_what_its_parts_say(payload: bytes, before: bytes, after: bytes) -> None:
    start, end = len(before), len(before) + len(payload)
    shape = read_shape(Codec.VP8, before + payload + after, start, end, 1)
    at, bits, tl0_at = vp8_fields(payload, 0, len(payload))
    assert shape.key == is_key_frame(Codec.VP8, payload, 0, len(payload))
    assert shape.first or not (shape.key or shape.sync)
    assert (shape.picture is None) == (bits == 0)
    if shape.picture is not None:
        assert (shape.picture.at, shape.picture.wide, shape.picture.tl0_at) == (at, bits == 15, tl0_at)
        assert shape.picture.number == read_picture_id(payload, at, bits)
        assert shape.picture.tl0 == (payload[tl0_at] if tl0_at >= 0 else -1)
