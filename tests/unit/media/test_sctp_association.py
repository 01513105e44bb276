"""One end of SCTP with a peer whose packets are made by hand: handshake, timers, limits, and what hostility gets."""

from collections.abc import Callable
from struct import pack

import pytest

from media.core.sctp import Association, Closed, Message, Opened, Refused, ResetDone, State, StreamsReset, wire
from media.core.sctp.association import ACK_DELAY_US, COOKIE_LIFE_US, MAX_REPLIES
from media.core.sctp.inbound import MAX_MESSAGE_BYTES, MAX_RANGES, WINDOW_BYTES
from media.core.sctp.outbound import MAX_OUTSTANDING, MAX_QUEUED_BYTES, RTO_INITIAL_US, RTO_MAX_US
from tests import sctp_kit as kit
from tests.sctp_kit import TAG, TSN, Line, Pair, chunk, data, kinds, sack, seal

PEER = kit.PEER_TSN


def sent(packets: list[bytes]) -> list[wire.Chunk]:
    return [chunk for packet in packets for chunk in wire.parse_packet(packet)[1]]


# ---------------------------------------------------------------- handshake


def test_both_ends_begin_and_neither_is_confused() -> None:
    """RFC 8841 section 9.3: INITs cross."""
    pair = Pair(Line())
    pair.connect()
    assert [end.opened for end in pair.ends] == [1, 1]
    assert all(not end.association.refused for end in pair.ends)
    assert pair.now_us < RTO_INITIAL_US, "nothing had to be sent twice"


def test_one_end_begins_late() -> None:
    """A client may open its first channel long after its media: the INITs sent meanwhile were heard by nobody."""
    pair = Pair(Line())
    deaf, late = pair.ends[0].association, pair.ends[1].association
    deaf.connect(0)
    while deaf.deadline_us is not None:
        pair.now_us = deaf.deadline_us
        deaf.tick(pair.now_us)
        deaf.flush(pair.now_us)
    assert pair.now_us > 20_000_000
    late.connect(pair.now_us)
    pair.run(lambda: all(end.opened for end in pair.ends))


def test_init_is_sent_again_less_and_less_often() -> None:
    end = Association(TAG, TSN, kit.KEY)
    end.connect(0)
    times = []
    assert kinds(end.flush(0)) == [1]
    while (due := end.deadline_us) is not None:
        end.tick(due)
        assert kinds(end.flush(due)) == [1]
        times.append(due)
    assert times[:3] == [1_000_000, 3_000_000, 7_000_000]
    assert len(times) == 8


def test_an_init_flood_keeps_nothing_and_is_answered_within_bounds() -> None:
    end = kit.established()
    for number in range(1000):
        end.receive(kit.init(tag=number + 1), 0)
    assert end.flush(0) == []
    assert end.refused[Refused.RESTART] == 1000
    end = Association(TAG, TSN, kit.KEY)
    for number in range(1000):
        end.receive(kit.init(tag=number + 1), 0)
    assert kinds(end.flush(0)) == [2] * MAX_REPLIES
    assert end.refused[Refused.FLOOD] == 1000 - MAX_REPLIES
    assert end.state is State.IDLE


