"""Who gets packets, what is kept, and how a burst is cut for the kernel."""

from hypothesis import given
from hypothesis import strategies as st

from media.core.history import History
from media.core.rewriter import ViewerNumbers
from media.core.router import (
    EVERY_TEMPORAL,
    REMAINING_PACKETS,
    REMEMBERED_MS,
    RUN_PACKETS,
    ConsumerState,
    ExtensionPlan,
    Flow,
    Lane,
    Packet,
    Source,
    let_go,
    plan_runs,
    stop,
)

PLAN = ExtensionPlan(ids=frozenset({4}))


def consumer(ssrc: int = 1) -> ConsumerState:
    return ConsumerState(ssrc=ssrc, rtx_ssrc=2, plan=PLAN, numbers=ViewerNumbers(0), rtx_seq=0)


def test_a_consumer_waits_then_lives_then_stops() -> None:
    lane: Lane[ConsumerState] = Lane(0, EVERY_TEMPORAL)
    one = consumer()
    assert not lane.watched

    lane.wait(one)
    assert lane.waiting == [one]
    assert one.flow is Flow.WAITING
    lane.let_in(one)
    assert lane.live == {PLAN: [one]}
    assert stop(one) is True
    assert one.flow is Flow.IDLE
    assert not lane.watched


def test_stopping_one_that_waits_or_idles_is_harmless() -> None:
    lane: Lane[ConsumerState] = Lane(0, EVERY_TEMPORAL)
    one = consumer()
    assert stop(one) is False
    lane.wait(one)
    lane.wait(one)
    assert lane.waiting == [one]
    assert stop(one) is False
    assert not lane.watched


def test_a_viewer_stays_where_it_is_until_it_is_let_in_elsewhere() -> None:
    """[LA1] It is live in exactly one lane, and the old one goes on until the new one begins."""
    low: Lane[ConsumerState] = Lane(0, EVERY_TEMPORAL)
    high: Lane[ConsumerState] = Lane(2, EVERY_TEMPORAL)
    one = consumer()
    low.wait(one)
    low.let_in(one)

    high.wait(one)
    assert low.live == {PLAN: [one]}
    assert one.flow is Flow.LIVE
    high.let_in(one)

    assert not low.watched
    assert high.live == {PLAN: [one]}
    assert one.lane is high


def test_a_viewer_that_changes_its_mind_waits_in_one_place() -> None:
    lanes: list[Lane[ConsumerState]] = [Lane(spatial, EVERY_TEMPORAL) for spatial in range(3)]
    one = consumer()
    for lane in lanes:
        lane.wait(one)

    assert [lane.waiting for lane in lanes] == [[], [], [one]]


def test_runs_are_equal_but_for_the_last() -> None:
    assert plan_runs([1200, 1200, 1200, 900, 900, 1200]) == [(0, 4), (4, 5), (5, 6)]
    assert plan_runs([100, 200]) == [(0, 1), (1, 2)]
    assert plan_runs([]) == []


@given(st.lists(st.sampled_from([60, 61, 900, 1200]), max_size=100))
def test_runs_cover_everything_and_obey_the_kernel(sizes: list[int]) -> None:
    """[GS1] UDP_SEGMENT: all segments equal, only the last may be smaller; nothing lost, nothing twice."""
    runs = plan_runs(sizes)

    assert [index for start, end in runs for index in range(start, end)] == list(range(len(sizes)))
    for start, end in runs:
        assert 0 < end - start <= RUN_PACKETS
        assert set(sizes[start : end - 1]) <= {sizes[start]}
        assert sizes[end - 1] <= sizes[start]


def test_history_forgets_the_oldest_and_never_confuses() -> None:
    history: History[str] = History(8)
    for number in range(20):
        history.put(number, f"p{number}")

    assert history.get(19) == "p19"
    assert history.get(12) == "p12"
    assert history.get(11) is None
    assert history.get(27) is None


def followed(packets: int) -> Source:
    source = Source(7, newest=packets)
    for number in range(packets):
        packet = Packet(number, number * 3000, 0, [], b"p")
        source.history.put(packet)
        source.handed_out([packet])
    return source


def kept(source: Source) -> list[int]:
    return [number for number in range(source.highest + 1) if source.history.get(number) is not None]


def test_what_was_left_keeps_its_packets_for_a_while_and_then_a_few() -> None:
    """A thousand packets for each viewer that ever changed its layer were a hundred megabytes an hour."""
    old, new = followed(1000), followed(10)
    one = consumer()
    one.numbers.start(7, old.end(), 0, 90_000, source=old)
    one.numbers.stop(old.end(), 5_000)
    one.numbers.start(8, new.end(), 5_000, 90_000, source=new)
    one.lane = Lane(0, EVERY_TEMPORAL)

    let_go(one, 5_000 + REMEMBERED_MS - 1)
    assert one.numbers.before is not None
    assert one.numbers.before.source is old

    shift = one.numbers.before.shift
    let_go(one, 5_000 + REMEMBERED_MS)
    assert one.numbers.before.shift == shift
    assert one.numbers.before.source.end() == old.end()
    assert kept(one.numbers.before.source) == list(range(1000 - REMAINING_PACKETS, 1000))
    assert one.numbers.now.source is new, "what it follows is kept whole"
    assert kept(old) == list(range(1000)), "others may follow it still"

    left = one.numbers.before
    let_go(one, 60_000)
    assert one.numbers.before is left, "once is enough"


def test_a_viewer_that_follows_nothing_keeps_nothing_whole() -> None:
    old = followed(200)
    one = consumer()
    one.numbers.start(7, old.end(), 0, 90_000, source=old)
    one.numbers.stop(old.end(), 5_000)
    let_go(one, 5_000 + REMEMBERED_MS)
    for segment in (one.numbers.now, one.numbers.before):
        assert segment is not None
        assert len(kept(segment.source)) == REMAINING_PACKETS
