"""Whatever the line does, SCTP keeps its promises; whatever the peer sends, it stays within its bounds."""

from random import Random
from struct import pack

from hypothesis import given, settings
from hypothesis import strategies as st

from media.core.sctp import Message, wire
from media.core.sctp.inbound import MAX_MESSAGE_BYTES, WINDOW_BYTES, Inbound
from media.core.sctp.outbound import MAX_OUTSTANDING
from media.core.sctp.wire import FIRST, LAST, UNORDERED, Data
from tests import sctp_kit as kit
from tests.sctp_kit import Line, Pair

TSNS = st.one_of(st.sampled_from([0, 1, 2**31 - 2, 2**32 - 4, 2**32 - 1]), st.integers(0, 2**32 - 1))
LINES = st.builds(
    Line,
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    doubling=st.sampled_from([0.0, 0.1]),
    delay_us=st.sampled_from([(1_000, 1_000), (1_000, 40_000), (0, 300_000)]),
    cut_us=st.sampled_from([(0, 0), (0, 0), (100_000, 1_200_000), (700_000, 3_000_000)]),
)
SENDS = st.tuples(st.integers(0, 60), st.integers(0, 2**32))
"""How many messages, and the seed of what they are: lists of drawn tuples stay too short to lose anything."""

RELIABLE, UNORDERED_STREAM, NEVER_RESENT, ONCE_RESENT, SHORT_LIVED, ORDERED_ONCE = range(6)
PROMISES = {
    RELIABLE: {},
    UNORDERED_STREAM: {"ordered": False},
    NEVER_RESENT: {"ordered": False, "max_resends": 0},
    ONCE_RESENT: {"ordered": False, "max_resends": 1},
    ORDERED_ONCE: {"max_resends": 0},
}


@settings(max_examples=60, deadline=None)
@given(LINES, TSNS, TSNS, SENDS)
def test_every_stream_keeps_its_promise(line: Line, first_tsn: int, second_tsn: int, sends: tuple[int, int]) -> None:
    """Reliable: all, once; ordered: never out of order; unreliable: at most once. All unchanged."""
    pair = Pair(line, first_tsn, second_tsn)
    pair.connect()
    given_: dict[tuple[int, int], list[bytes]] = {}
    count, seed = sends
    random = Random(seed)
    for number in range(count):
        side, stream = random.randrange(2), random.randrange(6)
        size = random.choice((random.randint(1, 60), random.randint(1150, 1180), random.randint(1, 9000)))
        pause_us = random.choice((0, 0, random.randint(0, 60_000)))
        payload = pack("!H", number)[:size] + Random(number).randbytes(max(0, size - 2))
        promise = dict(PROMISES.get(stream, {"expires_us": pair.now_us + 50_000}))
        assert pair.ends[side].association.send(stream, 53, payload, **promise)  # type: ignore[arg-type]
        given_.setdefault((side, stream), []).append(payload)
        until_us = pair.now_us + pause_us
        while pair.now_us < until_us and pair.step(until_us):
            pass
    pair.settle()
    for side in (0, 1):
        receiver = pair.ends[1 - side]
        for stream in range(6):
            wanted = given_.get((side, stream), [])
            came = [message.payload for message in receiver.messages if message.stream == stream]
            if stream == RELIABLE:
                assert came == wanted
            elif stream == UNORDERED_STREAM:
                assert sorted(came) == sorted(wanted)
            else:
                left = list(wanted)
                for payload in came:
                    left.remove(payload)  # raises when it came twice or was never sent
            if stream in (ORDERED_ONCE, SHORT_LIVED):
                position = iter(wanted)
                assert all(payload in position for payload in came), "in order"
            if not line.loss and not line.cut_us[1] and line.delay_us[0] == line.delay_us[1]:
                assert len(came) == len(wanted), "a clean line loses nothing"
    for end in pair.ends:
        association = end.association
        assert not association._inbound.held_bytes, "nothing is held once all has come or was given up"
        assert not association._inbound.has_gaps
        assert not association._outbound._sent
        assert not association._outbound._queued_bytes
        assert not association._outbound.flight_bytes
        assert not association.refused


@settings(max_examples=30, deadline=None)
@given(LINES, st.lists(st.integers(0, 3), max_size=12))
def test_streams_close_and_open_again(line: Line, closes: list[int]) -> None:
    """Every reset ends, at both ends, and the stream counts from zero again."""
    pair = Pair(line)
    pair.connect()
    sender, receiver = pair.ends
    for number, stream in enumerate(closes):
        assert sender.association.send(stream, 53, pack("!H", number))
        assert not sender.association.reset(stream)
        pair.run(lambda: len(sender.reset_done) > number)  # noqa: B023 - called before the next round
        assert receiver.reset_by_peer == closes[: number + 1]
        assert not sender.association._is_closing(stream)
    assert [message.payload for message in receiver.messages] == [pack("!H", n) for n in range(len(closes))]
    assert sender.reset_done == closes


