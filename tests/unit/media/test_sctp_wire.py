"""SCTP bytes against aiortc's parser and builder, written by other people."""

from struct import pack

import pytest
from aiortc import rtcsctptransport as other

from media.core.sctp import wire
from media.core.sctp.wire import Refused, SctpRefused
from tests import sctp_kit as kit


def theirs(body: bytes) -> list[other.Chunk]:
    _, _, tag, chunks = other.parse_packet(wire.build_packet(kit.TAG, body))
    assert tag == kit.TAG
    return chunks


def ours(chunk: other.Chunk) -> wire.Chunk:
    tag, chunks = wire.parse_packet(other.serialize_packet(5000, 5000, kit.TAG, chunk))
    assert tag == kit.TAG
    return chunks[0]


def test_a_data_packet_as_bytes() -> None:
    """Worked out by hand from RFC 9260 section 3.3.1; CRC32c bit by bit, as in its appendix A, low byte first."""
    chunk = wire.build_data(wire.Data(1, 2, 3, 53, wire.FIRST | wire.LAST, b"abcde"))

    assert chunk.hex() == "000300150000000100020003000000356162636465000000"
    head = bytes.fromhex("13881388aabbccdd")
    checksum = 0xFFFFFFFF
    for byte in head + bytes(4) + chunk:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ 0x82F63B78 * (checksum & 1)
    assert wire.build_packet(0xAABBCCDD, chunk) == head + pack("<I", checksum ^ 0xFFFFFFFF) + chunk


@pytest.mark.parametrize("payload", [b"x", b"xy", b"xyz", b"wxyz", bytes(1164)])
def test_data_both_ways(payload: bytes) -> None:
    data = wire.Data(0xFFFFFFFF, 7, 65535, 51, wire.FIRST | wire.UNORDERED, payload)
    (read,) = theirs(wire.build_data(data))
    assert (read.tsn, read.stream_id, read.stream_seq, read.protocol, read.flags, read.user_data) == (
        0xFFFFFFFF,
        7,
        65535,
        51,
        6,
        payload,
    )
    assert ours(read) == data


def test_sack_both_ways() -> None:
    (read,) = theirs(wire.build_sack(99, 1000, [(2, 3), (7, 7)], [98]))
    assert (read.cumulative_tsn, read.advertised_rwnd, read.gaps, read.duplicates) == (99, 1000, [(2, 3), (7, 7)], [98])
    assert ours(read) == wire.Sack(99, 1000, [(2, 3), (7, 7)])


def test_init_and_init_ack_both_ways() -> None:
    for cookie in (None, b"cookie!"):
        init = wire.Init(5, 1 << 20, 1024, 1000, 77, True, True, cookie)
        (read,) = theirs(wire.build_init(init))
        assert isinstance(read, other.InitChunk if cookie is None else other.InitAckChunk)
        assert (read.initiate_tag, read.outbound_streams, read.inbound_streams, read.initial_tsn) == (5, 1024, 1000, 77)
        assert (0xC000, b"") in read.params
        assert (0x8008, bytes([130, 192])) in read.params
        assert ours(read) == init


def test_forward_tsn_both_ways() -> None:
    (read,) = theirs(wire.build_forward_tsn(12, [(1, 2), (3, 4)]))
    assert (read.cumulative_tsn, read.streams) == (12, [(1, 2), (3, 4)])
    assert ours(read) == wire.ForwardTsn(12, [(1, 2), (3, 4)])


def test_stream_resets_both_ways() -> None:
    (read,) = theirs(wire.build_reset_request(1, 2, 3, [4, 5, 6]))
    parameter = other.StreamResetOutgoingParam.parse(read.params[0][1])
    assert (parameter.request_sequence, parameter.response_sequence, parameter.last_tsn) == (1, 2, 3)
    assert parameter.streams == [4, 5, 6]
    assert ours(read) == wire.Reconfig([wire.ResetRequest(1, 3, [4, 5, 6])])
    (read,) = theirs(wire.build_response(9, 1))
    parameter = other.StreamResetResponseParam.parse(read.params[0][1])
    assert (parameter.response_sequence, parameter.result) == (9, 1)
    assert ours(read) == wire.Reconfig([wire.Response(9, 1)])


def test_several_chunks_in_one_packet() -> None:
    body = wire.build_sack(1, 2, [], []) + wire.build_data(wire.Data(1, 1, 1, 53, 3, b"abc"))
    assert [type(chunk) for chunk in theirs(body)] == [other.SackChunk, other.DataChunk]
    assert [type(chunk) for chunk in wire.parse_packet(kit.seal(body))[1]] == [wire.Sack, wire.Data]


