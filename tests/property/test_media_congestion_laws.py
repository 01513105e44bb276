"""Laws of allocation, of the record of what was sent, and of the pacer."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from media.core import rtcp
from media.core.congestion.allocator import LAST_LAYER_BPS, LAST_LAYER_FACTOR, UP_MARGIN, Allocation, Allocator, Demand
from media.core.congestion.estimator import MAX_BPS, MIN_BPS, LineEstimator
from media.core.congestion.line import ViewerLine
from media.core.congestion.pacer import Pacer
from media.core.congestion.sent import SentPackets
from media.core.layers import NOTHING, Offer, Target, View
from media.core.rtcp import MalformedRtcp
from media.core.twcc import TICK_US, ArrivalRecorder, read_feedback
from tests.netem import GilbertElliott, Link, constant

UNWRAPPED_US = 0x100_0000 * 64_000
"""`SentPackets` starts the viewer's clock one circle of its reference up."""
SIZES = ((320, 180), (640, 360), (1280, 720), (1920, 1080))


@st.composite
def offers(draw: st.DrawFn) -> tuple[Offer, ...]:
    made = []
    for spatial in range(draw(st.integers(0, 3))):
        steps = draw(st.lists(st.integers(10_000, 900_000), min_size=1, max_size=3))
        rates = tuple(sum(steps[: index + 1]) * 2**spatial for index in range(len(steps)))
        size = SIZES[spatial] if draw(st.booleans()) else (0, 0)
        made.append(Offer(spatial, *size, rates))
    return tuple(made)


views = st.one_of(
    st.none(),
    st.builds(View, st.sampled_from([0, 160, 640, 1920]), st.sampled_from([90, 360, 1080]), st.just("main")),
    st.builds(View, st.sampled_from([0, 160, 640, 1920]), st.sampled_from([90, 360, 1080]), st.just("tile")),
)


@st.composite
def demand_lists(draw: st.DrawFn) -> list[Demand[int]]:
    return [
        Demand(index, draw(offers()), 3, draw(st.sampled_from(["camera", "screen"])), draw(views))
        for index in range(draw(st.integers(0, 6)))
    ]


estimates = st.integers(MIN_BPS, 20_000_000)
reserves = st.integers(0, 200_000)


def cost(demand: Demand[int], target: Target) -> int:
    if target == NOTHING:
        return 0
    offer = next(offer for offer in demand.offers if offer.spatial == target.spatial)
    return offer.bps[target.temporal]


def fresh(estimate: int, reserved: int, demands: Sequence[Demand[int]]) -> Allocation[int]:
    return Allocator[int]().allocate(estimate, reserved, demands, 0)


def is_main(demand: Demand[int]) -> bool:
    return demand.view is None or demand.view.rank == "main"


@given(estimates, reserves, demand_lists())
def test_what_is_allocated_is_within_the_estimate(estimate: int, reserved: int, demands: list[Demand[int]]) -> None:
    """But for the last layer of one main view."""
    got = fresh(estimate, reserved, demands)
    spent = [cost(demand, got.grants[demand.consumer].target) for demand in demands]
    assert sum(spent) == got.allocated_bps
    budget = max(0, estimate - reserved)
    if sum(spent) > budget:
        mains = [bps for demand, bps in zip(demands, spent, strict=True) if is_main(demand) and bps]
        over = sum(spent) - budget
        assert sum(mains) == sum(spent), "tiles are never the excess"
        assert over < max(mains)
        assert over <= max(LAST_LAYER_BPS, (LAST_LAYER_FACTOR - 1) * budget)


@given(estimates, estimates, demand_lists())
def test_more_line_is_never_worse_for_who_comes_first(one: int, other: int, demands: list[Demand[int]]) -> None:
    """The first main view (else the first tile) keeps its picture on a better line, and its size when nobody of its
    class gets a first layer of that."""
    visible = [d for d in demands if d.offers and not (d.view is not None and d.view.hidden)]
    mains = [d for d in visible if is_main(d)]
    first = next(iter(mains or visible), None)
    if first is None:
        return
    less, more = (fresh(bps, 50_000, demands).grants[first.consumer].target for bps in sorted((one, other)))
    assert more != NOTHING or less == NOTHING
    if len(mains or visible) == 1:
        assert cost(first, less) <= cost(first, more)