@settings(max_examples=100, deadline=None)
@given(TSNS, st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=20), st.integers(0, 2**32))
def test_fragments_in_any_order_give_the_messages(tsn: int, shape: list[tuple[int, bool]], seed: int) -> None:
    """Each once; ordered ones in order; nothing is held at the end; the gaps are what is missing."""
    chunks, wanted, number = [], [], 0
    for pieces, unordered in shape:
        payload = Random(len(chunks)).randbytes(pieces * 3)
        wanted.append((unordered, payload))
        for piece in range(pieces):
            flags = FIRST * (piece == 0) | LAST * (piece == pieces - 1) | UNORDERED * unordered
            part = payload[3 * piece : 3 * piece + 3]
            chunks.append(Data(tsn + len(chunks) & 0xFFFFFFFF, 1, 0 if unordered else number, 53, flags, part))
        number += not unordered
    inbound = Inbound(tsn)
    shuffled = chunks + chunks[::3]
    Random(seed).shuffle(shuffled)
    came: list[Message] = []
    arrived: set[int] = set()
    for chunk in shuffled:
        came += inbound.data(chunk)
        arrived.add(chunk.tsn - tsn & 0xFFFFFFFF)
        row = next(n for n in range(len(chunks) + 1) if n not in arrived)
        base = row - 1
        named = {base + n for first, last in inbound.gaps() for n in range(first, last + 1)}
        assert named == {n for n in arrived if n > base}
    assert sorted(m.payload for m in came) == sorted(payload for _, payload in wanted)
    ordered = [payload for unordered, payload in wanted if not unordered]
    assert [m.payload for m in came if m.payload in ordered] == ordered or len(set(ordered)) < len(ordered)
    assert inbound.held_bytes == 0
    assert not inbound.has_gaps


JUNK_CHUNK = st.one_of(
    st.builds(
        lambda tsn, payload, stream, number, flags: kit.data(
            kit.PEER_TSN + tsn & 0xFFFFFFFF, payload, stream=stream, number=number, flags=flags
        ),
        st.integers(-3, 40),
        st.binary(min_size=1, max_size=20),
        st.sampled_from([0, 1, 1023, 1024, 65535]),
        st.integers(0, 4),
        st.integers(0, 15),
    ),
    st.builds(
        lambda tsn, *gaps: kit.sack(kit.TSN + tsn, *gaps), st.integers(-2, 8), st.tuples(*[st.integers(1, 9)] * 2)
    ),
    st.builds(
        lambda tsn, streams: kit.chunk(
            192, pack("!I", kit.PEER_TSN + tsn) + b"".join(pack("!HH", *s) for s in streams)
        ),
        st.integers(-2, 60),
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), max_size=3),
    ),
    st.builds(
        lambda number, last, ids: wire.build_reset_request(kit.PEER_TSN + number, 0, kit.PEER_TSN + last, ids),
        st.integers(-2, 3),
        st.integers(-2, 40),
        st.lists(st.integers(0, 2000), max_size=4),
    ),
    st.builds(wire.build_response, st.integers(kit.TSN - 1, kit.TSN + 2), st.integers(0, 7)),
    st.builds(
        lambda kind, body, flags: kit.chunk(kind, body, flags=flags),
        st.integers(0, 255),
        st.binary(max_size=40),
        st.integers(0, 255),
    ),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.lists(JUNK_CHUNK, max_size=4), st.booleans()), max_size=40))
def test_an_authenticated_peer_can_send_anything(steps: list[list[bytes] | bool]) -> None:
    """Nothing raises, what is held and answered stays bounded, and the timer never stands in the past for ever."""
    end = kit.established()
    now_us = 0
    for step in steps:
        if isinstance(step, bool):
            end.send(0, 53, bytes(3000) if step else b"x", max_resends=0 if step else None)
            end.reset(1)
            now_us += 300_000
            end.tick(now_us)
        else:
            end.receive(kit.seal(b"".join(step)), now_us)
        assert len(end.flush(now_us)) <= 2 + 5 + 4
        assert end._inbound.held_bytes < WINDOW_BYTES + 3 * MAX_MESSAGE_BYTES
        assert end._inbound.held_bytes >= 0
        assert len(end._outbound._sent) <= MAX_OUTSTANDING + 1
        assert 0 <= end._outbound.flight_bytes <= 8_000
        assert len(end._inbound._streams) <= 1024
        assert len(end._inbound._streams) <= 1024
        deadline_us = end.deadline_us
        assert deadline_us is None or deadline_us > now_us


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_taken(junk: bytes) -> None:
    end = kit.established()
    for packet in (junk, kit.seal(junk), kit.seal(junk, 0), kit.seal(junk, kit.PEER_TAG)):
        end.receive(packet, 0)
        end.flush(0)
