"""Payload peeking: RFC 7741 (VP8), RFC 6184 (H264)."""

import pytest

from media.core.codecs import (
    NOWHERE,
    Codec,
    is_key_frame,
    read_picture_id,
    vp8_fields,
    write_picture_id,
)


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
        ("10 00", (NOWHERE, 0, NOWHERE)),
        ("90 80 0a 00", (2, 7, NOWHERE)),
        ("90 c0 8a 0b 05 00", (2, 15, 4)),
        ("90 40 05 00", (NOWHERE, 0, 2)),
        ("90 c0 0a 05 00", (2, 7, 3)),
        ("90 01 05 00", (NOWHERE, 0, NOWHERE)),
        ("90 c0 8a", (NOWHERE, 0, NOWHERE)),
        ("90 c0 8a 0b", (2, 15, NOWHERE)),
        ("90", (NOWHERE, 0, NOWHERE)),
    ],
)
def test_vp8_field_offsets(wire: str, expected: tuple[int, int, int]) -> None:
    payload = bytes.fromhex(wire)
    assert vp8_fields(payload, 0, len(payload)) == expected


def test_picture_id_is_replaced_in_its_own_width() -> None:
    """RFC 7741 section 4.2: M tells the width and must stay."""
    wide = bytearray.fromhex("90 80 ff ff 00")
    assert read_picture_id(wide, 2, 15) == 0x7FFF
    write_picture_id(wide, 2, 15, 0x7FFF + 1 + 5)
    assert wide == bytearray.fromhex("90 80 80 05 00")
    narrow = bytearray.fromhex("90 80 7f 00")
    write_picture_id(narrow, 2, 7, 0x83)
    assert narrow == bytearray.fromhex("90 80 03 00")
    assert read_picture_id(narrow, 2, 7) == 3
