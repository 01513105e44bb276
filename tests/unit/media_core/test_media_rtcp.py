"""RTCP as bytes, written out by hand from the RFCs."""

import pytest

from media.core import rtcp
from media.core.rtcp import (
    Bye,
    Dlrr,
    DlrrBlock,
    Fir,
    MalformedRtcp,
    Nack,
    Pli,
    ReceiverReport,
    Remb,
    ReportBlock,
    Rrtr,
    Sdes,
    SenderReport,
    TransportFeedback,
)

BLOCK = ReportBlock(
    ssrc=0x01020304,
    fraction_lost=64,
    cumulative_lost=-2,
    highest_seq=0x0001_0005,
    jitter=7,
    lsr=0xAABBCCDD,
    dlsr=0x10000,
)
BLOCK_HEX = "01020304 40fffffe 00010005 00000007 aabbccdd 00010000"


def test_sender_report_layout() -> None:
    """RFC 3550 section 6.4.1."""
    wire = bytes.fromhex("81c8000c 11223344 0102030405060708 00000064 00000003 000004d2" + BLOCK_HEX)
    assert rtcp.build_sender_report(0x11223344, 0x0102030405060708, 100, 3, 1234, [BLOCK]) == wire
    assert rtcp.parse(wire) == [SenderReport(0x11223344, 0x0102030405060708, 100, 3, 1234, (BLOCK,))]


def test_receiver_report_without_blocks_opens_a_compound() -> None:
    assert rtcp.build_receiver_report(1, []) == bytes.fromhex("80c90001 00000001")


def test_more_than_31_blocks_need_several_reports() -> None:
    """RFC 3550 section 6.4.2: the count has five bits."""
    items = rtcp.parse(rtcp.build_receiver_report(9, [BLOCK] * 33))
    assert items == [ReceiverReport(9, (BLOCK,) * 31), ReceiverReport(9, (BLOCK,) * 2)]


@pytest.mark.parametrize(("lost", "stored"), [(1 << 30, 0x7F_FFFF), (-(1 << 30), -0x80_0000)])
def test_cumulative_loss_sticks_at_24_bits(lost: int, stored: int) -> None:
    """RFC 3550 A.3."""
    block = ReportBlock(1, 0, lost, 0, 0, 0, 0)
    (report,) = rtcp.parse(rtcp.build_receiver_report(1, [block]))
    assert isinstance(report, ReceiverReport)
    assert report.blocks[0].cumulative_lost == stored


@pytest.mark.parametrize(
    ("cname", "wire"),
    [
        ("ab", "81ca0003 00000005 01026162 00000000"),  # the null octet needs a word of its own
        ("a", "81ca0002 00000005 01016100"),
        ("", "81ca0002 00000005 01000000"),
    ],
)
def test_sdes_ends_with_at_least_one_null(cname: str, wire: str) -> None:
    """RFC 3550 section 6.5."""
    assert rtcp.build_sdes(5, cname) == bytes.fromhex(wire)
    assert rtcp.parse(bytes.fromhex(wire)) == [Sdes(((5, cname),))]


def test_sdes_of_two_sources_with_other_items() -> None:
    chunk_one = bytes.fromhex("00000001 0201780000000000"[:-8])  # NAME "x", then the end
    chunk_two = bytes.fromhex("00000002 0101790000000000"[:-8])
    wire = bytes.fromhex("82ca0004") + chunk_one + chunk_two
    assert rtcp.parse(wire) == [Sdes(((2, "y"),))]


def test_nack_packs_sixteen_followers_into_one_pair() -> None:
    """RFC 4585 section 6.2.1: PID, then a bit for each of the 16 that follow."""
    wire = rtcp.build_nack(1, 2, [100, 101, 116, 117])
    assert wire == bytes.fromhex("81cd0004 00000001 00000002 00648001 00750000")
    assert rtcp.parse(wire) == [Nack(1, 2, (100, 101, 116, 117))]


def test_nack_goes_over_the_wrap() -> None:
    """65535 and 0 are one pair; aiortc's class raises here."""
    wire = rtcp.build_nack(1, 2, [65535, 0, 1])
    assert wire == bytes.fromhex("81cd0003 00000001 00000002 ffff0003")
    assert rtcp.parse(wire) == [Nack(1, 2, (65535, 0, 1))]


def test_nack_is_indifferent_to_order_and_repetition() -> None:
    assert rtcp.build_nack(1, 2, [1, 65535, 0, 65535]) == rtcp.build_nack(1, 2, [65535, 0, 1])


def test_pli_and_bye() -> None:
    assert rtcp.build_pli(1, 2) == bytes.fromhex("81ce0002 00000001 00000002")
    assert rtcp.parse(rtcp.build_pli(1, 2) + bytes.fromhex("82cb0002 00000003 00000004")) == [Pli(1, 2), Bye((3, 4))]


def test_fir_names_its_targets_in_the_entries() -> None:
    """RFC 5104 section 4.3.1: the media SSRC of the header is zero."""
    wire = bytes.fromhex("84ce0004 00000001 00000000 00000002 07000000")
    assert rtcp.parse(wire) == [Fir(1, ((2, 7),))]


