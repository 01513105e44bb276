"""Who stands behind whom, and whose choice that leaves alone."""

from dataclasses import replace

import pytest

from media.core.precedence import NICEST, STEPS, TURN_US, Policy, Standing, behind, in_front

USUAL = Standing(Policy.OTHER, 0, 2_800, 0)


def test_a_server_pushes_nobody_away_and_weighs_a_third() -> None:
    assert behind(USUAL) == Standing(Policy.BATCH, STEPS, 2_800, STEPS)


def test_one_that_stands_behind_stays_where_it_is() -> None:
    """A thread that a thread behind has started is not put behind once more."""
    assert behind(behind(USUAL)) == behind(USUAL)
    assert in_front(in_front(USUAL)) == in_front(USUAL)


def test_steps_count_from_where_the_operator_began() -> None:
    assert behind(replace(USUAL, nice=3, session_nice=-2)) == Standing(Policy.BATCH, 8, 2_800, 3)
    assert behind(replace(USUAL, nice=17, session_nice=19)) == Standing(Policy.BATCH, NICEST, 2_800, NICEST)


def test_a_session_that_others_share_is_left_alone() -> None:
    assert behind(replace(USUAL, session_nice=None)).session_nice is None


@pytest.mark.parametrize("policy", [Policy.BATCH, Policy.IDLE, Policy.REAL_TIME])
def test_another_policy_is_the_operators_choice(policy: Policy) -> None:
    chosen = replace(USUAL, policy=policy)
    assert behind(chosen) == chosen
    assert in_front(chosen) == chosen


def test_a_worker_asks_for_the_shortest_turn_and_keeps_the_rest() -> None:
    assert in_front(USUAL) == replace(USUAL, turn_us=TURN_US)
