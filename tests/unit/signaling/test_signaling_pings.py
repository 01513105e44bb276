"""One timer for the pings of all sockets. [SE3]"""

from __future__ import annotations

from signaling.aio.pings import AT_ONCE, Pings

LOOK_S = 0.05
INTERVAL_S, TIMEOUT_S = 5.0, 5.0


class Socket:
    """Answers at once, or never."""

    def __init__(self, pings: Pings, *, answers: bool = True) -> None:
        self.pings, self.answers = pings, answers
        self.answer_due_s = 0.0
        self.asked = 0
        self.given_up = False

    def ping(self) -> None:
        self.asked += 1
        if self.answers:
            self.pings.heard(self)

    def give_up(self) -> None:
        self.given_up = True


def _pass(pings: Pings, seconds: float) -> None:
    for _ in range(round(seconds / LOOK_S)):
        pings.pass_time(LOOK_S)


async def test_who_answers_is_asked_again_and_again() -> None:
    pings = Pings(INTERVAL_S, TIMEOUT_S)
    socket = Socket(pings)
    pings.add(socket)
    _pass(pings, 60)
    assert 11 <= socket.asked <= 13
    assert not socket.given_up


async def test_who_is_silent_is_given_up_within_ten_seconds_and_not_before_it_had_its_time() -> None:
    """[SE3] From its last sign of life."""
    pings = Pings(INTERVAL_S, TIMEOUT_S)
    dead = Socket(pings, answers=False)
    pings.add(dead)
    _pass(pings, INTERVAL_S)
    assert dead.asked == 1
    _pass(pings, TIMEOUT_S - 4 * LOOK_S)
    assert not dead.given_up
    _pass(pings, 4 * LOOK_S)
    assert dead.given_up
    _pass(pings, 60)
    assert dead.asked == 1


async def test_a_process_that_stood_still_hears_what_arrived_before_it_gives_anybody_up() -> None:
    pings = Pings(INTERVAL_S, TIMEOUT_S)
    late = Socket(pings, answers=False)
    pings.add(late)
    _pass(pings, INTERVAL_S)
    pings.pass_time(3_600.0)
    assert late.asked == 1
    assert not late.given_up
    pings.heard(late)
    _pass(pings, INTERVAL_S)
    assert late.asked == 2
    assert not late.given_up


async def test_many_at_once_leave_the_loop_time_for_others() -> None:
    pings = Pings(INTERVAL_S, TIMEOUT_S)
    sockets = [Socket(pings) for _ in range(5 * AT_ONCE)]
    for socket in sockets:
        pings.add(socket)
    most = 0
    for _ in range(round(INTERVAL_S / LOOK_S) + 5):
        before = sum(socket.asked for socket in sockets)
        pings.pass_time(LOOK_S)
        most = max(most, sum(socket.asked for socket in sockets) - before)
    assert most == AT_ONCE
    assert all(socket.asked == 1 for socket in sockets)


async def test_who_is_gone_is_neither_asked_nor_given_up() -> None:
    pings = Pings(INTERVAL_S, TIMEOUT_S)
    before, after = Socket(pings, answers=False), Socket(pings, answers=False)
    pings.add(before)
    pings.add(after)
    pings.forget(before)
    _pass(pings, INTERVAL_S)
    pings.forget(after)
    _pass(pings, 60)
    assert (before.asked, after.asked) == (0, 1)
    assert not before.given_up
    assert not after.given_up


async def test_an_answer_to_no_question_changes_nothing() -> None:
    """Else a client could have itself asked, and the queue grow, as often as it likes."""
    pings = Pings(INTERVAL_S, TIMEOUT_S)
    socket = Socket(pings)
    pings.add(socket)
    for _ in range(1_000):
        pings.heard(socket)
    pings.forget(socket)
    pings.heard(socket)
    _pass(pings, 60)
    assert socket.asked == 0
    eager = Socket(pings)
    pings.add(eager)
    for _ in range(1_000):
        pings.heard(eager)
    _pass(pings, INTERVAL_S)
    assert eager.asked == 1
