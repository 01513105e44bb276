"""Congestion control towards viewers, case by case."""

from itertools import pairwise

import pytest

from media.core.congestion.allocator import (
    FAILED_WITHIN_US,
    LAST_LAYER_BPS,
    UP_HOLD_US,
    UP_MARGIN,
    Allocator,
    Demand,
    Layer,
    guess_bps,
    ladder,
)
from media.core.congestion.delay import DelayDetector, Usage
from media.core.congestion.estimator import FEEDBACK_BURST, MAX_BPS, MIN_BPS, START_BPS, LineEstimator
from media.core.congestion.line import CALM_DECIDE_US, DECIDE_US, ViewerLine
from media.core.congestion.loss import OWN_LOSS_PERIODS, LossBound
from media.core.congestion.pacer import FREE_BURST_BYTES, KEY_FRAME_US, Pacer
from media.core.congestion.probe import PAUSE_US, RESULT_TIMEOUT_US, Probe, ProbeMeter, ProbePlanner
from media.core.congestion.rate import ArrivedRate, DelayRate
from media.core.congestion.sent import NO_CLUSTER, REMEMBERED, SentPackets, Told
from media.core.layers import NOTHING, Offer, Target, View
from media.core.rtcp import MalformedRtcp
from media.core.twcc import ReceivedFeedback, read_feedback

TICK_US = 250
REFERENCE_US = 64_000


def feedback(base: int, came: dict[int, int], statuses: int, reference: int = 100) -> ReceivedFeedback:
    """``came``: offset -> ticks."""
    return ReceivedFeedback(base & 0xFFFF, statuses, 0, reference, list(came), list(came.values()))


# ------------------------------------------------------------- sent


def test_feedback_finds_time_size_and_probe_of_each_packet() -> None:
    sent = SentPackets(first=65_534)
    sent.note(65_534, [1200, 300], 1_000)
    sent.note(0, [500], 2_000, cluster=7)  # the numbers have wrapped

    told = sent.match(feedback(65_534, {0: 0, 2: 8}, 3)).told()

    start_us = told[0].arrive_us
    assert start_us is not None
    assert told == [
        Told(1_000, start_us, 1200, NO_CLUSTER),
        Told(2_000, start_us + 8 * TICK_US, 500, 7),
        Told(-1, None, 300, NO_CLUSTER),
    ]
    assert (sent.received, sent.lost) == (2, 1)


def test_a_packet_told_twice_counts_once_and_a_late_one_is_no_loss() -> None:
    sent = SentPackets()
    sent.note(0, [100, 100, 100], 0)
    assert len(sent.match(feedback(0, {0: 0, 2: 1}, 3)).told()) == 3

    assert sent.match(feedback(0, {0: 0, 2: 1}, 3)).told() == []
    assert sent.match(feedback(1, {0: 5}, 1)).sizes == [100]

    assert (sent.received, sent.lost, sent.late) == (3, 0, 1)


def test_the_reference_time_goes_on_over_its_wrap() -> None:
    sent = SentPackets()
    sent.note(0, [1, 1, 1], 0)
    (before_us,) = sent.match(feedback(0, {0: 0}, 1, 0xFF_FFFF)).arrives
    (after_us,) = sent.match(feedback(1, {0: 0}, 1, 0)).arrives
    (back_us,) = sent.match(feedback(2, {0: 0}, 1, 0xFF_FFFE)).arrives

    assert after_us == before_us + REFERENCE_US
    assert back_us == before_us - REFERENCE_US


def test_numbers_never_sent_or_long_forgotten_are_nothing() -> None:
    sent = SentPackets()
    for number in range(3 * REMEMBERED):
        sent.note(number & 0xFFFF, [10], 0)
    assert sent.match(feedback(3 * REMEMBERED + 5, {0: 0, 1: 0}, 2)).told() == []
    assert sent.unknown == 2
    assert sent.match(feedback(10, {0: 0}, 1)).told() == []


def test_what_is_remembered_is_bounded_by_time_too() -> None:
    sent = SentPackets()
    for number in range(2_000):
        sent.note(number, [10], number * 50_000)  # 20 bursts a second: 2 s are 40
    sends = sent.match(feedback(1_900, {at: at for at in range(100)}, 100)).sends
    assert len(sends) == 41
    assert sends[0] == 1_959 * 50_000