@given(estimates, demand_lists())
def test_tiles_get_nothing_a_main_view_could_use(estimate: int, demands: list[Demand[int]]) -> None:
    """Without the tiles no main view gets more."""
    mains = [demand for demand in demands if is_main(demand)]
    alone, together = fresh(estimate, 50_000, mains), fresh(estimate, 50_000, demands)
    for demand in mains:
        assert together.grants[demand.consumer] == alone.grants[demand.consumer]


@given(estimates, demand_lists())
def test_what_is_told_agrees(estimate: int, demands: list[Demand[int]]) -> None:
    got = fresh(estimate, 50_000, demands)
    for demand in demands:
        target, limited_by = got.grants[demand.consumer]
        hidden = demand.view is not None and demand.view.hidden
        if hidden or not demand.offers:
            assert target == NOTHING
        if target == NOTHING:
            assert limited_by == ("view" if hidden else "line" if demand.offers else "source")
    if not got.need_bps:
        better = fresh(100_000_000, 50_000, demands)
        assert got.allocated_bps <= better.allocated_bps
    else:
        assert got.need_bps > estimate / UP_MARGIN
        assert fresh(got.need_bps, 50_000, demands).grants != got.grants


@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0.97, 1.03)), min_size=5, max_size=40), demand_lists())
def test_a_line_that_wavers_a_little_switches_nothing_back_and_forth(
    steps: list[tuple[int, float]], demands: list[Demand[int]]
) -> None:
    """Three per cent up and down are inside the margin: nobody goes up and then down."""
    allocator: Allocator[int] = Allocator()
    now_us, before, ups, downs = 0, None, 0, 0
    for ticks, factor in steps:
        for _ in range(ticks):
            got = allocator.allocate(int(2_000_000 * factor), 0, demands, now_us)
            spent = got.allocated_bps
            if before is not None:
                ups += spent > before
                downs += spent < before
            before = spent
            now_us += 100_000
    assert downs <= 1 + len(demands)
    assert ups <= 2 + len(demands)


@settings(max_examples=40)
@given(st.lists(estimates, min_size=1, max_size=60), demand_lists())
def test_down_is_at_once_whatever_came_before(history: list[int], demands: list[Demand[int]]) -> None:
    allocator: Allocator[int] = Allocator()
    for index, estimate in enumerate(history):
        got = allocator.allocate(estimate, 0, demands, index * 300_000)
        assert got.allocated_bps <= estimate + max(LAST_LAYER_BPS, (LAST_LAYER_FACTOR - 1) * estimate)


