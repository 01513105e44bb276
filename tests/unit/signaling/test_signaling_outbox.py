"""The bounded queue to one reader."""

from __future__ import annotations

import asyncio

from signaling.aio.outbox import Outbox


class Wire:
    """Takes frames while it is open."""

    def __init__(self, limit: int = 4) -> None:
        self.sent: list[bytes] = []
        self.overflows = 0
        self.room = asyncio.Event()
        self.outbox = Outbox(self._send, limit, self._overflowed)

    async def _send(self, frame: bytes) -> None:
        await self.room.wait()
        self.sent.append(frame)

    def _overflowed(self) -> None:
        self.overflows += 1
        self.outbox.finish(b"goodbye")

    async def drain(self) -> list[bytes]:
        self.outbox.finish(b"end")
        self.room.set()
        await self.outbox.run()
        return self.sent


async def test_frames_leave_in_order() -> None:
    """[SE1]"""
    wire = Wire()
    for frame in (b"1", b"2", b"3"):
        wire.outbox.offer(frame)
    assert await wire.drain() == [b"1", b"2", b"3", b"end"]


async def test_a_newer_signal_replaces_the_pending_one_and_never_overtakes_an_event() -> None:
    """[SE6] A beat must not arrive before the event it vouches for."""
    wire = Wire()
    wire.outbox.offer(b"beat 1", "beat")
    wire.outbox.offer(b"point", "pointed")
    wire.outbox.offer(b"event")
    wire.outbox.offer(b"beat 2", "beat")
    assert await wire.drain() == [b"point", b"event", b"beat 2", b"end"]
    assert wire.outbox.dropped_signals == 1


async def test_signals_never_push_out_events() -> None:
    """[SE6] Full of events: the signal goes. Full of signals: the event still finds room."""
    wire = Wire(limit=2)
    wire.outbox.offer(b"a", "a")
    wire.outbox.offer(b"b", "b")
    wire.outbox.offer(b"1")
    wire.outbox.offer(b"2")
    wire.outbox.offer(b"c", "c")
    assert wire.overflows == 0
    assert await wire.drain() == [b"a", b"b", b"1", b"2", b"end"]
    assert wire.outbox.dropped_signals == 1


async def test_too_many_events_end_it_once_and_drop_all() -> None:
    """[SE6] A client must never act on a state that never was: all or nothing."""
    wire = Wire(limit=2)
    for number in range(10):
        wire.outbox.offer(b"%d" % number)
    assert wire.overflows == 1
    wire.room.set()
    await wire.outbox.run()
    assert wire.sent == [b"goodbye"]
    assert len(wire.outbox) == 0


async def test_nothing_follows_the_last_frame() -> None:
    """A goodbye is the last thing a session hears."""
    wire = Wire()
    wire.outbox.offer(b"1")
    wire.outbox.finish(b"goodbye")
    wire.outbox.offer(b"2")
    wire.outbox.offer(b"beat", "beat")
    assert await wire.drain() == [b"1", b"goodbye"]


async def test_what_is_offered_while_sending_waits_its_turn() -> None:
    """One sender, also while it is blocked."""
    wire = Wire()
    running = asyncio.create_task(wire.outbox.run())
    wire.outbox.offer(b"1")
    await asyncio.sleep(0)
    wire.outbox.offer(b"2")
    wire.room.set()
    wire.outbox.finish(b"end")
    await running
    assert wire.sent == [b"1", b"2", b"end"]