@pytest.mark.parametrize(
    "fci",
    [
        "",
        "00010001000000",  # header cut off
        "0001000100000000",  # no chunk
        "000100010000000020",  # half a chunk
        "00010001000000002001",  # no delta
        "000100010000000040017f",  # half a large delta
        "00010001000000006001",  # reserved symbol in a run
        "0001000700000000ffff",  # reserved symbol in a vector
        "0001000100000000 2000",  # a run of nothing
    ],
)
def test_broken_feedback_is_refused_and_changes_nothing(fci: str) -> None:
    line: ViewerLine[str] = ViewerLine(0)
    line.sent.note(0, [100] * 4, 0)
    with pytest.raises(MalformedRtcp):
        line.on_feedback(bytes.fromhex(fci), 0)
    assert line.estimator.estimate_bps == START_BPS
    assert line.sent.lost == line.sent.received == 0


def test_a_few_bytes_that_claim_65535_losses_cost_a_few_steps() -> None:
    fci = bytes.fromhex("0001ffff00000000") + bytes.fromhex("1fff") * 9
    assert not read_feedback(fci).offsets


# ------------------------------------------------------------- delay, loss, estimate


Columns = tuple[list[int], list[int]]
"""When packets were sent and when they came."""


def stream(count: int, send_step_us: int, arrive_step_us: int) -> Columns:
    return (
        [index * send_step_us for index in range(count)],
        [5_000_000 + index * arrive_step_us for index in range(count)],
    )


@pytest.mark.parametrize(
    ("arrive_step_us", "usage"), [(10_000, Usage.NORMAL), (11_500, Usage.OVER), (10_050, Usage.NORMAL)]
)
def test_delay_that_grows_is_overuse(arrive_step_us: int, usage: Usage) -> None:
    assert DelayDetector().update(*stream(150, 10_000, arrive_step_us)) is usage


def test_a_queue_that_drains_is_underuse() -> None:
    detector = DelayDetector()
    full = stream(120, 10_000, 12_000)
    last = full[1][-1]
    drains = [1_200_000 + i * 10_000 for i in range(90)], [last + 2_000 + i * 8_000 for i in range(90)]
    assert detector.update(*full) is Usage.OVER
    assert detector.update(*drains) is Usage.UNDER


def test_jitter_alone_is_not_overuse() -> None:
    detector = DelayDetector()
    spread = [(index * 7919) % 9_000 for index in range(600)]
    for start in range(0, 600, 10):
        sends = [i * 10_000 for i in range(start, start + 10)]
        arrives = [5_000_000 + i * 10_000 + spread[i] for i in range(start, start + 10)]
        assert detector.update(sends, arrives) is not Usage.OVER


def test_a_viewers_clock_that_jumps_starts_anew() -> None:
    detector = DelayDetector()
    detector.update(*stream(100, 10_000, 10_000))
    sends, arrives = [1_000_000 + i * 10_000 for i in range(100)], [900_000_000 + i * 10_000 for i in range(100)]
    assert detector.update(sends, arrives) is Usage.NORMAL
    assert detector.queue_us == 0


def test_a_decrease_is_given_time_to_be_felt() -> None:
    rate, arrived = DelayRate(2_000_000, MIN_BPS, MAX_BPS), ArrivedRate()
    arrived.bps = 1_000_000
    assert rate.update(Usage.OVER, arrived, 30_000, 50_000, 1_000_000)
    assert rate.bps == 1_200_000  # at most so far in one step while the queue is short
    assert not rate.update(Usage.OVER, arrived, 90_000, 50_000, 1_050_000)  # it cannot be felt yet
    assert not rate.update(Usage.OVER, arrived, 30_000, 50_000, 1_300_000)  # the queue stands, it may be draining
    assert rate.update(Usage.OVER, arrived, 90_000, 50_000, 1_400_000)  # it has grown on
    assert rate.bps == 700_000  # and has to go


