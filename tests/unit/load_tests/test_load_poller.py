"""What goes wrong for one peer of a generator is told, and the others go on."""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from typing import Any

from load_tests.rig.poller import Poller
from load_tests.run.agent import Generator
from load_tests.session.signalling import Lost


async def test_what_fails_for_one_peer_is_told_and_the_others_are_served() -> None:
    told: list[str] = []

    def tell(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        told.append(str(context["exception"]))

    asyncio.get_running_loop().set_exception_handler(tell)
    poller, done = Poller(), list[str]()

    def fail() -> None:
        raise RuntimeError("of one")

    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    other, beyond = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far, other, beyond:

        def broken() -> None:
            near.recv(16)
            fail()

        poller.add(near.fileno(), broken)
        poller.add(other.fileno(), lambda: done.append(other.recv(16).decode()))
        far.send(b"a")
        beyond.send(b"b")
        assert poller.serve() == 2
        assert (told, done) == (["of one"], ["b"])
        poller.remove(near.fileno())
        poller.remove(other.fileno())

    mine, theirs = object(), object()
    poller.every(0.001, fail, mine)
    poller.every(0.001, lambda: done.append("chore"), theirs)
    async with asyncio.timeout(30):
        while len(told) < 4 or done.count("chore") < 3:  # the task that does chores lives on
            await asyncio.sleep(0.005)

    # A chore that takes its owner away, in the middle of what is due: nothing of the owner is done any more.
    poller.forget(mine)
    poller.forget(theirs)
    gone: list[str] = []

    def leave(name: str) -> None:
        gone.append(name)
        poller.forget(mine)

    for name in "abc":
        poller.every(0.0, functools.partial(leave, name), mine)
    poller.do_chores(time.monotonic() + 1)
    assert gone == ["a"]
    await poller.close()


async def test_what_nobody_waits_for_is_counted_by_name_and_said_once() -> None:
    nobody: Any = None
    generator, loop = Generator(nobody, frozenset()), asyncio.get_running_loop()
    loop.set_exception_handler(generator._stumbled)
    for problem in (KeyError("stream"), KeyError("stream"), Lost("socket"), ConnectionResetError()):
        loop.call_exception_handler({"message": "a callback", "exception": problem})
    assert generator._ledger.errors == {"bug: KeyError: 'stream'": 2}  # what any client meets is no bug
    loop.set_exception_handler(None)
