"""Whose queue it is: ours goes when we give way, a download's does not."""

from media.core.congestion.others import PATIENCE_US, TAKEN_BACK, OthersQueue

STEP_US = 100_000


def play(watch: OthersQueue, *course: tuple[int, int, int]) -> list[int]:
    """What is taken back over stretches of (steps, queue in ms, kbit/s that arrive)."""
    taken, now_us = [], 0
    for steps, queue_ms, arrived_kbps in course:
        for _ in range(steps):
            now_us += STEP_US
            taken.append(watch.look(queue_ms * 1000, arrived_kbps * 1000, now_us))
    return [bps for bps in taken if bps]


def test_a_queue_that_stays_whatever_we_give_up_is_foreign() -> None:
    watch = OthersQueue()
    taken = play(watch, (10, 5, 2_000), (2, 280, 1_500), (PATIENCE_US // STEP_US + 1, 260, 600), (50, 290, 700))
    assert taken == [int(TAKEN_BACK * 2_000_000)]
    assert watch.foreign


def test_our_own_queue_drains_and_is_ours() -> None:
    watch = OthersQueue()
    falling = [(1, queue_ms, 900) for queue_ms in range(280, 60, -15)]
    assert play(watch, (10, 5, 2_000), *falling, (50, 5, 900)) == []
    assert not watch.foreign


def test_a_thinner_line_that_still_carries_most_is_no_download() -> None:
    watch = OthersQueue()
    assert play(watch, (10, 5, 2_000), (60, 280, 1_400)) == []


def test_a_short_queue_ends_it() -> None:
    watch = OthersQueue()
    play(watch, (10, 5, 2_000), (2, 280, 1_500), (20, 260, 600))
    assert watch.foreign
    assert play(watch, (1, 20, 800)) == []
    assert not watch.foreign