def test_remb_mantissa_and_exponent() -> None:
    """draft-alvestrand-rmcat-remb-03 section 2.2: 4 Mbit/s is 250000 * 2^4."""
    wire = rtcp.build_remb(1, 4_000_000, [5])
    assert wire == bytes.fromhex("8fce0005 00000001 00000000 52454d42 0113d090 00000005")
    assert rtcp.parse(wire) == [Remb(1, 4_000_000, (5,))]


def test_remb_rounds_down() -> None:
    (item,) = rtcp.parse(rtcp.build_remb(1, 0x7FFFF, []))
    assert item == Remb(1, 0x7FFFE, ())


def test_transport_feedback_is_not_a_nack() -> None:
    """fmt 15 of RTPFB; aiortc reads it as a list of lost packets."""
    fci = bytes.fromhex("0001000200000000 20020101")
    assert rtcp.parse(rtcp.build_transport_feedback(1, 2, fci)) == [TransportFeedback(1, 2, fci)]


def test_receiver_reference_time_and_its_answer() -> None:
    """RFC 3611 sections 4.4, 4.5."""
    assert rtcp.build_rrtr(7, 0x0102030405060708) == bytes.fromhex("80cf0004 00000007 04000002 0102030405060708")
    answer = rtcp.build_dlrr(1, [DlrrBlock(7, 0x03040506, 0x8000)])
    assert answer == bytes.fromhex("80cf0005 00000001 05000003 00000007 03040506 00008000")
    assert rtcp.parse(answer) == [Dlrr(1, (DlrrBlock(7, 0x03040506, 0x8000),))]
    assert rtcp.parse(rtcp.build_rrtr(7, 9)) == [Rrtr(7, 9)]


def test_unknown_types_and_formats_are_skipped() -> None:
    """RFC 3550 section 6.1."""
    app = bytes.fromhex("80cc0002 00000001 41424344")
    unknown_psfb = bytes.fromhex("8fce0003 00000001 00000002 58585858")
    unknown_xr = bytes.fromhex("80cf0002 00000001 2a000000")
    assert rtcp.parse(app + unknown_psfb + unknown_xr + rtcp.build_pli(1, 2)) == [Pli(1, 2)]


def test_padding_of_the_last_packet_is_cut_off() -> None:
    wire = bytes.fromhex("a1cd0004 00000001 00000002 00050000 00000004")
    assert rtcp.parse(wire) == [Nack(1, 2, (5,))]


@pytest.mark.parametrize("missing", [0, 1, 2, 3])
def test_transport_feedback_as_libwebrtc_fills_it_up(missing: int) -> None:
    """Its padding is one to three bytes, which RFC 3550 does not allow."""
    fci = bytes.fromhex("0005000c 00000107 200c") + bytes(range(1, 11 + 4 - missing))
    filled = fci + bytes(max(0, missing - 1)) + bytes((missing,) if missing else ())
    wire = bytearray(rtcp.build_transport_feedback(1, 2, filled))
    wire[0] |= 0x20 if missing else 0
    assert rtcp.parse(wire) == [TransportFeedback(1, 2, fci)]
    assert rtcp.read_lone_feedback(bytes(wire)) == fci


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "8fcd0002 00000001 000000",  # cut off
        "8fcd0003 00000001 00000002",  # longer than the datagram
        "afcd0002 00000001 00000002",  # padding of more than the body
        "afcd0003 00000001 00000002 00000000",  # padding of nothing
        "4fcd0002 00000001 00000002",  # version 1
        "81cd0003 00000001 00000002 00050000",  # NACK
        "80c90001 00000001 8fcd0002 00000001 00000002",  # not alone
    ],
)
def test_what_is_not_feedback_alone_is_left_to_the_parser(wire: str) -> None:
    assert rtcp.read_lone_feedback(bytes.fromhex(wire)) is None


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "80c9",
        "80c90001",  # body missing
        "40c90001 00000001",  # version 1
        "81c90001 00000001",  # a block announced, none there
        "80c90000",  # RR without SSRC
        "81cd0002 00000001 00000002",  # NACK of nothing
        "84ce0003 00000001 00000000 00000002",  # half a FIR entry
        "8fce0003 00000001 00000000 52454d42",  # REMB without a rate
        "8fce0004 00000001 00000000 52454d42 05000000",  # five SSRCs announced
        "81ca0002 00000001 01ff6100",  # CNAME longer than the packet
        "81ca0001 00000001",  # chunk without its end
        "80cf0002 00000001 05000009",  # DLRR longer than the packet
        "80cf0003 00000001 05000001 00000000",  # a third of a DLRR block
        "a1cd0003 00000001 00000002 000500ff",  # more padding than packet
        "a0c90001 00000000 80c90001 00000001",  # padding inside a compound
        "82cb0001 00000001",  # BYE of two, one there
    ],
)
def test_contradictions_are_refused(wire: str) -> None:
    with pytest.raises(MalformedRtcp):
        rtcp.parse(bytes.fromhex(wire))


def test_one_broken_packet_condemns_the_compound() -> None:
    """Nothing is believed of a datagram that contradicts itself."""
    with pytest.raises(MalformedRtcp):
        rtcp.parse(rtcp.build_pli(1, 2) + b"\x80\xc9\x00\x05")