def test_an_estimate_that_is_not_used_does_not_grow() -> None:
    rate, arrived = DelayRate(600_000, MIN_BPS, MAX_BPS), ArrivedRate()
    arrived.bps = 500_000
    for step in range(600):
        rate.update(Usage.NORMAL, arrived, 0, 50_000, step * 100_000)
    assert rate.bps == 600_000
    arrived.bps = 1_000_000
    for step in range(600, 700):
        rate.update(Usage.NORMAL, arrived, 0, 50_000, step * 100_000)
    assert rate.bps == 1_110_000


@pytest.mark.parametrize(
    ("queue_us", "least_bps", "most_bps"), [(3_000, 4_750_000, 5_100_000), (30_000, 600_000, 650_000)]
)
def test_what_arrives_without_a_queue_the_line_carries(queue_us: int, least_bps: int, most_bps: int) -> None:
    rate, arrived = DelayRate(600_000, MIN_BPS, MAX_BPS), ArrivedRate()
    arrived.bps = 5_000_000
    for step in range(10):
        rate.update(Usage.NORMAL, arrived, queue_us, 50_000, step * 100_000)
    assert least_bps <= rate.bps <= most_bps, rate.bps


def test_what_was_on_its_way_at_a_decrease_proves_nothing() -> None:
    rate, arrived = DelayRate(2_000_000, MIN_BPS, MAX_BPS), ArrivedRate()
    arrived.bps = 1_800_000
    assert rate.update(Usage.OVER, arrived, 90_000, 50_000, 0)
    for step in range(1, 15):
        rate.update(Usage.NORMAL, arrived, 0, 50_000, step * 100_000)
    assert rate.bps < 0.8 * 1_800_000
    rate.update(Usage.NORMAL, arrived, 0, 50_000, 1_600_000)
    assert rate.bps < 0.8 * 1_800_000  # about what filled the line: found again with small steps


