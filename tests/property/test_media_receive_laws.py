"""Reception against a model that keeps everything."""

from hypothesis import given
from hypothesis import strategies as st

from media.core.receive import MAX_NACKS, STALE, WINDOW, ReceiveStream

moves = st.lists(st.one_of(st.integers(-20, 30), st.integers(-500, 500)), max_size=120)


@given(st.integers(0, 0xFFFF), moves)
def test_each_packet_is_forwarded_once_and_counted(first: int, steps: list[int]) -> None:
    """Any order, any duplicates: fresh exactly once each; loss is what never came."""
    stream = ReceiveStream(1, 90_000, nack=True)
    seen: set[int] = set()
    number, packets = first + (1 << 20), 0
    for step in steps:
        number += step
        if seen and not -WINDOW < number - max(seen) <= 3000:
            continue
        fresh = stream.on_packet(number & 0xFFFF, 0, 1, 0) != STALE
        assert fresh == (number not in seen)
        seen.add(number)
        packets += 1
    if seen:
        expected = max(seen) - min(seen) + 1
        block = stream.report_block(0)
        assert block is not None
        assert block.cumulative_lost == expected - packets
        assert block.highest_seq & 0xFFFF == max(seen) & 0xFFFF


@given(st.integers(0, 0xFFFF), st.lists(st.integers(1, 40), max_size=100), st.data())
def test_what_is_asked_for_is_what_is_missing(first: int, steps: list[int], data: st.DataObject) -> None:
    stream = ReceiveStream(1, 90_000, nack=True)
    number = first + (1 << 20)
    came = {number}
    stream.on_packet(number & 0xFFFF, 0, 1, 0)
    for step in steps:
        number += step
        came.add(number)
        stream.on_packet(number & 0xFFFF, 0, 1, 0)
        holes = sorted(set(range(min(came), max(came))) - came)
        if holes and data.draw(st.booleans()):
            repaired = data.draw(st.sampled_from(holes))
            stream.on_repaired(repaired & 0xFFFF)
            came.add(repaired)
    if not stream.take_key_frame_request():
        asked = [seq for _ in range(3) for seq in stream.nacks_due(0, 0)]
        assert asked == [hole & 0xFFFF for hole in sorted(set(range(min(came), max(came))) - came)]


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF), st.integers(0, 10**7)), max_size=200))
def test_any_numbers_leave_it_bounded_and_reportable(packets: list[tuple[int, int, int]]) -> None:
    stream = ReceiveStream(1, 90_000, nack=True)
    now_us = 0
    for seq, timestamp, pause_us in packets:
        now_us += pause_us
        stream.on_packet(seq, timestamp, 1, now_us)
        assert stream.missing <= MAX_NACKS
        stream.nacks_due(now_us, 0)
        block = stream.report_block(now_us)
        assert block is not None
        assert 0 <= block.fraction_lost <= 255
        assert 0 <= block.jitter <= 0xFFFF_FFFF
        assert 0 <= block.highest_seq <= 0xFFFF_FFFF