@pytest.mark.parametrize(
    ("unknown", "goes_on"), [(0x3F, False), (0x7F, False), (0xBF, True), (0xFF, True)], ids=["00", "01", "10", "11"]
)
def test_unknown_chunks_end_the_packet_or_are_skipped(unknown: int, goes_on: bool) -> None:
    """RFC 9260 section 3.2: the highest bit says so."""
    _, chunks = wire.parse_packet(kit.seal(kit.data(1) + kit.chunk(unknown, b"?") + kit.data(2)))
    assert [chunk.tsn for chunk in chunks if isinstance(chunk, wire.Data)] == ([1, 2] if goes_on else [1])


@pytest.mark.parametrize(("kind", "seen"), [(0x8001, True), (0xC001, True), (0x4001, False), (0x0FFF, False)])
def test_unknown_parameters_of_an_init(kind: int, seen: bool) -> None:
    fixed = pack("!IIHHI", 1, 1, 1, 1, 1)
    body = fixed + pack("!HHI", kind, 8, 0) + pack("!HH", 0xC000, 4)
    (init,) = wire.parse_packet(kit.seal(kit.chunk(1, body)))[1]
    assert isinstance(init, wire.Init)
    assert init.forward_tsn is seen


MALFORMED = {
    "nothing": b"",
    "half a chunk head": b"\0\0\0",
    "zero length": kit.chunk(0, b"", length=0),
    "length below a head": kit.chunk(0, b"", length=3),
    "length past the end": kit.chunk(11, b"", length=8),
    "data without data": kit.chunk(0, pack("!IHHI", 1, 0, 0, 53)),
    "data cut short": kit.chunk(0, b"1234"),
    "second chunk cut": kit.data(1) + b"\3\0",
    "too many chunks": kit.chunk(11, b"") * 101,
    "zero-length parameter": kit.chunk(1, pack("!IIHHI", 1, 1, 1, 1, 1) + pack("!HH", 0xC000, 0)),
    "parameter of length 3": kit.chunk(1, pack("!IIHHI", 1, 1, 1, 1, 1) + pack("!HH", 0xC000, 3)),
    "parameter past the end": kit.chunk(130, pack("!HHI", 13, 80, 0)),
    "half a parameter": kit.chunk(4, b"\0\1"),
    "zero-length heartbeat info": kit.chunk(4, pack("!HH", 1, 0)),
    "zero-length error cause": kit.chunk(9, pack("!HH", 3, 0)),
    "init too short": kit.chunk(1, b"short"),
    "init with tag 0": kit.chunk(1, pack("!IIHHI", 0, 1, 1, 1, 1)),
    "init without streams": kit.chunk(1, pack("!IIHHI", 1, 1, 0, 1, 1)),
    "init ack without a cookie": kit.chunk(2, pack("!IIHHI", 1, 1, 1, 1, 1)),
    "init ack with an empty cookie": kit.chunk(2, pack("!IIHHI", 1, 1, 1, 1, 1) + pack("!HH", 7, 4)),
    "sack too short": kit.chunk(3, b"12345678"),
    "sack with gaps it does not have": kit.chunk(3, pack("!IIHH", 1, 1, 500, 0)),
    "sack with duplicates it does not have": kit.chunk(3, pack("!IIHH", 1, 1, 0, 65535)),
    "gap that ends before it begins": kit.sack(1, (5, 4)),
    "gap at zero": kit.sack(1, (0, 4)),
    "gaps that overlap": kit.sack(1, (5, 9), (9, 12)),
    "gaps that descend": kit.sack(1, (8, 9), (2, 3)),
    "forward tsn too short": kit.chunk(192, b""),
    "forward tsn with half a stream": kit.chunk(192, b"\0\0\0\1\0\0"),
    "reset too short": kit.chunk(130, pack("!HHII", 13, 12, 1, 2)),
    "reset with half a stream": kit.chunk(130, pack("!HHIII", 13, 17, 1, 2, 3) + b"\0"),
    "response too short": kit.chunk(130, pack("!HHI", 16, 8, 1)),
    "unknown re-configuration": kit.chunk(130, pack("!HHI", 99, 8, 1)),
}


@pytest.mark.parametrize("chunks", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_packets_have_a_code_and_change_nothing(chunks: bytes) -> None:
    with pytest.raises(SctpRefused) as refusal:
        wire.parse_packet(kit.seal(chunks))
    assert refusal.value.code is Refused.MALFORMED
    end = kit.established()
    before = end._inbound.cumulative
    assert end.receive(kit.seal(kit.data(kit.PEER_TSN) + chunks), 0) == [] or not chunks
    assert end.flush(0) == []
    assert end._inbound.cumulative == before or not chunks
    assert end.refused[Refused.MALFORMED] == bool(chunks)


def test_a_wrong_checksum() -> None:
    packet = bytearray(kit.seal(kit.data(1)))
    packet[-1] ^= 1
    with pytest.raises(SctpRefused) as refusal:
        wire.parse_packet(bytes(packet))
    assert refusal.value.code is Refused.CHECKSUM
