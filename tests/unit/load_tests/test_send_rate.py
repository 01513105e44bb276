"""What a simulated camera makes of feedback: it fills a good line, does not flood a thin one, and comes back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.plan.behaviour import CAMERAS
from load_tests.plan.line import LINES, Direction, Line
from load_tests.session.rate import LOOK_S, SOUND_BPS, START_BPS, Heard, SendRate, allocate

LAYERS = CAMERAS["720p"]
PACKET_BYTES = 1_100
FEEDBACK_S = 0.1


class Camera:
    """A sender at its rate over one direction of a line, told ten times a second what came; no clock but its own."""

    def __init__(self, line: Line, layers: tuple = LAYERS) -> None:  # type: ignore[type-arg]
        self.rate = SendRate(layers, 0.0)
        self.line = line
        self.way = Direction(line, line.up_bps, "s")
        self.now_s = 0.0
        self.sent = self.lost = 0
        self._owed = 0.0
        self._flying: list[tuple[float, float]] = []
        self._told = self._arrived = 0
        self._delays: list[float] = []

    def play(self, seconds: float, line: Line | None = None) -> list[int]:
        """So long; how many layers were sent at each look."""
        if line is not None:
            self.way.line, self.way.rate_bps = line, line.up_bps
        layers, looks, tells = [], 0, 0
        for step in range(1, round(seconds * 1000) + 1):
            self.now_s += 0.001
            self._owed += (sum(self.rate.bitrates) + SOUND_BPS) / 8 / 1000
            while self._owed >= PACKET_BYTES:
                self._owed -= PACKET_BYTES
                self.sent += 1
                at_s = self.way.admit(self.now_s, PACKET_BYTES)
                self.lost += at_s is None
                self._flying.append((self.now_s, at_s if at_s is not None else float("inf")))
            if step / 1000 >= (tells + 1) * FEEDBACK_S:
                tells += 1
                self._tell()
            if step / 1000 >= (looks + 1) * LOOK_S:
                looks += 1
                self._look()
                layers.append(sum(one > 0 for one in self.rate.bitrates))
        return layers

    def _tell(self) -> None:
        due = [one for one in self._flying if one[0] < self.now_s - 0.5 or one[1] <= self.now_s]
        self._flying = [one for one in self._flying if one not in due]
        self._told += len(due)
        came = [at_s - sent_s for sent_s, at_s in due if at_s <= self.now_s]
        self._arrived += len(came)
        self._delays += [one * 1e6 + 5e9 for one in came]  # clocks that do not agree

    def _look(self) -> None:
        mean = sum(self._delays) / max(1, len(self._delays))
        heard = Heard(self._told, self._arrived, self._arrived * PACKET_BYTES, mean, min(self._delays, default=0.0))
        self.rate.look(self.now_s, heard)
        self._told = self._arrived = 0
        self._delays = []


def test_on_a_good_line_everything_is_sent_within_two_seconds() -> None:
    camera = Camera(LINES["hospital"])
    assert sum(camera.rate.bitrates) <= START_BPS  # as a browser begins
    camera.play(2)
    assert camera.rate.bitrates == [one.bitrate_bps for one in LAYERS]
    assert camera.play(30)[-1] == 3
    assert not camera.lost


@pytest.mark.parametrize(("name", "at_most_bps"), [("poor", 1_500_000), ("mobile", 5_000_000)])
def test_a_thin_line_is_not_flooded(name: str, at_most_bps: int) -> None:
    camera = Camera(LINES[name])
    camera.play(10)
    camera.sent = camera.lost = 0
    counts = camera.play(30)
    assert camera.sent * PACKET_BYTES * 8 / 30 < 1.05 * at_most_bps
    assert camera.lost / camera.sent < LINES[name].loss + 0.03  # what the line loses anyhow, and hardly more
    assert min(counts) >= 1  # the smallest picture is always sent


def test_the_largest_layer_goes_first_and_comes_back() -> None:
    good, thin = Line(delay_ms=20, up_bps=10_000_000), Line(delay_ms=20, up_bps=700_000)
    camera = Camera(good)
    assert camera.play(5)[-1] == 3
    camera.play(2, thin)
    counts = camera.play(60)
    assert counts.count(3) < 0.05 * len(counts)  # it is tried now and then, ever more rarely
    assert counts[-1] >= 1
    assert camera.play(90, good)[-1] == 3


@given(st.floats(0, 5e6), st.lists(st.sampled_from([0, 500_000]), min_size=3, max_size=3))
def test_layers_are_spent_from_below(rate_bps: float, before: list[int]) -> None:
    given_bps = allocate(LAYERS, rate_bps, before)
    on = [bool(one) for one in given_bps]
    assert on == sorted(on, reverse=True)  # none is left out below one that is sent
    assert on[0]
    assert all(one <= layer.bitrate_bps for one, layer in zip(given_bps, LAYERS, strict=True))
    assert sum(given_bps) <= max(rate_bps - SOUND_BPS, LAYERS[0].bitrate_bps * 0.2) + 1


def test_an_estimate_of_the_server_is_a_ceiling() -> None:
    rate = SendRate(LAYERS, 0.0)
    for step in range(1, 40):
        heard = Heard(100, 100, 60_000, 5_000.0, 5_000.0, remb_bps=400_000)
        rate.look(step * 0.2, heard)
        assert rate.rate_bps <= 400_000


@given(st.integers(0, 2**32))
def test_whatever_is_heard_the_rate_stays_within_its_bounds(seed: int) -> None:
    chance, rate, now_s = random.Random(seed), SendRate(LAYERS, 0.0), 0.0
    for _ in range(30):
        now_s += chance.choice([0.0, 0.2, 5.0])
        told = chance.choice([0, 1, 500])
        arrived = chance.randint(0, told)
        delay = chance.choice([-1e9, 0.0, 1e5, 1e12])
        rate.look(now_s, Heard(told, arrived, arrived * 900, delay, delay - 10, chance.choice([0, 1, 10**12])))
        assert 0 < rate.rate_bps <= rate.most_bps
        assert rate.bitrates[0] > 0
