"""When a silent worker is taken for hung: soon with evidence against it, late without, and never for our own fault."""

from collections.abc import Callable

import pytest

from media.core.heartbeat import LOOK_S, STARVED_S, Heartbeat, Vitals

Seen = Callable[[float], Vitals | None]


def noticed(seen: Seen, *, until_s: float = 60.0) -> float | None:
    """Seconds from the last word of a worker to the verdict; None: never."""
    heartbeat = Heartbeat(0.0)
    assert not heartbeat.look(LOOK_S, True, None)
    now_s = LOOK_S
    while now_s < until_s:
        now_s += LOOK_S
        if heartbeat.look(now_s, False, seen(now_s)):
            return now_s
    return None


@pytest.mark.parametrize(
    ("what", "seen"),
    [
        ("stopped", lambda now_s: Vitals("T", 3.0)),
        ("waits for a lock", lambda now_s: Vitals("S", 3.0)),
        ("spins", lambda now_s: Vitals("R", 3.0 + 0.9 * now_s)),
        ("dead and not buried", lambda now_s: Vitals("Z", 3.0)),
    ],
)
def test_a_hung_worker_is_noticed_within_five_seconds(what: str, seen: Seen) -> None:
    at_s = noticed(seen)
    assert at_s is not None, what
    assert 3 < at_s <= 5, what


@pytest.mark.parametrize(
    ("what", "seen"),
    [
        ("gets a fifth of a processor", lambda now_s: Vitals("R", 3.0 + 0.2 * now_s)),
        ("waits for a disk", lambda now_s: Vitals("D", 3.0)),
        ("nobody can tell", lambda now_s: None),
    ],
)
def test_one_that_gets_no_turn_has_more_time(what: str, seen: Seen) -> None:
    at_s = noticed(seen)
    assert at_s is not None, what
    assert STARVED_S <= at_s <= STARVED_S + 2 * LOOK_S, what


def test_one_that_speaks_in_time_is_never_suspected() -> None:
    """Also when what is seen of it looks bad, and when every second word is late by two seconds."""
    heartbeat = Heartbeat(0.0)
    words_s = [3.4 * number for number in range(1, 40)]
    now_s = 0.0
    while now_s < 100:
        heard = any(now_s < word <= now_s + LOOK_S for word in words_s)
        now_s += LOOK_S
        assert not heartbeat.look(now_s, heard, Vitals("S", 0.0))


def test_our_own_standstill_is_not_the_workers() -> None:
    """Nobody looked for a minute: what the worker said meanwhile is still to be read."""
    heartbeat = Heartbeat(0.0)
    assert not heartbeat.look(60.0, False, Vitals("S", 1.0))
    assert not heartbeat.look(60.5, True, None)
    for number in range(7):
        assert not heartbeat.look(61.0 + number * LOOK_S, False, Vitals("S", 1.0))
