"""The loop with the media socket in front: nobody else waits for longer than one read of it."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from media.aio.loop import MediaLoop, serve_first, serve_no_more


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (ours, theirs):
        end.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def run(coroutine: object) -> None:
    with asyncio.Runner(loop_factory=MediaLoop) as runner:
        runner.run(asyncio.wait_for(coroutine, 20))  # type: ignore[arg-type]


def test_media_that_never_ends_keeps_nobody_waiting(pair: tuple[socket.socket, socket.socket]) -> None:
    """A timer, another socket and a task all have their turn while each datagram brings the next."""
    ours, theirs = pair
    other, far = socket.socketpair()
    other.setblocking(False)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        served = 0

        def serve() -> None:
            nonlocal served
            served += 1
            ours.recv(100)
            theirs.send(b"next")

        assert serve_first(ours.fileno(), serve)
        theirs.send(b"first")
        await asyncio.sleep(0.01)
        task = asyncio.create_task(asyncio.sleep(0))
        far.send(b"hello")
        assert await loop.sock_recv(other, 100) == b"hello"
        await task
        assert served > 1
        serve_no_more(ours.fileno())

    run(work())
    other.close()
    far.close()


def test_what_media_schedules_is_done(pair: tuple[socket.socket, socket.socket]) -> None:
    """Soon and later, with nothing else to wake the loop up."""
    ours, theirs = pair

    async def work() -> None:
        loop = asyncio.get_running_loop()
        soon, later = asyncio.Event(), asyncio.Event()

        def serve() -> None:
            if ours.recv(100) == b"soon":
                loop.call_soon(soon.set)
            else:
                loop.call_later(0.01, later.set)

        serve_first(ours.fileno(), serve)
        theirs.send(b"soon")
        await soon.wait()
        theirs.send(b"later")
        await later.wait()
        serve_no_more(ours.fileno())

    run(work())


def test_a_bug_in_serving_does_not_end_the_loop(
    pair: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = pair

    async def work() -> None:
        heard = asyncio.Event()

        def serve() -> None:
            if ours.recv(100) == b"bad":
                raise ZeroDivisionError
            heard.set()

        serve_first(ours.fileno(), serve)
        theirs.send(b"bad")
        theirs.send(b"good")
        await heard.wait()
        serve_no_more(ours.fileno())

    run(work())
    assert "broke" in caplog.text


def test_the_media_socket_can_wait_for_room_too(pair: tuple[socket.socket, socket.socket]) -> None:
    """asyncio's writer on the same descriptor, as the outbox needs it."""
    ours, _ = pair

    async def work() -> None:
        loop = asyncio.get_running_loop()
        room = asyncio.Event()
        serve_first(ours.fileno(), lambda: None)
        loop.add_writer(ours.fileno(), room.set)
        await room.wait()
        loop.remove_writer(ours.fileno())
        serve_no_more(ours.fileno())

    run(work())