@pytest.mark.parametrize("sent_bps", [4_000_000, 18_000_000, 36_000_000])
def test_a_picture_far_above_the_estimate_does_not_wait_for_ever_on_a_line_that_carries_it(sent_bps: int) -> None:
    """Frames of one size, from one moment to the next, on an empty line: within two seconds nothing is held back."""
    line: ViewerLine[str] = ViewerLine(0)
    line.pacer.least_bps = 4_000_000
    frame, frames_us = 8, 8 * 1100 * 8_000_000 // sent_bps
    arrived: list[int] = []
    first, waiting_since, frame_due_us = 0, 0, 0
    for now_us in range(0, 3_000_000, 1_000):
        released = line.pacer.release(now_us) if line.pacer.waiting else []
        if now_us >= frame_due_us:
            frame_due_us += frames_us
            if line.pacer.passes(frame * 1100, now_us):
                released = released + [1100] * frame
            else:
                for _ in range(frame):
                    line.pacer.offer(1100, 1100, "v", key=False)
        line.sent.take(released, now_us)
        arrived += [now_us // TICK_US] * len(released)
        if not line.pacer.waiting:
            waiting_since = now_us
        if now_us % 50_000 == 0 and arrived:
            ticks = [tick - arrived[0] // 256 * 256 for tick in arrived]
            said = feedback(first, dict(enumerate(ticks)), len(ticks), arrived[0] // 256)
            line.estimator.on_feedback(said, now_us)
            line.pacer.set_estimate(line.estimator.estimate_bps)
            first, arrived = first + len(arrived), []
    assert waiting_since > 2_900_000
    assert line.estimator.estimate_bps > 0.9 * min(sent_bps, MAX_BPS)


def test_loss_lowers_above_a_tenth_holds_between_and_gives_back() -> None:
    bound = LossBound(MIN_BPS, MAX_BPS)
    assert bound.period(0.2, 1_000_000)
    assert bound.bound_bps == 900_000
    assert not bound.period(0.05, 1_000_000)
    assert bound.bound_bps == 900_000
    assert not bound.period(0.0, 1_000_000)
    assert bound.bound_bps == pytest.approx(973_000)


def test_loss_that_is_always_there_is_the_lines_own() -> None:
    bound = LossBound(MIN_BPS, MAX_BPS)
    for _ in range(OWN_LOSS_PERIODS):
        bound.period(0.14, 1_000_000)
    lowered = bound.bound_bps
    assert not bound.period(0.14, 1_000_000)
    assert bound.bound_bps == lowered
    assert bound.period(0.25, 1_000_000)


def test_remb_is_the_estimate_of_who_has_nothing_else() -> None:
    estimator = LineEstimator()
    estimator.on_remb(2_000_000, 0)
    assert estimator.estimate_bps == 2_000_000
    estimator.on_report(0.3, 40_000)
    assert estimator.estimate_bps == 1_700_000
    estimator.tick(11_000_000)
    assert estimator.estimate_bps == START_BPS
    estimator.on_remb(1, 11_000_000)
    assert estimator.estimate_bps == MIN_BPS


def test_silence_of_the_viewer_halves_the_estimate_and_ends_at_the_least() -> None:
    estimator = LineEstimator()
    estimator.sent.note(0, [100], 0)
    estimator.on_feedback(feedback(0, {0: 0}, 1), 20_000)
    for second in range(1, 10):
        estimator.sent.note(second, [100], second * 1_000_000)
        estimator.tick(second * 1_000_000 + 900_000)
        if second == 1:
            assert estimator.estimate_bps == START_BPS // 2
    assert estimator.estimate_bps == MIN_BPS


def test_nothing_sent_nothing_missed() -> None:
    estimator = LineEstimator()
    estimator.sent.note(0, [100], 0)
    estimator.on_feedback(feedback(0, {0: 0}, 1), 20_000)
    for second in range(1, 60):
        estimator.tick(second * 1_000_000)
    assert estimator.estimate_bps == START_BPS


def test_feedback_beyond_its_budget_is_not_read() -> None:
    estimator = LineEstimator()
    for number in range(1_000):
        estimator.sent.note(number, [100], 0)
        estimator.on_feedback(feedback(number, {0: 0}, 1), 1_000)
    assert estimator.sent.received == FEEDBACK_BURST
    assert estimator.ignored == 1_000 - FEEDBACK_BURST


# ------------------------------------------------------------- probes


def cluster(probe: Probe, bottleneck_bps: int, *, lost: int = 0) -> list[Told]:
    told = []
    arrive_us = 0
    for index in range(10):
        size = probe.size_bytes // 10 + 1
        send_us = index * size * 8_000_000 // probe.rate_bps
        arrive_us = max(arrive_us, send_us) + size * 8_000_000 // bottleneck_bps
        told.append(Told(send_us, None if index < lost else arrive_us + 70_000, size, probe.cluster))
    return told


@pytest.mark.parametrize(
    ("bottleneck_bps", "least", "most"), [(50_000_000, 2_000_000, 2_250_000), (1_000_000, 930_000, 960_000)]
)
def test_a_cluster_shows_the_lesser_of_both_rates(bottleneck_bps: int, least: int, most: int) -> None:
    probe = Probe(1, 15_000, 2_000_000)
    meter = ProbeMeter(probe)
    assert meter.update(cluster(probe, bottleneck_bps))
    result = meter.result_bps()
    assert result is not None
    assert least * 0.97 <= result <= most


def test_a_cluster_that_is_mostly_lost_shows_nothing() -> None:
    probe = Probe(1, 15_000, 2_000_000)
    meter = ProbeMeter(probe)
    assert meter.update(cluster(probe, 50_000_000, lost=4))
    assert meter.result_bps() is None


def test_probes_grow_while_they_get_through_and_end_at_what_is_wanted() -> None:
    planner = ProbePlanner()
    estimate, rates = 600_000.0, []
    for step in range(12):
        probe = planner.plan(estimate, int(estimate) + 1, 5_000_000, calm=True, now_us=step * 200_000)
        if probe is None:
            break
        rates.append(probe.rate_bps)
        shown = planner.on_told(cluster(probe, 1_000_000_000), step * 200_000 + 100_000)
        assert shown is not None
        estimate = max(estimate, shown)
        if estimate > 5_000_000:
            break
    assert rates[0] == 1_800_000
    assert all(later > earlier for earlier, later in pairwise(rates))
    assert rates[-1] == 6_000_000


def test_no_probe_without_need_or_calm_or_while_one_is_open() -> None:
    planner = ProbePlanner()
    assert planner.plan(1e6, 0, 5_000_000, calm=True, now_us=0) is None
    assert planner.plan(1e6, 2_000_000, 5_000_000, calm=False, now_us=0) is None
    assert planner.plan(1e6, 2_000_000, 5_000_000, calm=True, now_us=0) is not None
    assert planner.plan(1e6, 2_000_000, 5_000_000, calm=True, now_us=100_000) is None


def test_after_failures_the_pause_doubles() -> None:
    planner = ProbePlanner()
    sent_us, now_us = [], 0
    while now_us < 30_000_000:
        if planner.plan(1e6, 2_000_000, 5_000_000, calm=True, now_us=now_us) is not None:
            sent_us.append(now_us)  # nothing of it is ever heard of
        now_us += 100_000
    pauses = [later - earlier for earlier, later in pairwise(sent_us)]
    assert pauses[0] == PAUSE_US + RESULT_TIMEOUT_US
    assert pauses[1] == 2 * PAUSE_US + RESULT_TIMEOUT_US
    assert len(sent_us) <= 6


# ------------------------------------------------------------- allocation

CAMERA = (
    Offer(0, 320, 180, (80_000, 120_000)),
    Offer(1, 640, 360, (250_000, 450_000)),
    Offer(2, 1280, 720, (1_000_000, 1_500_000)),
)
MAIN = View(1280, 720, "main")
TILE = View(320, 180, "tile")


def allocate(estimate_bps: int, *demands: Demand[str]) -> dict[str, tuple[Target, str]]:
    grants = Allocator[str]().allocate(estimate_bps, 50_000, demands, 0).grants
    return {consumer: tuple(grant) for consumer, grant in grants.items()}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("estimate_bps", "target", "limited_by"),
    [
        (5_000_000, Target(2, 1), "nothing"),
        (1_000_000, Target(1, 1), "line"),
        (400_000, Target(0, 1), "line"),
        (150_000, Target(0, 0), "line"),
        (60_000, Target(0, 0), "line"),  # the last layer of what is looked at is kept
        (50_000, NOTHING, "line"),  # no bits are left beside sound and ECG
    ],
)
def test_a_camera_gives_up_size_and_keeps_its_frames(estimate_bps: int, target: Target, limited_by: str) -> None:
    assert allocate(estimate_bps, Demand("a", CAMERA, 3, "camera", MAIN))["a"] == (target, limited_by)


def test_a_screen_keeps_its_size_and_gives_up_frames() -> None:
    offers = (Offer(0, 960, 540, (100_000, 200_000)), Offer(1, 1920, 1080, (250_000, 500_000, 900_000)))
    view = View(1920, 1080, "main")
    got = [
        allocate(bps, Demand("s", offers, 2, "screen", view))["s"][0] for bps in (2_000_000, 700_000, 400_000, 200_000)
    ]
    assert got == [Target(1, 2), Target(1, 1), Target(1, 0), Target(0, 0)]


@pytest.mark.parametrize(
    ("view", "target", "limited_by"),
    [
        (View(0, 0, "main"), NOTHING, "view"),
        (View(160, 90, "tile"), Target(0, 1), "view"),
        (View(640, 360, "tile"), Target(1, 1), "view"),
        (View(1920, 1080, "tile"), Target(2, 1), "nothing"),
        (None, Target(2, 1), "nothing"),
    ],
)
def test_nobody_gets_more_than_the_view_needs(view: View | None, target: Target, limited_by: str) -> None:
    assert allocate(9_000_000, Demand("a", CAMERA, 3, "camera", view))["a"] == (target, limited_by)


def test_a_layer_the_publisher_does_not_send_is_its_fault() -> None:
    assert allocate(9_000_000, Demand("a", CAMERA[:2], 3, "camera", MAIN))["a"] == (Target(1, 1), "source")
    assert allocate(9_000_000, Demand("a", (), 3, "camera", MAIN))["a"] == (NOTHING, "source")


def test_tiles_go_dark_before_a_main_view_gets_smaller() -> None:
    got = allocate(1_890_000, Demand("tile", CAMERA, 3, "camera", TILE), Demand("main", CAMERA, 3, "camera", MAIN))
    assert got == {"tile": (Target(0, 0), "line"), "main": (Target(2, 1), "nothing")}
    got = allocate(1_800_000, Demand("tile", CAMERA, 3, "camera", TILE), Demand("main", CAMERA, 3, "camera", MAIN))
    assert got == {"tile": (NOTHING, "line"), "main": (Target(2, 1), "nothing")}


def test_a_dear_last_layer_is_not_sent_over_a_line_that_it_would_drown() -> None:
    single = (Offer(0, 1280, 720, (2_500_000,)),)
    assert allocate(600_000, Demand("a", single, 1, "camera", MAIN))["a"] == (NOTHING, "line")
    assert LAST_LAYER_BPS < 2_500_000


def test_down_at_once_up_after_a_time_and_later_after_a_failure() -> None:
    allocator: Allocator[str] = Allocator()
    demand = [Demand("a", CAMERA, 3, "camera", MAIN)]

    def at(estimate_bps: int, now_us: int) -> Target:
        return allocator.allocate(estimate_bps, 0, demand, now_us).grants["a"].target

    def seconds_until_up(now_us: int) -> tuple[float, int]:
        start_us = now_us
        while at(2_000_000, now_us) != Target(2, 1):
            now_us += 100_000
        return (now_us - start_us) / 1e6, now_us

    assert at(600_000, 0) == Target(1, 1)
    first, now_us = seconds_until_up(100_000)
    assert first == UP_HOLD_US / 1e6
    assert at(1_600_000, now_us + 100_000) == Target(2, 1)  # enough to stay, though not to go up
    assert at(600_000, now_us + 200_000) == Target(1, 1)
    second, now_us = seconds_until_up(now_us + 300_000)
    assert second == 2 * first
    now_us += FAILED_WITHIN_US
    assert at(600_000, now_us) == Target(1, 1)  # it went well for so long: not the step's fault
    third, _ = seconds_until_up(now_us + 100_000)
    assert third == second


def test_a_main_view_goes_up_by_what_a_tile_has() -> None:
    allocator: Allocator[str] = Allocator()
    demands = [
        Demand("tile", CAMERA, 3, "camera", View(640, 360, "tile")),
        Demand("main", CAMERA, 3, "camera", MAIN),
    ]
    allocator.allocate(1_100_000, 0, demands, 0)
    for step in range(30):
        got = allocator.allocate(1_900_000, 0, demands, step * 100_000)
    assert got.grants["main"].target == Target(2, 1)
    assert got.grants["tile"].target == Target(0, 1)


def test_a_larger_view_does_not_wait() -> None:
    allocator: Allocator[str] = Allocator()
    allocator.allocate(3_000_000, 0, [Demand("a", CAMERA, 3, "camera", TILE)], 0)
    got = allocator.allocate(3_000_000, 0, [Demand("a", CAMERA, 3, "camera", MAIN)], 1_000)
    assert got.grants["a"].target == Target(2, 1)


def test_the_need_is_what_the_next_step_takes() -> None:
    got = Allocator[str]().allocate(600_000, 50_000, [Demand("a", CAMERA, 3, "camera", MAIN)], 0)
    assert got.allocated_bps == 450_000
    assert got.need_bps == got.ceiling_bps == int(1_500_000 * UP_MARGIN) + 50_001


def test_one_key_frame_in_the_measured_rate_moves_nobody() -> None:
    allocator: Allocator[str] = Allocator()
    for step in range(20):
        burst = 2.0 if step == 10 else 1.0
        offers = [Offer(o.spatial, o.width, o.height, tuple(int(b * burst) for b in o.bps)) for o in CAMERA]
        got = allocator.allocate(1_900_000, 0, [Demand("a", offers, 3, "camera", MAIN)], step * 100_000)
        assert got.grants["a"].target == Target(2, 1)


def test_what_was_not_measured_is_guessed() -> None:
    assert guess_bps(Offer(2, 1280, 720, (0,))) == 1_382_400
    assert guess_bps(Offer(1, 0, 0, (0,))) == 600_000
    assert allocate(600_000, Demand("a", (Offer(2, 1280, 720, (0,)),), 3, "camera", MAIN))["a"][0] == NOTHING


def test_a_dearer_and_worse_layer_is_no_step() -> None:
    layers = [Layer(0, 0, 100), Layer(0, 1, 300), Layer(1, 0, 200), Layer(1, 1, 250)]
    assert ladder(layers, "camera") == [Layer(0, 0, 100), Layer(1, 1, 250)]


# ------------------------------------------------------------- when to decide

EMPTY = bytes.fromhex("0000000000000000")
"""Feedback about no packet."""


def test_a_line_that_sends_everything_is_decided_seldom_and_at_once_when_more_comes() -> None:
    line: ViewerLine[str] = ViewerLine(0)
    plan = line.decide([Demand("a", (Offer(0, 320, 180, (200_000,)),), 1)], 0, 0)
    assert plan.allocation.grants["a"].limited_by == "nothing"
    assert line.tick_us(0) == CALM_DECIDE_US
    assert not line.tick(CALM_DECIDE_US - 1)
    assert line.tick(CALM_DECIDE_US)

    line.estimator.arrived.bps = 300_000  # a key frame
    assert not line.on_feedback(EMPTY, DECIDE_US)
    line.estimator.arrived.bps = 500_000
    assert not line.on_feedback(EMPTY, DECIDE_US - 1)
    assert line.on_feedback(EMPTY, DECIDE_US)


def test_a_line_that_lacks_something_is_asked_ten_times_a_second() -> None:
    line: ViewerLine[str] = ViewerLine(0)
    line.decide([Demand("a", CAMERA, 3, "camera", MAIN)], 0, 0)
    assert line.tick_us(0) == 100_000
    assert line.tick(DECIDE_US)


def test_a_change_hurries_a_calm_line() -> None:
    line: ViewerLine[str] = ViewerLine(0)
    line.decide([], 0, 0)
    line.hurry()
    assert line.tick(100_000)


# ------------------------------------------------------------- pacer


def test_a_small_burst_passes_and_a_key_frame_leaves_in_pieces() -> None:
    pacer: Pacer[int] = Pacer(1_000_000, 0)
    assert pacer.passes(FREE_BURST_BYTES, 0)
    assert not pacer.passes(60_000, 0)
    for index in range(50):
        assert pacer.offer(index, 1200, "a", key=True) == []
    out: list[tuple[int, int]] = []
    now_us = 0
    while pacer.waiting:
        due_us = pacer.due_us(now_us)
        assert due_us is not None
        now_us = max(now_us + 1, due_us)
        out += [(now_us, item) for item in pacer.release(now_us)]
    assert [item for _, item in out] == list(range(50))
    assert 170_000 < out[-1][0] < 210_000  # 60 kB at 2.5 Mbit/s
    assert pacer.due_us(now_us) is None


def test_a_large_key_frame_on_a_thin_line_is_through_in_time_and_not_dropped() -> None:
    pacer: Pacer[int] = Pacer(50_000, 0)
    now_us = 0
    for index in range(200):
        assert pacer.offer(index, 1200, "a", key=True) == []
    for frame in range(30):  # and the picture goes on behind it
        now_us = frame * 33_333
        assert pacer.offer(1_000 + frame, 700, "a", key=False) == []
        pacer.release(now_us)
    while pacer.waiting:
        now_us += 5_000
        pacer.release(now_us)
    assert now_us < 2 * KEY_FRAME_US


def test_what_waits_too_long_is_dropped_to_the_key_frame_and_no_other_viewers_key_frame_with_it() -> None:
    pacer: Pacer[str] = Pacer(200_000, 0)
    dropped: list[str] = []
    count = 0
    while not dropped:
        dropped = pacer.offer(f"a{count}", 1200, "a", key=False)
        count += 1
        assert count < 1_000
    assert dropped == ["a"]
    assert not pacer.waiting
    assert pacer.offer("b", 1200, "b", key=True) == []
    pacer.drop("a")
    assert pacer.release(5_000_000) == ["b"]


def test_what_was_not_used_is_not_saved_up() -> None:
    pacer: Pacer[int] = Pacer(1_000_000, 0)
    assert not pacer.passes(60_000, 10_000_000)


def test_sound_never_waits_and_cannot_stop_the_picture_for_good() -> None:
    pacer: Pacer[int] = Pacer(100_000, 0)
    for _ in range(1_000):
        pacer.spend(1_000)
    assert pacer.passes(1_000, 500_000)
