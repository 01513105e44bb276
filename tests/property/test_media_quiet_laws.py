"""Passing over calm feedback changes no decision: the same packets, looked at one by one, lead to the same estimate.

Each run of `tests.line_simulation` has a twin that is told everything the line is told and may pass over nothing.
"""

from copy import copy
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core import rtcp
from media.core.congestion.delay import Usage
from media.core.congestion.estimator import LineEstimator
from media.core.congestion.sent import NO_CLUSTER
from media.core.rtcp import MalformedRtcp
from media.core.twcc import ArrivalRecorder, _read_chunks, read_feedback, read_whole
from tests.line_simulation import Simulation
from tests.netem import Link
from tests.property.test_media_line_laws import CASES, Case

LOWERED = 0.97
"""An estimate that falls below this share of the last one is a decision."""


class Twins(Simulation):
    """A line, and beside it an estimator that takes the long way every time."""

    def __init__(self, down: Link, up: Link, *, seed: int) -> None:
        super().__init__(down, up, seed=seed)
        self.twin = LineEstimator()
        self.line_says: list[tuple[int, Usage]] = []
        """(estimate, usage) after each feedback."""
        self.twin_says: list[tuple[int, Usage]] = []
        self.apart: list[float] = []
        self.calm = 0

    def _send(self, sizes: list[int], cluster: int = NO_CLUSTER) -> None:
        self.twin.sent.note(self.twin.sent.next_number & 0xFFFF, sizes, self._now_us, cluster)
        super()._send(sizes, cluster)

    def _tick(self, value: object) -> None:
        self.twin.tick(self._now_us)
        super()._tick(value)

    def _decide(self) -> None:
        super()._decide()
        self.twin.probes = copy(self.line.estimator.probes)
        self.twin.probes._meter = copy(self.twin.probes._meter)

    def _told(self, value: object) -> None:
        for item in rtcp.parse(value):  # type: ignore[arg-type]
            assert isinstance(item, rtcp.TransportFeedback)
            self.twin.on_feedback(read_feedback(item.fci), self._now_us)
            urgent = self.line.on_feedback(item.fci, self._now_us)
            line, twin = self.line.estimator, self.twin
            self.calm += bool(line._spell._kept)
            self.line_says.append((line.estimate_bps, line.usage))
            self.twin_says.append((twin.estimate_bps, twin.usage))
            self.apart.append(abs(line.estimate_bps / twin.estimate_bps - 1))
            sent, others = line.sent, twin.sent
            assert (sent.received, sent.lost, sent.late) == (others.received, others.lost, others.late)
            assert line.round_trip_us == twin.round_trip_us
            assert line.lost == twin.lost
            if urgent:
                self._decide()


def play(case: Case, seed: int) -> Twins:
    down = Link(seed, case.rate(), case.queue_us, case.delay_us, case.jitter_us, case.loss())
    twins = Twins(down, Link(seed + 1, delay_us=case.delay_us, loss=case.back()), seed=seed)
    twins.run(60, competitor=case.competitor)
    return twins


def decisions(says: list[tuple[int, Usage]]) -> list[int]:
    """Feedbacks with which the estimate fell."""
    return [at for at in range(1, len(says)) if says[at][0] < LOWERED * says[at - 1][0]]


@pytest.mark.parametrize("name", CASES)
def test_the_estimate_falls_with_the_same_feedback_or_the_next(name: str) -> None:
    twins = play(CASES[name], 5)
    ours = decisions(twins.line_says)
    for at in decisions(twins.twin_says):
        assert any(at - 1 <= mine <= at + 1 for mine in ours), f"feedback {at}"
    for at, (_, usage) in enumerate(twins.twin_says[:-1]):
        if usage is Usage.OVER:
            assert Usage.OVER in (twins.line_says[at][1], twins.line_says[at + 1][1]), f"overuse {at}"
    assert max(twins.apart) < 0.1