# ------------------------------------------------------------- what was sent


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 0xFFFF),
    st.lists(st.lists(st.integers(60, 1200), min_size=1, max_size=12), min_size=1, max_size=60),
    st.integers(0, 2**30),
    st.sampled_from([0.0, 0.1]),
)
def test_over_a_bad_network_each_packet_is_told_as_it_was(
    first: int, bursts: list[list[int]], seed: int, reorder: float
) -> None:
    """What came is told once with its own size, sending time and arrival; what did not come is never told received."""
    link = Link(
        seed, constant(2_000_000), loss=GilbertElliott(0.05, 0.4), reorder=reorder, duplicate=0.1, jitter_us=3_000
    )
    back = Link(seed + 1, loss=GilbertElliott(0.1, 0.5))
    sent, recorder = SentPackets(first), ArrivalRecorder()
    clock_us = 64_000 * 5_000
    pending: list[tuple[int, int]] = []
    truth: dict[int, tuple[int, int, int]] = {}
    heard: list[tuple[int, int, int]] = []
    now_us = 0

    def report() -> None:
        while pending and pending[0][0] <= now_us:
            when_us, number = pending.pop(0)
            if number in truth and truth[number][1] < 0:
                truth[number] = (truth[number][0], when_us + clock_us, truth[number][2])
            recorder.record(number & 0xFFFF, when_us + clock_us)
        for packet in recorder.build(1, 2):
            (item,) = rtcp.parse(packet)
            assert isinstance(item, rtcp.TransportFeedback)
            if back.send(now_us, len(packet)):
                told = sent.match(read_feedback(item.fci)).told()
                heard.extend((t.send_us, t.arrive_us, t.size_bytes) for t in told if t.arrive_us is not None)

    for sizes in bursts:
        now_us += 10_000
        number = sent.next_number
        sent.note(number & 0xFFFF, sizes, now_us)
        for size in sizes:
            pending.extend((when_us, number) for when_us in link.send(now_us, size))
            truth[number] = (now_us, -1, size)
            number += 1
        pending.sort()
        if len(truth) % 5 == 0:
            report()
    now_us += 10_000_000
    report()
    possible = {(send_us, arrive_us // TICK_US, size) for send_us, arrive_us, size in truth.values() if arrive_us >= 0}
    for send_us, arrive_us, size in heard:
        ticks = (arrive_us - UNWRAPPED_US) // TICK_US
        assert (send_us, ticks, size) in possible
    assert len(heard) == sent.received <= len(truth)


@given(st.binary(min_size=4, max_size=80), st.integers(0, 400), st.integers(0, 0xFFFF))
def test_no_feedback_whatever_its_bytes_breaks_a_line(body: bytes, base: int, statuses: int) -> None:
    line: ViewerLine[str] = ViewerLine(0)
    for number in range(0, 300, 3):
        line.sent.note(number, [100, 1200, 700], number * 1_000)
    fci = base.to_bytes(2, "big") + statuses.to_bytes(2, "big") + body
    for _ in range(3):
        try:
            line.on_feedback(fci, 1_000_000)
        except MalformedRtcp:
            break
    assert MIN_BPS <= line.estimator.estimate_bps <= MAX_BPS
    assert 0 <= line.sent.received <= 300
    assert 0 <= line.sent.lost <= 300


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("remb"), st.integers(0, 2**40)),
            st.tuples(st.just("report"), st.floats(0, 1)),
            st.tuples(st.just("tick"), st.integers(0, 5_000_000)),
        ),
        max_size=60,
    )
)
def test_the_estimate_stays_in_its_bounds(steps: list[tuple[str, Any]]) -> None:
    estimator, now_us = LineEstimator(), 0
    for what, value in steps:
        if what == "remb":
            estimator.on_remb(value, now_us)
        elif what == "report":
            estimator.on_report(value, 50_000)
        else:
            now_us += value
            estimator.tick(now_us)
        assert MIN_BPS <= estimator.estimate_bps <= MAX_BPS


# ------------------------------------------------------------- pacer


@given(
    st.integers(MIN_BPS, 5_000_000),
    st.lists(
        st.tuples(
            st.integers(0, 30_000), st.sampled_from("ab"), st.lists(st.integers(60, 1200), max_size=40), st.booleans()
        ),
        max_size=60,
    ),
)
def test_paced_packets_leave_once_in_order_and_within_the_rate(estimate: int, bursts: list[Any]) -> None:
    pacer: Pacer[tuple[str, int]] = Pacer(estimate, 0)
    now_us, number, waiting, left = 0, 0, [], []
    bytes_out, fastest = 0, pacer.rate_bps
    sizes_of: dict[int, int] = {}
    for pause_us, owner, sizes, key in bursts:
        now_us += pause_us
        for item in pacer.release(now_us):
            left.append(item)
            bytes_out += sizes_of[item[1]]
        if pacer.passes(sum(sizes), now_us):
            bytes_out += sum(sizes)
        else:
            for size in sizes:
                number += 1
                sizes_of[number] = size
                waiting.append((owner, number))
                dropped = pacer.offer((owner, number), size, owner, key=key)
                waiting = [item for item in waiting if item[0] not in dropped or item in left]
        fastest = max(fastest, pacer.rate_bps)
        assert bytes_out <= fastest * (now_us + 20_000) / 8e6 + 6_000 + 1_200
        assert (pacer.due_us(now_us) is None) == (not pacer.waiting)
    while pacer.waiting:
        due_us = pacer.due_us(now_us)
        assert due_us is not None
        assert due_us - now_us < 1_000_000
        now_us = max(due_us, now_us + 1)
        left += pacer.release(now_us)
    assert left == waiting
