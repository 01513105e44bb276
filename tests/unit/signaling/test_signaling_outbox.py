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
        self.outbox = Outbox(self._send_now, self._send, limit, self._overflowed)

    def _send_now(self, frame: bytes) -> bool:
        if self.room.is_set():
            self.sent.append(frame)
        return self.room.is_set()

    async def _send(self, frame: bytes) -> None:
        await self.room.wait()
        self.sent.append(frame)

    def _overflowed(self) -> None:
        self.overflows += 1
        self.outbox.finish(b"goodbye")

    async def drain(self) -> list[bytes]:
        self.outbox.finish(b"end")
        self.room.set()
        await self.outbox.flushed(10.0)
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
    await wire.outbox.flushed(10.0)
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
    wire.outbox.offer(b"1")
    await asyncio.sleep(0)
    wire.room.set()
    wire.outbox.offer(b"2")
    wire.outbox.offer(b"beat", "beat")
    assert wire.sent == []
    assert await wire.drain() == [b"1", b"2", b"beat", b"end"]


async def test_with_room_a_frame_leaves_in_the_call_and_again_after_a_wait() -> None:
    """No task for it, and no frame twice."""
    wire = Wire()
    wire.outbox.offer(b"1")
    wire.room.set()
    await wire.outbox.flushed(10.0)
    wire.outbox.offer(b"2")
    wire.outbox.offer(b"beat", "beat")
    wire.outbox.finish(b"end")
    assert wire.sent == [b"1", b"2", b"beat", b"end"]


async def test_a_stopped_outbox_sends_no_more() -> None:
    """Whatever is still offered by those who do not know yet."""
    wire = Wire()
    wire.outbox.offer(b"1")
    await asyncio.sleep(0)
    await wire.outbox.stop()
    wire.room.set()
    wire.outbox.offer(b"2")
    wire.outbox.finish(b"end")
    await wire.outbox.flushed(10.0)
    assert wire.sent == []
