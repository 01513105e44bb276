"""A line that is away for a while, or loses much: live messages never wait for a timer, and the line is not flooded.

Frames as the relay sends them to a viewer, ten a second, never resent, over the seeded emulator; beside them the
reliable questions and answers of ``ctl``.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from struct import pack, unpack

import pytest

from media.aio.data import LIVE_LIFE_MS
from media.core.sctp import outbound
from media.core.sctp.outbound import RTO_MAX_US, RTO_MIN_US
from tests.netem import Link, cut, random_loss
from tests.sctp_kit import Line, Pair, kinds

FRAME_US = 100_000
AWAY_US = 2_000_000
FRAME_BYTES = 660
LIVE, CTL = 0, 1
DATA = 0


@dataclass
class Show:
    """One run: a frame every 100 ms, and what came of them."""

    pair: Pair
    gone_us: int
    back_us: int
    life_us: int | None = None
    sent_us: dict[int, int] = field(default_factory=dict)
    came_us: dict[int, int] = field(default_factory=dict)

    def play(self, until_us: int, *, live: bool = True, ctl: bool = True) -> None:
        """Let time pass; `live` frames and `ctl` questions both ways are sent."""
        first, second = self.pair.ends
        due_us = self.pair.now_us
        while self.pair.now_us < until_us:
            if self.pair.now_us >= due_us:
                due_us += FRAME_US
                number = len(self.sent_us)
                if live:
                    frame = pack("!I", number) + bytes(FRAME_BYTES - 4)
                    expires_us = None if self.life_us is None else self.pair.now_us + self.life_us
                    assert first.association.send(LIVE, 53, frame, ordered=False, max_resends=0, expires_us=expires_us)
                    self.sent_us[number] = self.pair.now_us
                if ctl and number % 5 == 0:
                    for end in (first, second):
                        assert end.association.send(CTL, 53, bytes(150))
            if not self.pair.step(due_us):
                self.pair.now_us = due_us
            for message in second.messages:
                if message.stream == LIVE:
                    self.came_us[unpack("!I", message.payload[:4])[0]] = self.pair.now_us
            second.messages.clear()

    def data_packets(self) -> list[int]:
        """When packets with data of the sender left while the line was away."""
        return [at for at, side, packet in self.pair.sent if not side and self.is_away(at) and DATA in kinds([packet])]

    def is_away(self, at_us: int) -> bool:
        return self.gone_us <= at_us < self.back_us


def show(delay_us: int, phase_us: int, *, seed: int = 1, jitter_us: int = 0) -> Show:
    """Connected, and live for four seconds when the line goes."""
    gone_us = 4_000_000 + phase_us
    loss = cut(gone_us, gone_us + AWAY_US)
    one, other = (Link(seed=seed + n, delay_us=delay_us, jitter_us=jitter_us, loss=loss) for n in range(2))
    pair = Pair(Line(), links=(one, other))
    pair.connect()
    return Show(pair, gone_us, gone_us + AWAY_US)


@pytest.mark.parametrize("delay_us", [1_000, 15_000, 30_000, 50_000])
@pytest.mark.parametrize("ctl", [False, True])
def test_the_first_frame_after_an_outage_comes_at_once(delay_us: int, ctl: bool) -> None:
    """Within a frame's interval and a round trip, whenever the line went; and so does every one after it."""
    for phase_us in range(0, 1_000_000, 70_000):
        run = show(delay_us, phase_us, seed=phase_us, jitter_us=delay_us // 10)
        run.play(run.back_us + 1_000_000, ctl=ctl)
        first_us = min(at for at in run.came_us.values() if at > run.back_us)
        assert first_us - run.back_us <= FRAME_US + 2 * delay_us
        after = [number for number, at in run.sent_us.items() if run.back_us <= at < run.back_us + 800_000]
        assert len(after) >= 7
        if delay_us > 30_000:
            continue  # a round trip of about a frame's interval: a few frames still wait at the end
        assert all(run.came_us[number] - run.sent_us[number] <= FRAME_US + 2 * delay_us for number in after)


@pytest.mark.parametrize("delay_us", [100_000, 150_000])
def test_a_far_viewer_sees_the_first_frame_a_round_trip_and_a_way_after(delay_us: int) -> None:
    """There a round trip is longer than a frame, and one packet a round trip is what may be tried."""
    for phase_us in range(0, 1_000_000, 170_000):
        run = show(delay_us, phase_us)
        run.play(run.back_us + 1_000_000)
        first_us = min(at for at in run.came_us.values() if at > run.back_us)
        assert first_us - run.back_us <= 3 * delay_us + FRAME_US


@pytest.mark.parametrize("delay_us", [100_000, 150_000])
def test_a_far_viewer_is_not_shown_the_outage_first(delay_us: int) -> None:
    """What has not left within its life is given up, so what is taken after the line's return comes in time."""
    for phase_us in range(0, 1_000_000, 170_000):
        run = show(delay_us, phase_us)
        run.life_us = LIVE_LIFE_MS * 1000
        run.play(run.back_us + 2_000_000)
        after = {number: at for number, at in run.came_us.items() if run.sent_us[number] >= run.back_us}
        assert len(after) >= 15
        assert all(at - run.sent_us[number] <= run.life_us + delay_us for number, at in after.items())


@pytest.mark.parametrize("delay_us", [30_000, 150_000])
def test_a_dead_line_gets_one_packet_a_round_trip(delay_us: int) -> None:
    """RFC 9260 section 7.2.3 and RFC 8085 section 3.1.3, from the timeout on."""
    run = show(delay_us, 0)
    run.play(run.back_us, ctl=False)
    left = [at for at in run.data_packets() if at > run.gone_us + 1_000_000]
    timeouts = 2
    assert 3 <= len(left) <= (run.back_us - left[0]) // (2 * delay_us) + 1 + timeouts
    assert len(set(left)) == len(left), "one at a time"


def test_a_peer_that_never_acknowledges_is_left_to_the_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as much is outstanding as may be, nothing could leave with a probe: none is sent, nor looked for."""
    monkeypatch.setattr(outbound, "MAX_OUTSTANDING", 64)
    run = show(15_000, 0)
    run.back_us = run.gone_us + 120_000_000
    for end in range(2):
        assert run.pair.links is not None
        run.pair.links[end].loss = cut(run.gone_us, run.back_us)
    run.life_us = LIVE_LIFE_MS * 1000
    run.play(run.gone_us + 20_000_000)
    assert len(run.pair.ends[0].association._outbound._sent) == 64
    before, until_us = len(run.pair.sent), run.pair.now_us + 20_000_000
    run.play(until_us)
    left = {at for at, side, _ in run.pair.sent[before:] if not side}
    assert len(left) <= 20_000_000 // RTO_MAX_US + 1


def test_what_must_arrive_waits_for_the_timer() -> None:
    """RFC 9260 section 6.3.3: without live messages the timer alone sends into a dead line, and backs off."""
    run = show(30_000, 0)
    run.play(run.back_us, live=False)
    left = [at for at in run.data_packets() if at > run.gone_us + RTO_MIN_US]
    assert 2 <= len(left) <= 3
    gaps = [later - earlier for earlier, later in pairwise(left)]
    assert all(gap >= 2 * RTO_MIN_US for gap in gaps)


def test_an_outage_does_not_count_as_a_round_trip() -> None:
    """RFC 9260 section 6.3.1 C5: what was given up may never have come, so it tells nothing of the path."""
    run = show(30_000, 0)
    run.play(run.gone_us + 50_000, ctl=False)
    run.play(run.back_us + 3_000_000, live=False, ctl=False)  # what tells of the lost frame goes alone
    outbound = run.pair.ends[0].association._outbound
    assert not outbound._sent
    assert outbound.round_trip.smoothed_us < 150_000
    run.play(run.back_us + 3_500_000, ctl=False)
    assert outbound.round_trip.rto_us == RTO_MIN_US
    assert not outbound.window.timed_out


def test_the_peers_window_is_not_used_up_by_what_was_lost() -> None:
    """RFC 9260 section 6.2.1 C."""
    run = show(30_000, 0)
    run.play(run.gone_us)
    outbound = run.pair.ends[0].association._outbound
    before = outbound.peer_window_bytes
    run.play(run.back_us)
    assert before - outbound.peer_window_bytes <= 3 * 1_200


@pytest.mark.parametrize(("loss", "late"), [(0.05, 0.0), (0.2, 0.02), (0.3, 0.06)])
def test_frames_do_not_wait_for_those_that_were_lost(loss: float, late: float) -> None:
    """Whatever a lossy line does to the window, what arrives arrives soon; acknowledgements are lost as often."""
    waits_us: list[int] = []
    for seed in range(3):
        pair = Pair(Line(), links=(Link(delay_us=30_000), Link(delay_us=30_000)))
        pair.connect()
        one, other = (Link(seed=2 * seed + n, delay_us=30_000, loss=random_loss(loss)) for n in range(2))
        pair.links = one, other
        run = Show(pair, 0, 0)
        run.play(30_000_000, ctl=False)
        assert len(run.came_us) >= (0.95 - loss) * len(run.sent_us)
        waits_us += [at - run.sent_us[number] for number, at in run.came_us.items()]
    assert sum(wait_us > 30_000 + FRAME_US for wait_us in waits_us) <= late * len(waits_us)
    assert max(waits_us) <= 500_000
