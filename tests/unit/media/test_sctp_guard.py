"""Which SCTP packets may reach a parser that trusts its peer."""

from struct import pack

import pytest
from aiortc.rtcsctptransport import parse_packet, serialize_packet
from hypothesis import given
from hypothesis import strategies as st

from media.core.sctp_guard import MAX_GAP_TSNS, is_safe

HEAD = pack("!HHII", 5000, 5000, 1, 0)


def chunk(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    return pack("!BBH", kind, 0, 4 + len(body) if length is None else length) + body + bytes(-len(body) & 3)


def data(stream: int, payload: bytes = b"x") -> bytes:
    return chunk(0, pack("!IHHI", 1, stream, 0, 53) + payload)


def sack(*gaps: tuple[int, int]) -> bytes:
    return chunk(3, pack("!IIHH", 1, 1000, len(gaps), 0) + b"".join(pack("!HH", *gap) for gap in gaps))


@pytest.mark.parametrize(
    "chunks",
    [
        data(0),
        data(1023, bytes(1100)),
        data(0) + sack((2, 5), (7, 7)),
        sack(),
        chunk(1, pack("!IIHHI", 1, 1, 1, 1, 1) + pack("!HH", 0xC000, 4)),
        chunk(130, pack("!HHI", 13, 8, 0)),
        chunk(192, pack("!I", 5) + pack("!HH", 1, 2)),
        chunk(11, b""),
    ],
)
def test_what_real_peers_send_passes(chunks: bytes) -> None:
    assert is_safe(HEAD + chunks, 1024)


@pytest.mark.parametrize(
    "chunks",
    [
        b"",
        b"\0\0\0",
        chunk(0, b"", length=0),
        chunk(0, b"", length=3),
        chunk(4, pack("!HH", 1, 0)),
        chunk(1, pack("!IIHHI", 1, 1, 1, 1, 1) + pack("!HH", 0xC000, 3)),
        chunk(130, pack("!HHI", 13, 80, 0)),
        chunk(1, b"short"),
        data(0, b""),
        data(1024),
        sack((1, MAX_GAP_TSNS + 1)),
        sack((5, 4)),
        sack((5, 9), (9, 12)),
        chunk(3, pack("!IIHH", 1, 1, 500, 0)),
        chunk(192, b"\0\0\0\1\0"),
        data(0)[:-4] + b"",
        chunk(11, b"") * 65,
    ],
)
def test_what_would_hurt_does_not(chunks: bytes) -> None:
    assert not is_safe(HEAD + chunks, 1024)


@given(st.binary(max_size=200))
def test_never_raises(junk: bytes) -> None:
    is_safe(junk, 1024)
    is_safe(HEAD + junk, 1024)


@given(
    st.lists(st.sampled_from([data(0), sack((2, 3)), chunk(11, b""), chunk(130, pack("!HHI", 13, 8, 0))]), max_size=5)
)
def test_what_passes_is_what_aiortc_can_parse(chunks: list[bytes]) -> None:
    """A packet of sound chunks passes, and aiortc's own parser takes it (its checksum is not ours to judge)."""
    body = b"".join(chunks)
    packet = HEAD + body

    assert is_safe(packet, 1024) is bool(chunks)
    if chunks:
        from google_crc32c import value as crc32c

        sealed = packet[:8] + pack("<I", crc32c(packet)) + body
        assert len(parse_packet(sealed)[3]) == len(chunks)
    assert callable(serialize_packet)
