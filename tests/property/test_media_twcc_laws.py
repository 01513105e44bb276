"""Transport-wide feedback: what came is told, once each build, whatever the order and the losses."""

from hypothesis import given
from hypothesis import strategies as st

from media.core import rtcp
from media.core.rtcp import MalformedRtcp, TransportFeedback
from media.core.twcc import TICK_US, ArrivalRecorder
from tests.feedback_report import parse_feedback

arrivals = st.lists(
    st.tuples(st.integers(-3, 40), st.sampled_from([0, 100, 250, 4_000, 70_000, 9_000_000])), min_size=1, max_size=200
)


def told(packets: list[bytes]) -> dict[int, int | None]:
    result: dict[int, int | None] = {}
    for packet in packets:
        (item,) = rtcp.parse(packet)
        assert isinstance(item, TransportFeedback)
        report = parse_feedback(item.fci)
        for seq, at in report.arrivals:
            assert seq not in result  # one build tells each number once
            result[seq] = at
    return result


@given(st.integers(0, 0xFFFF), arrivals)
def test_one_build_tells_every_arrival_and_every_hole(first: int, steps: list[tuple[int, int]]) -> None:
    recorder = ArrivalRecorder()
    came: dict[int, int] = {}
    number, now_us = first, 64_000 * 1_000
    for forward, pause_us in steps:
        number, now_us = number + forward, now_us + pause_us
        recorder.record(number & 0xFFFF, now_us)
        came.setdefault(number, now_us)
    expected = {
        number & 0xFFFF: came[number] // TICK_US * TICK_US if number in came else None
        for number in range(min(came), max(came) + 1)
        if number >= max(came) - 0x7FFF
    }
    assert told(recorder.build(1, 2)) == expected


@given(st.lists(st.lists(st.integers(0, 120), max_size=30), max_size=8))
def test_over_many_builds_every_arrival_is_told(batches: list[list[int]]) -> None:
    """Late packets included, as long as they are inside the window."""
    recorder = ArrivalRecorder()
    now_us = 64_000 * 1_000
    ever: dict[int, int | None] = {}
    came: set[int] = set()
    for batch in batches:
        for number in batch:
            now_us += 1_000
            recorder.record(number, now_us)
            came.add(number)
        for seq, at in told(recorder.build(1, 2)).items():
            if at is not None:
                assert ever.get(seq) in (None, at)
            ever[seq] = at if at is not None else ever.get(seq)
    assert {seq for seq, at in ever.items() if at is not None} == came
    assert set(ever) == (set(range(min(came), max(came) + 1)) if came else set())


@given(st.binary(max_size=60), st.integers(0, 0xFFFF))
def test_no_bytes_raise_anything_else(body: bytes, statuses: int) -> None:
    for fci in (body, body[:2] + statuses.to_bytes(2, "big") + body[4:]):
        try:
            report = parse_feedback(fci)
        except MalformedRtcp:
            continue
        assert len(report.arrivals) == int.from_bytes(fci[2:4], "big")


@given(st.integers(0, 0xFFFF), st.lists(arrivals, max_size=6))
def test_a_run_is_told_in_the_same_bytes_as_packet_by_packet(first: int, batches: list[list[tuple[int, int]]]) -> None:
    """In order or not: keeping what came in order as a run is no other feedback."""
    recorder, twin = ArrivalRecorder(), _OneByOne()
    number, now_us = first, 64_000 * 1_000
    for batch in batches:
        for forward, pause_us in batch:
            number += 1 if forward % 3 else forward
            now_us += pause_us
            recorder.record(number & 0xFFFF, now_us)
            twin.record(number & 0xFFFF, now_us)
        assert recorder.pending == twin.pending
        assert recorder.build(1, 2) == twin.build(1, 2)


class _OneByOne(ArrivalRecorder):
    """Takes the general way always."""

    __slots__ = ()

    def _build_run(self) -> bytes | None:
        return None
