"""The pings of all sockets, from one timer.

The engine makes a task with a timer for each ping of each socket, and looks at every socket again in a task of its
own: at ten thousand sockets most of what an idle server does. All wait equally long, so who is due next is always at
the head of a queue: one queue of who is to be asked, one of who was asked and has not answered. [SE3]

Time is this module's own: it moves with the timer, and by no more than `STEP_MOST_S` at once. A process that stood
still hears then what arrived meanwhile before anybody is given up.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

LOOK_S: Final = 0.05
STEP_MOST_S: Final = 0.5
AT_ONCE: Final = 100
"""Pings in one go, a millisecond or two; then others have their turn."""


class Pinged(Protocol):
    """A socket."""

    answer_due_s: float
    """Until when it must have answered, in the time of `Pings`; 0: it was not asked; below: it is gone."""

    def ping(self) -> None:
        """Ask it, without waiting."""

    def give_up(self) -> None:
        """It has not answered."""


class Pings:
    """Asks each socket ``interval_s`` after it last answered, and gives up on who does not answer in ``timeout_s``.

    From the last sign of life to the end it takes no longer than both together.
    """

    def __init__(self, interval_s: float, timeout_s: float) -> None:
        self._look_s = min(LOOK_S, interval_s / 4)
        self._interval_s, self._timeout_s = interval_s - 2 * self._look_s, timeout_s
        self._now_s = 0.0
        self._looked_s = 0.0
        """The loop's time when it was looked last."""
        self._to_ask: deque[tuple[float, Pinged]] = deque()
        self._asked: deque[tuple[float, Pinged]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, socket: Pinged) -> None:
        """It has just given a sign of life."""
        socket.answer_due_s = 0.0
        self._to_ask.append((self._now_s + self._interval_s, socket))
        if self._timer is None:
            self._looked_s = asyncio.get_running_loop().time()
            self._look_later(self._look_s)

    def heard(self, socket: Pinged) -> None:
        """It has answered; who was not asked changes nothing by it."""
        if socket.answer_due_s > 0:
            self.add(socket)

    def forget(self, socket: Pinged) -> None:
        """It is gone; idempotent. Its place in a queue goes when its turn comes."""
        socket.answer_due_s = -1.0

    def _look_later(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time()
        elapsed_s, self._looked_s = now_s - self._looked_s, now_s
        is_done = self.pass_time(elapsed_s)
        if self._to_ask or self._asked:
            self._look_later(self._look_s if is_done else 0.001)

    def pass_time(self, elapsed_s: float) -> bool:
        """Ask and give up on those whose turn has come; False when there are more of them than `AT_ONCE`."""
        self._now_s += min(elapsed_s, STEP_MOST_S)
        return self._ask(AT_ONCE) and self._give_up(AT_ONCE)

    def _ask(self, most: int) -> bool:
        """Whether all were asked whose turn it is."""
        while self._to_ask and self._to_ask[0][0] <= self._now_s:
            if not most:
                return False
            _, socket = self._to_ask.popleft()
            if socket.answer_due_s < 0:
                continue
            most -= 1
            socket.answer_due_s = self._now_s + self._timeout_s
            self._asked.append((socket.answer_due_s, socket))
            socket.ping()
        return True

    def _give_up(self, most: int) -> bool:
        """Whether none is left who did not answer in time."""
        while self._asked and self._asked[0][0] <= self._now_s:
            if not most:
                return False
            due_s, socket = self._asked.popleft()
            if socket.answer_due_s == due_s:
                most -= 1
                self.forget(socket)
                socket.give_up()
        return True
