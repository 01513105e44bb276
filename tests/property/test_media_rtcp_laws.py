"""RTCP: what is built is read back, and no bytes break the reader."""

from hypothesis import given
from hypothesis import strategies as st

from media.core import rtcp, twcc
from media.core.rtcp import MalformedRtcp, Nack, ReceiverReport, Remb, ReportBlock, TransportFeedback

word = st.integers(0, 0xFFFF_FFFF)
block = st.builds(
    ReportBlock,
    ssrc=word,
    fraction_lost=st.integers(0, 255),
    cumulative_lost=st.integers(-0x80_0000, 0x7F_FFFF),
    highest_seq=word,
    jitter=word,
    lsr=word,
    dlsr=word,
)


@given(word, st.lists(block, max_size=70))
def test_reports_survive(ssrc: int, blocks: list[ReportBlock]) -> None:
    items = rtcp.parse(rtcp.build_receiver_report(ssrc, blocks))
    read = [found for item in items if isinstance(item, ReceiverReport) for found in item.blocks]
    assert read == blocks


@given(st.integers(0, 0xFFFF), st.sets(st.integers(0, 600), min_size=1, max_size=200))
def test_nack_names_exactly_what_is_lost_oldest_first(start: int, offsets: set[int]) -> None:
    lost = [(start + offset) & 0xFFFF for offset in sorted(offsets)]
    wire = rtcp.build_nack(1, 2, list(reversed(lost)))
    assert rtcp.parse(wire) == [Nack(1, 2, tuple(lost))]


@given(st.integers(0, 10**12), st.lists(word, max_size=20))
def test_remb_is_never_more_than_asked_and_close_to_it(bitrate_bps: int, ssrcs: list[int]) -> None:
    (item,) = rtcp.parse(rtcp.build_remb(1, bitrate_bps, ssrcs))
    assert isinstance(item, Remb)
    assert item.ssrcs == tuple(ssrcs)
    assert item.bitrate_bps <= bitrate_bps <= item.bitrate_bps * (1 + 2**-17) + 1


@given(st.text(max_size=60), word)
def test_cname_survives(cname: str, ssrc: int) -> None:
    if len(cname.encode()) <= 255:
        assert rtcp.parse(rtcp.build_sdes(ssrc, cname)) == [rtcp.Sdes(((ssrc, cname),))]


headers = st.builds(
    lambda count, kind, words, body: bytes((0x80 | count, kind)) + words.to_bytes(2, "big") + body,
    st.integers(0, 63),
    st.integers(200, 207),
    st.integers(0, 12),
    st.binary(max_size=60),
)
valid = st.builds(
    lambda lost, blocks: rtcp.build_nack(1, 2, lost) + rtcp.build_receiver_report(3, blocks) + rtcp.build_sdes(4, "x"),
    st.lists(st.integers(0, 100), min_size=1),
    st.lists(block, max_size=2),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    wire = bytearray(draw(valid))
    for position, byte in draw(st.lists(st.tuples(st.integers(0, len(wire) - 1), st.integers(0, 255)), max_size=4)):
        wire[position] = byte
    return bytes(wire[: draw(st.integers(0, len(wire)))])


@given(st.binary(max_size=120) | headers | damaged())
def test_no_bytes_raise_anything_else(wire: bytes) -> None:
    try:
        items = rtcp.parse(wire)
        for item in items:
            if isinstance(item, TransportFeedback):
                twcc.read_feedback(item.fci)
    except MalformedRtcp:
        pass