def test_cookies_cannot_be_made_changed_or_kept() -> None:
    end = Association(TAG, TSN, kit.KEY)
    end.receive(kit.init(), 0)
    cookie = kit.cookie_of(end.flush(0)[0])
    for bit in range(8 * len(cookie)):
        forged = bytearray(cookie)
        forged[bit // 8] ^= 1 << bit % 8
        assert end.receive(seal(chunk(10, bytes(forged))), 0) == []
    for forged in (b"", cookie[:-1], cookie + b"\0", bytes(len(cookie)), cookie[:20]):
        assert end.receive(seal(chunk(10, bytes(forged))), 0) == []
    assert end.refused[Refused.COOKIE] == 8 * len(cookie) + 5
    assert end.flush(0) == []
    late = COOKIE_LIFE_US + 1
    assert end.receive(seal(chunk(10, cookie)), late) == []
    assert kinds(end.flush(late)) == [9]
    assert end.receive(seal(chunk(10, cookie)), 5) == [Opened()]
    end.flush(5)
    assert end.receive(seal(chunk(10, cookie)), 6) == [], "a second time it is only acknowledged"
    assert kinds(end.flush(6)) == [11]


def test_a_restart_is_refused_and_the_association_lives_on() -> None:
    end = kit.established()
    other = Association(TAG, TSN, kit.KEY)
    other.receive(kit.init(tag=777, tsn=9), 0)
    stranger = kit.cookie_of(other.flush(0)[0])
    assert end.receive(seal(chunk(10, stranger)), 0) == []
    assert end.refused[Refused.RESTART] == 1
    assert end.receive(seal(data(PEER, b"still")), 0) == [Message(0, 53, b"still")]


def test_a_repeated_init_of_the_same_peer_is_answered() -> None:
    end = kit.established()
    end.receive(kit.init(), 0)
    assert kinds(end.flush(0)) == [2]


def test_wrong_tags_change_nothing() -> None:
    end = kit.established()
    for kind in (0, 3, 6, 7, 10, 11, 192):
        body = {0: pack("!IHHI", PEER, 0, 0, 53) + b"x", 3: pack("!IIHH", TSN, 1, 0, 0), 192: pack("!I", PEER)}
        end.receive(seal(chunk(kind, body.get(kind, b"")), TAG + 1), 0)
    assert end.refused[Refused.TAG] == 7
    assert end.state is State.ESTABLISHED
    assert end.flush(0) == []


def test_goodbyes() -> None:
    end = kit.established()
    assert end.receive(seal(chunk(6, b"")), 0) == [Closed("aborted")]
    assert not end.send(0, 53, b"x")
    assert end.deadline_us is None
    end = kit.established()
    assert end.receive(seal(chunk(6, b"", flags=1), kit.PEER_TAG), 0) == [Closed("aborted")]
    end = kit.established()
    assert end.receive(seal(chunk(7, pack("!I", TSN - 1))), 0) == [Closed("shutdown")]
    assert kinds(end.flush(0)) == [8]
    end = kit.established()
    end.close()
    assert kinds(end.flush(0)) == [6]
    end.close()
    assert end.flush(0) == []


# ---------------------------------------------------------------- receiving


def test_every_second_packet_is_acknowledged_a_single_one_late() -> None:
    end = kit.established()
    end.receive(seal(data(PEER)), 0)
    assert end.flush(0) == []
    assert end.deadline_us == ACK_DELAY_US
    end.receive(seal(data(PEER + 1, number=1)), 10)
    assert kinds(end.flush(10)) == [3]
    end.receive(seal(data(PEER + 2, number=2)), 20)
    end.tick(20 + ACK_DELAY_US)
    (late,) = sent(end.flush(20 + ACK_DELAY_US))
    assert isinstance(late, wire.Sack)
    assert late.cumulative == PEER + 2
    assert end.deadline_us is None


@pytest.mark.parametrize(
    "chunks", [data(PEER + 1), data(PEER - 1), data(PEER, flags=3 | 8)], ids=["hole", "old", "now"]
)
def test_what_is_acknowledged_at_once(chunks: bytes) -> None:
    end = kit.established()
    end.receive(seal(chunks), 0)
    assert kinds(end.flush(0)) == [3]


def test_an_answer_takes_the_acknowledgement_along() -> None:
    end = kit.established()
    end.receive(seal(data(PEER)), 0)
    assert end.send(0, 53, b"answer")
    packets = end.flush(0)
    assert len(packets) == 1
    assert kinds(packets) == [3, 0]


def test_small_messages_share_a_packet() -> None:
    end = kit.established()
    for _ in range(20):
        assert end.send(0, 53, bytes(30))
    assert len(end.flush(0)) == 1


def test_streams_out_of_range_are_dropped_and_do_not_block() -> None:
    end = kit.established()
    events = end.receive(seal(data(PEER, stream=1024) + data(PEER + 1, stream=65535) + data(PEER + 2, b"ok")), 0)
    assert events == [Message(0, 53, b"ok")]
    assert end.refused[Refused.STREAM] == 2
    assert not end._inbound.held_bytes
    assert not end.send(1024, 53, b"x")


def test_wide_gaps_are_not_held() -> None:
    end = kit.established()
    for offset in (20_000, 65_536, 1 << 30):
        end.receive(seal(data(PEER + offset)), 0)
    assert end.refused[Refused.WINDOW] == 3
    assert not end._inbound.has_gaps


def test_a_comb_of_holes_is_bounded() -> None:
    end = kit.established()
    for number in range(5000):
        end.receive(seal(data(PEER + 1 + 2 * number, flags=7)), 0)
        end.flush(0)
    assert len(end._inbound._firsts) == MAX_RANGES
    assert end.refused[Refused.WINDOW] == 5000 - MAX_RANGES


def test_fragments_that_never_end_end_the_association() -> None:
    end = kit.established()
    events = []
    for number in range(400):
        events += end.receive(seal(data(PEER + number, bytes(1100), flags=2 if not number else 0)), 0)
        if events:
            break
    assert events == [Closed("endless")]
    assert number == MAX_MESSAGE_BYTES // 1100
    assert 6 in kinds(end.flush(0))


def test_tiny_fragments_that_never_end_are_bounded_too() -> None:
    end = kit.established()
    number = 0
    while end.state is State.ESTABLISHED:
        end.receive(seal(data(PEER + number, b"x", flags=2 if not number else 0)), 0)
        number += 1
        assert number < 20_000
    assert end._inbound.held_bytes < WINDOW_BYTES + 3 * MAX_MESSAGE_BYTES


def test_messages_that_wait_for_one_that_never_comes() -> None:
    """All TSNs are there and number 0 of the stream is not: no honest sender does that."""
    end = kit.established()
    number = 0
    while end.state is State.ESTABLISHED:
        end.receive(seal(data(PEER + number, bytes(1000), number=number + 1 & 0x7FFF)), 0)
        number += 1
        assert number < 20_000
    assert end.refused[Refused.ENDLESS] == 1


def test_fragments_that_do_not_fit_together_are_dropped() -> None:
    end = kit.established()
    begin, middle, last, whole = 2, 0, 1, 3
    packets = [
        data(PEER, b"a", flags=begin),
        data(PEER + 1, b"b", flags=whole, stream=1),
        data(PEER + 2, b"c", flags=begin, stream=2),
        data(PEER + 3, b"d", flags=middle, stream=3),
        data(PEER + 4, b"e", flags=last, stream=2),
        data(PEER + 6, b"g", flags=last, stream=4),
        data(PEER + 5, b"f", flags=last, stream=4),
    ]
    events = [event for packet in packets for event in end.receive(seal(packet), 0)]
    assert events == [Message(1, 53, b"b")]
    assert end.refused[Refused.FRAGMENT] >= 3
    assert end._inbound.cumulative & 0xFFFFFFFF == PEER + 6


def test_forward_tsn_drops_what_can_never_be_whole() -> None:
    end = kit.established()
    for packet in (
        data(PEER, b"a", flags=2),
        data(PEER + 3, b"d", flags=1, number=1),
        data(PEER + 4, b"e", number=2),
        data(PEER + 6, b"g", flags=4 | 2),
        data(PEER + 8, b"i", flags=4 | 1),
    ):
        assert end.receive(seal(packet), 0) == []
    events = end.receive(seal(chunk(192, pack("!IHH", PEER + 3, 0, 1))), 0)
    assert events == [Message(0, 53, b"e")]
    assert end.receive(seal(data(PEER + 7, b"h", flags=4) + data(PEER + 5, b"f", flags=7)), 0) == [
        Message(0, 53, b"ghi"),
        Message(0, 53, b"f"),
    ]
    assert not end._inbound.held_bytes


def test_a_heartbeat_comes_back_and_a_flood_of_them_is_bounded() -> None:
    end = kit.established()
    beat = chunk(4, pack("!HHI", 1, 8, 42))
    end.receive(seal(beat), 0)
    (answer,) = end.flush(0)
    assert answer[16:] == beat[4:]
    for _ in range(100):
        end.receive(seal(beat), 0)
    assert len(kinds(end.flush(0))) == MAX_REPLIES
    assert end.refused[Refused.FLOOD] == 100 - MAX_REPLIES


# ---------------------------------------------------------------- sending


def test_a_sack_for_what_was_never_sent_is_refused() -> None:
    end = kit.established()
    end.send(0, 53, b"x")
    end.flush(0)
    for bad in (sack(TSN + 1), sack(TSN + 0x7FFFFFFE), sack(TSN - 1, (2, 2)), sack(TSN - 1, (1, 60_000))):
        end.receive(seal(bad), 0)
    assert end.refused[Refused.UNSENT] == 4
    assert end._outbound.flight_bytes == 1
    end.receive(seal(sack(TSN - 1, (1, 1))), 0)
    assert end._outbound.flight_bytes == 0
    end.receive(seal(sack(TSN - 1)), 0)
    assert end._outbound.flight_bytes == 1, "taken back: it is missing again"
    end.receive(seal(sack(TSN)), 0)
    assert end.deadline_us is None


def test_a_peer_that_never_acknowledges_costs_a_bounded_flight() -> None:
    end = kit.established()
    now_us = 0
    packets = 0
    for _ in range(2000):
        end.send(0, 53, bytes(800), ordered=False, max_resends=0)
        packets += len(end.flush(now_us))
        now_us += 100_000
        end.tick(now_us)
    assert len(end._outbound._sent) <= MAX_OUTSTANDING
    assert end._outbound.flight_bytes <= 8_000
    while end.send(0, 53, bytes(100_000)):
        pass
    assert end._outbound._queued_bytes <= MAX_QUEUED_BYTES


def test_a_closed_window_is_probed_with_one_chunk() -> None:
    end = kit.established()
    end.send(0, 53, b"first")
    end.flush(0)
    end.receive(seal(sack(TSN, window=0)), 0)
    for _ in range(5):
        end.send(0, 53, bytes(1164))
    assert kinds(end.flush(0)) == [0]
    assert end.flush(0) == []
    end.receive(seal(sack(TSN + 1, window=1 << 20)), 0)
    assert len(kinds(end.flush(0))) > 1


def test_at_most_four_packets_leave_at_once() -> None:
    end = kit.established()
    end._outbound.window.congestion = 100_000
    for _ in range(50):
        end.send(0, 53, bytes(1164))
    assert len(end.flush(0)) == 5  # the window may be overrun by less than a packet (RFC 9260 section 6.1 B)


def test_streams_take_turns() -> None:
    end = kit.established()
    end.send(0, 53, bytes(3000))
    end.send(0, 53, b"second")
    end.send(1, 53, b"small")
    tsns = [(c.stream, c.flags & 3) for c in sent(end.flush(0)) if isinstance(c, wire.Data)]
    assert tsns == [(0, 2), (0, 0), (0, 1), (1, 3), (0, 3)]


def test_three_reports_send_a_chunk_again_once() -> None:
    end = kit.established()
    for number in range(5):
        end.send(0, 53, bytes([number]) * 700)
        end.flush(0)
    end.receive(seal(sack(TSN)), 0)
    end.flush(0)
    again = []
    for last in (2, 3, 4):
        end.receive(seal(sack(TSN, (2, last) if last < 4 else (2, 3))), 0)
        again.append([c.tsn for c in sent(end.flush(0)) if isinstance(c, wire.Data)])
    assert again == [[], [], []], "the third report names nothing new"
    for number in range(5, 8):
        end.send(0, 53, bytes([number]) * 700)
    end.flush(0)
    end.receive(seal(sack(TSN, (2, 4))), 0)
    assert [c.tsn for c in sent(end.flush(0)) if isinstance(c, wire.Data)][:1] == [TSN + 1]
    end.receive(seal(sack(TSN, (2, 5))), 0)
    assert TSN + 1 not in [c.tsn for c in sent(end.flush(0)) if isinstance(c, wire.Data)]


def test_what_is_not_resent_is_given_up_and_the_peer_told() -> None:
    end = kit.established()
    end.send(0, 53, b"lost", ordered=False, max_resends=0)
    end.flush(0)
    due = end.deadline_us
    assert due is not None
    end.tick(due)
    (forward,) = sent(end.flush(due))
    assert forward == wire.ForwardTsn(TSN, [])
    due = end.deadline_us
    assert due is not None
    end.tick(due)
    assert kinds(end.flush(due)) == [192], "until it is acknowledged"
    end.receive(seal(sack(TSN)), due)
    assert end.deadline_us is None


def test_a_half_sent_message_is_given_up_whole() -> None:
    """The peer has every fragment that was sent; only one more TSN can tell it that the rest will not come."""
    end = kit.established()
    end.send(0, 53, bytes(20_000), expires_us=50_000)
    sent_chunks = [c for c in sent(end.flush(0)) if isinstance(c, wire.Data)]
    last = sent_chunks[-1].tsn
    end.receive(seal(sack(last)), 60_000)
    chunks = sent(end.flush(60_000))
    assert wire.ForwardTsn(last + 1, [(0, 0)]) in chunks
    assert not any(isinstance(c, wire.Data) for c in chunks)
    assert end.waiting_bytes(0) == 0
    end.send(0, 53, b"next")
    (following,) = [c for c in sent(end.flush(60_000)) if isinstance(c, wire.Data)]
    assert (following.tsn, following.number) == (last + 2, 1)


def test_a_message_that_expires_unsent_leaves_no_hole() -> None:
    end = kit.established()
    end._outbound.peer_window_bytes = 0
    end.send(0, 53, b"probe")
    end.flush(0)
    end.send(0, 53, b"late", expires_us=50_000)
    end.receive(seal(sack(TSN)), 60_000)
    assert end.flush(60_000) == []
    end.send(0, 53, b"next")
    (following,) = sent(end.flush(60_000))
    assert isinstance(following, wire.Data)
    assert (following.tsn, following.number) == (TSN + 1, 1)


def test_the_retransmission_timer_backs_off_and_stays_below_its_bound() -> None:
    end = kit.established()
    end.send(0, 53, b"x")
    end.flush(0)
    waits, before = [], 0
    for _ in range(8):
        due = end.deadline_us
        assert due is not None
        end.tick(due)
        assert kinds(end.flush(due)) == [0]
        waits.append(due - before)
        before = due
    assert waits[:3] == [1_000_000, 2_000_000, 4_000_000]
    assert max(waits) == RTO_MAX_US


def test_without_forward_tsn_nothing_is_given_up() -> None:
    end = Association(TAG, TSN, kit.KEY)
    end.receive(seal(chunk(1, pack("!IIHHI", kit.PEER_TAG, 1 << 20, 10, 10, PEER)), 0), 0)
    end.receive(seal(chunk(10, kit.cookie_of(end.flush(0)[0]))), 0)
    end.flush(0)
    end.send(0, 53, b"x", max_resends=0)
    end.flush(0)
    due = end.deadline_us
    assert due is not None
    end.tick(due)
    assert kinds(end.flush(due)) == [0]
    assert not end.send(10, 53, b"x"), "the peer takes ten streams"
    assert end.reset(0), "nor does it know resets"


# ---------------------------------------------------------------- streams end


def test_a_stream_is_reset_when_its_queue_is_empty() -> None:
    end = kit.established()
    for _ in range(10):
        end.send(3, 53, bytes(1000))
    end.flush(0)
    assert not end.reset(3)
    assert not end.send(3, 53, b"x")
    assert 130 not in kinds(end.flush(0))
    acked = TSN
    while end.waiting_bytes(3):
        acked = end._outbound.last_tsn
        end.receive(seal(sack(acked)), 0)
        end.flush(0)
    (request,) = [c for c in sent(end.flush(0)) if isinstance(c, wire.Reconfig)]
    assert request.parameters == [wire.ResetRequest(TSN, TSN + 9, [3])]
    end.receive(seal(wire.build_response(TSN, 6)), 0)
    due = end.deadline_us
    assert due is not None
    end.tick(due)
    assert 130 in kinds(end.flush(due)), "in progress: asked again"
    assert end.receive(seal(wire.build_response(TSN, 1)), due) == [ResetDone([3])]
    assert end.receive(seal(wire.build_response(TSN, 1)), due) == []
    assert end.send(3, 53, b"anew")


def test_the_peers_reset_waits_for_its_data() -> None:
    end = kit.established()
    request = seal(wire.build_reset_request(PEER, 0, PEER + 1, [2]))
    assert end.receive(request, 0) == []
    assert sent(end.flush(0)) == [wire.Reconfig([wire.Response(PEER, 6)])]
    assert end.receive(request, 0) == []
    assert sent(end.flush(0)) == [wire.Reconfig([wire.Response(PEER, 6)])]
    packet = seal(data(PEER, stream=2) + data(PEER + 1, stream=2, number=1))
    assert end.receive(packet, 0)[-1] == StreamsReset([2])
    assert wire.Reconfig([wire.Response(PEER, 1)]) in sent(end.flush(0))
    assert end.receive(seal(data(PEER + 2, b"anew", stream=2)), 0) == [Message(2, 53, b"anew")]
    end.receive(request, 0)
    assert wire.Reconfig([wire.Response(PEER, 1)]) in sent(end.flush(0)), "said again"


@pytest.mark.parametrize(
    ("request_", "result"),
    [
        (lambda: wire.build_reset_request(PEER + 7, 0, PEER - 1, [2]), 5),
        (lambda: chunk(130, pack("!HHIHH", 17, 12, PEER, 100, 0)), 2),
        (lambda: chunk(130, pack("!HHI", 15, 8, PEER)), 2),
        (lambda: chunk(130, pack("!HHI", 14, 8, PEER)), 2),
    ],
    ids=["wrong number", "more streams", "tsn reset", "incoming reset"],
)
def test_declined_reconfigurations(request_: Callable[[], bytes], result: int) -> None:
    end = kit.established()
    assert end.receive(seal(request_()), 0) == []
    ((answer,),) = [c.parameters for c in sent(end.flush(0)) if isinstance(c, wire.Reconfig)]
    assert isinstance(answer, wire.Response)
    assert answer.result == result