def test_on_a_line_that_carries_everything_nearly_all_feedback_is_passed_over() -> None:
    twins = play(CASES["10 Mbit/s"], 5)
    assert twins.calm > 0.95 * len(twins.line_says)


# ------------------------------------------------------------- reading


chunks = st.one_of(
    st.tuples(st.just("run"), st.integers(1, 40)),
    st.tuples(st.just("ones"), st.just(14)),
    st.tuples(st.just("twos"), st.just(7)),
)
WORDS = {"ones": 0xBFFF, "twos": 0xD555}


@given(st.lists(chunks, min_size=1, max_size=5), st.integers(0, 30), st.integers(0, 0xFFFF), st.data())
def test_whole_feedback_is_known_in_whatever_chunks(
    parts: list[tuple[str, int]], shorter: int, base: int, data: st.DataObject
) -> None:
    total = sum(count for _, count in parts)
    statuses = max(1, total - min(shorter, parts[-1][1] - 1))
    words = [WORDS.get(kind, 0x2000 | count) for kind, count in parts]
    kind, count = parts[-1]
    if kind != "run":  # what is behind the last status is zero
        bits = (count - total + statuses) * (1 if kind == "ones" else 2)
        words[-1] &= 0xFFFF & -1 << (14 - bits)
    deltas = data.draw(st.binary(min_size=statuses, max_size=statuses))
    head = base.to_bytes(2, "big") + statuses.to_bytes(2, "big") + (77 << 8 | 5).to_bytes(4, "big")
    fci = head + b"".join(word.to_bytes(2, "big") for word in words) + deltas
    assert read_whole(fci) == (base, statuses, 77, deltas)
    assert read_whole(fci[:-1]) is None

    mixed = bytearray(fci)
    flipped = data.draw(st.integers(8, 7 + 2 * len(words)))
    mixed[flipped] ^= 1 << data.draw(st.integers(0, 7))
    agree(bytes(mixed))


@given(st.binary(max_size=60))
def test_what_is_taken_for_whole_reads_so_the_long_way(fci: bytes) -> None:
    agree(fci)


def agree(fci: bytes) -> None:
    """`read_whole` is right or silent: status by status everything came, a small step after another."""
    whole = read_whole(fci)
    if whole is None:
        return
    offsets, symbols, position = _read_chunks(fci, whole.statuses)
    assert offsets == list(range(whole.statuses))
    assert set(symbols) == {1}
    assert whole.deltas == fci[position : position + whole.statuses]
    assert list(read_feedback(fci).ticks) == list(accumulate(whole.deltas))


@given(st.lists(st.integers(0, 0xFF), min_size=1, max_size=40), st.integers(0, 3), st.integers(1, 30))
def test_told_twice_or_out_of_turn_counts_once(steps: list[int], lost: int, later: int) -> None:
    """What was passed over is remembered as received."""
    estimator, recorder = LineEstimator(), ArrivalRecorder()
    now_us = 64_000_000
    bodies: list[bytes] = []
    for index, step in enumerate(steps):
        now_us += 1_000 * step
        number = estimator.sent.next_number
        estimator.sent.note(number & 0xFFFF, [900] * 3, now_us)
        for offset in range(3):
            if not lost or index % (lost + 1) or offset != 1:
                recorder.record(number + offset & 0xFFFF, now_us + 20_000 + offset)
        for packet in recorder.build(1, 2):
            (item,) = rtcp.parse(packet)
            assert isinstance(item, rtcp.TransportFeedback)
            bodies.append(item.fci)
            estimator.hear(item.fci, now_us + 40_000)
    before = estimator.sent.received, estimator.sent.lost, estimator.sent.late
    for body in bodies[-later:]:
        estimator.hear(body, now_us + 5_000_000)
    assert (estimator.sent.received, estimator.sent.lost, estimator.sent.late) == before


def test_broken_feedback_does_not_end_a_spell() -> None:
    estimator = LineEstimator()
    with pytest.raises(MalformedRtcp):
        estimator.hear(bytes.fromhex("00010001000000006001"), 0)
    assert estimator.ignored == 0
