"""Jobs that give way: in order, once, in slices with the sockets in between, whatever one of them does."""

import asyncio
import socket
import time

from media.aio.turns import SLICE_NS, Turns


async def all_done(turns: Turns) -> None:
    async with asyncio.timeout(20):
        while turns._jobs or turns._running:
            await asyncio.sleep(0)


async def test_in_order_and_each_once() -> None:
    turns, ran = Turns(), []
    jobs = [lambda n=n: ran.append(n) for n in range(5)]
    for job in (*jobs, *jobs):
        turns.wake(job)
    turns.forget(jobs[3])
    turns.forget(jobs[3])
    assert ran == [], "not where it arises"
    await all_done(turns)
    assert ran == [0, 1, 2, 4]


async def test_a_job_may_wake_itself_and_goes_to_the_end() -> None:
    turns, ran = Turns(), []

    def again() -> None:
        ran.append("again")
        if len(ran) < 4:
            turns.wake(again)

    turns.wake(again)
    turns.wake(lambda: ran.append("other"))
    await all_done(turns)
    assert ran == ["again", "other", "again", "again"]


async def test_a_socket_is_served_between_two_slices() -> None:
    """Each job takes a slice and makes the socket readable: it is read before the next job runs."""
    loop, order = asyncio.get_running_loop(), []
    near, far = socket.socketpair()
    near.setblocking(False)
    turns = Turns()

    def job() -> None:
        order.append("job")
        far.send(b"x")
        until_ns = time.monotonic_ns() + SLICE_NS
        while time.monotonic_ns() < until_ns:
            pass

    def read() -> None:
        near.recv(100)
        order.append("read")

    loop.add_reader(near, read)
    try:
        for _ in range(5):
            turns.wake(lambda: job())
        await all_done(turns)
        async with asyncio.timeout(20):
            while len(order) < 10:
                await asyncio.sleep(0)
    finally:
        loop.remove_reader(near)
        near.close()
        far.close()
    assert order == ["job", "read"] * 5


async def test_a_broken_job_ends_nothing_but_itself() -> None:
    broken, ran = [], []
    turns = Turns(broken.append)
    turns.wake(lambda: [][0])
    turns.wake(lambda: ran.append(1))
    await all_done(turns)
    assert (broken, ran) == (["turn_errors"], [1])
