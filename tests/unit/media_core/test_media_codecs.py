"""Payload peeking: RFC 7741 (VP8), RFC 6184 (H264)."""

import pytest

from media.core.codecs import Codec, is_key_frame, key_frame_size
from media.core.router import Picture
from media.core.shape import read_shape


def key(codec: Codec, wire: str) -> bool:
    payload = bytes.fromhex(wire)
    framed = b"\xff" * 12 + payload + b"\x00" * 4  # what lies around it must not matter
    return is_key_frame(codec, framed, 12, 12 + len(payload))


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ("10 00", True),  # S, partition 0, P clear
        ("10 01", False),  # inter frame
        ("00 00", False),  # not the start of a partition
        ("11 00", False),  # partition 1
        ("30 00", True),  # N set: droppable says nothing about P
        ("90 80 0a 00", True),  # 7-bit PictureID
        ("90 80 8a 0b 00", True),  # 15-bit PictureID
        ("90 e0 8a 0b 05 40 00", True),  # PictureID, TL0PICIDX, TID
        ("90 e0 8a 0b 05 40 01", False),
        ("90 40 05 00", True),  # TL0PICIDX alone
        ("90 10 05 00", True),  # KEYIDX alone
        ("90 01 00", True),  # X byte with reserved bits only: the frame follows at once
        ("90 80 8a", False),  # cut off inside PictureID
        ("90 80", False),
        ("10", False),
        ("", False),
    ],
)
def test_vp8_key_frame(wire: str, expected: bool) -> None:
    assert key(Codec.VP8, wire) is expected


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ("65 88", True),  # IDR slice
        ("67 42", True),  # SPS
        ("68 ce", False),  # PPS alone starts nothing
        ("41 9a", False),  # other slice
        ("78 0002 67 42 0001 68", True),  # STAP-A: SPS, PPS
        ("78 0001 68 0002 65 88", True),  # STAP-A: the second is IDR
        ("78 0001 68 0002 41 9a", False),
        ("78 0009 67", False),  # STAP-A longer than the packet
        ("78 0000 67 42", False),
        ("78 0001", False),
        ("7c 85 88", True),  # FU-A, start of IDR
        ("7c 05 88", False),  # FU-A, middle of IDR
        ("7c 87 42", True),  # FU-A, start of SPS
        ("7c 81 9a", False),
        ("7c", False),
        ("", False),
    ],
)
def test_h264_key_frame(wire: str, expected: bool) -> None:
    assert key(Codec.H264, wire) is expected


def test_opus_can_be_joined_anywhere() -> None:
    assert key(Codec.OPUS, "")


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ("10 00", None),
        ("90 80 0a 00", Picture(2, False, 0x0A, -1, -1)),
        ("90 c0 8a 0b 05 00", Picture(2, True, 0x0A0B, 4, 5)),
        ("90 40 05 00", None),
        ("90 c0 0a 05 00", Picture(2, False, 0x0A, 3, 5)),
        ("90 01 05 00", None),
        ("90 c0 8a", None),
        ("90 c0 8a 0b", Picture(2, True, 0x0A0B, -1, -1)),
        ("90", None),
    ],
)
def test_vp8_counters(wire: str, expected: Picture | None) -> None:
    """Where they are, how wide, and what they say (RFC 7741 section 4.2)."""
    payload = bytes.fromhex(wire)
    assert read_shape(Codec.VP8, payload, 0, len(payload), 0).picture == expected


@pytest.mark.parametrize(
    ("wire", "temporal", "sync"),
    [
        ("90 e0 8a 0b 05 60 01", 1, True),
        ("90 e0 8a 0b 05 80 01", 2, False),
        ("90 20 c0 01", 3, False),
        ("80 e0 8a 0b 05 60 01", 1, False),  # not the first packet of its frame
        ("90 c0 8a 0b 05 01", 0, False),
    ],
)
def test_vp8_temporal_layers(wire: str, temporal: int, sync: bool) -> None:
    payload = bytes.fromhex(wire)
    shape = read_shape(Codec.VP8, payload, 0, len(payload), 0)
    assert (shape.temporal, shape.sync) == (temporal, sync)


def test_a_key_frame_tells_its_size() -> None:
    """RFC 6386 section 9.1; the upper two bits are a scale."""
    payload = bytes.fromhex("90 80 0a 00 00 00 9d 01 2a 00 45 d0 82")
    assert key_frame_size(Codec.VP8, payload, 0, len(payload)) == (1280, 720)
    assert key_frame_size(Codec.VP8, payload, 0, len(payload) - 1) is None
    assert key_frame_size(Codec.H264, payload, 0, len(payload)) is None
