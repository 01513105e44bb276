"""Which processes are alive, by what they wrote and one's own clock."""

from __future__ import annotations

import pytest

from server.fhircast.aio.service import FhircastSettings
from signaling.core.standing import Standing

SETTINGS = FhircastSettings()
DEAD_S, LOOK_S = SETTINGS.dead_s, SETTINGS.alive_s


def looks(standing: Standing, words: object, start_s: float, until_s: float) -> float | None:
    """Look as often as is meant; when the process was first taken for dead."""
    at_s = start_s
    while at_s <= until_s:
        if standing.look({"n": words(at_s)} if callable(words) else {"n": words}, at_s):
            return at_s
        at_s += LOOK_S
    return None


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.7, 1.0])
def test_a_process_that_dies_is_found_in_time(phase: float) -> None:
    """(W19) Whenever it dies between two looks, with the times of a server: time is left to name its programs."""
    standing, died_s = Standing(DEAD_S, LOOK_S), 30.0

    def word(at_s: float) -> int:
        return int(min(at_s, died_s) / LOOK_S)

    found_s = looks(standing, word, phase * LOOK_S, 60.0)
    assert found_s is not None
    assert found_s - died_s <= 8.5


def test_a_process_that_speaks_is_never_dead() -> None:
    """However its clock is wrong, set back or ahead: another word is a word."""
    standing = Standing(DEAD_S, LOOK_S)
    assert looks(standing, lambda at_s: 10**12 - int(at_s * 10), 0.0, 100.0) is None


def test_a_database_that_was_away_makes_nobody_dead() -> None:
    """Nobody could write, nobody could look: who is asked first afterwards has had no time to speak."""
    standing = Standing(DEAD_S, LOOK_S)
    standing.look({"n": 1}, 0.0)
    assert standing.look({"n": 1}, 600.0) == set()
    assert looks(standing, 1, 600.0 + LOOK_S, 620.0) is not None


def test_who_is_not_asked_about_is_forgotten() -> None:
    """A process to which nobody is connected says nothing, and begins anew with its next program."""
    standing = Standing(DEAD_S, LOOK_S)
    standing.look({"n": 1}, 0.0)
    standing.look({}, LOOK_S)
    assert looks(standing, 1, 2 * LOOK_S, 2 * LOOK_S + DEAD_S - 0.1) is None


def test_a_program_whose_machine_died_is_found_in_time() -> None:
    """(H19) (W19) Silence is looked for each tick; pings come often enough that nobody who lives is silent."""
    assert SETTINGS.silent_s + SETTINGS.tick_s <= 9.0
    assert SETTINGS.silent_s >= 3 * SETTINGS.ping_s
