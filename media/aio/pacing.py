"""Large bursts in pieces: what a viewer's line cannot take at once waits in the pacer of its leg.

Most bursts are small and never come here. Of a large one each video viewer whose line is known is asked; a
viewer that has to wait is *held*: this burst and whatever follows for it waits in order, as references, until the
queue is empty again. Sound is never held, nor are small bursts of other pictures; what they take of the line while
something waits is not there for the pieces. What waits has no transport-wide number and no encryption yet, so nothing
is used up by what is dropped.

How much may wait and what leaves when is ``media.core.congestion.pacer``.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from media.aio.clock import Clock
from media.aio.counters import Counters
from media.aio.objects import Consumer, Leg
from media.core.congestion.pacer import FREE_BURST_BYTES
from media.core.rewriter import Position, Segment
from media.core.router import Packet, Source

PIECE_S = 0.004
"""Least time between pieces: a few packets each at common rates, and short against a frame."""
_LONGEST_PAUSE_US = 20_000
"""Who begins to wait meanwhile is looked at no later: a frame."""


class Waiting(NamedTuple):
    """One packet of a held Consumer."""

    consumer: Consumer
    packet: Packet
    numbered: Segment
    payload_type: int


@dataclass(slots=True)
class Held:
    """A Consumer whose packets wait, and where it stands on the wire."""

    consumer: Consumer
    at: Position
    numbered: Segment


class Pacing:
    """All held Consumers of one worker.

    Args:
        send: sends packets of one Consumer; how many of them left.
        lost: takes Consumers whose packets were dropped, with their numbering closed.
    """

    def __init__(
        self,
        clock: Clock,
        counters: Counters,
        send: Callable[[Consumer, Segment, Sequence[Packet], int, int], int],
        lost: Callable[[Consumer, int], None],
    ) -> None:
        self._clock = clock
        self._counters = counters
        self._send = send
        self._lost = lost
        self._held: dict[str, Held] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def holds(self) -> bool:
        """Somebody waits."""
        return bool(self._held)

    def sort_out(
        self,
        group: Sequence[Consumer],
        sizes: Sequence[int],
        total_bytes: int,
        burst: Sequence[Packet],
        source: Source,
        payload_type: int,
        now_us: int,
        failed: Sequence[Consumer] = (),
    ) -> list[Consumer]:
        """Hold those of a group whose lines cannot take a burst now.

        Args:
            failed: those whose numbering is closed already: nothing more is numbered for them.

        Returns:
            Consumers for whom too much waits: their numbering is closed, and they are to be stopped.
        """
        lost: list[Consumer] = []
        large = total_bytes > FREE_BURST_BYTES
        for consumer in group:
            pacer = consumer.leg.pacer
            if pacer is None or (failed and consumer in failed):
                continue
            if not consumer.held:
                if not large or consumer.producer.is_audio:
                    if pacer.waiting:  # it leaves ahead of what waits, which must not come on top of it
                        pacer.spend(total_bytes)
                    continue
                if pacer.passes(total_bytes, now_us):
                    continue
                self._hold(consumer, source)
            numbered = consumer.numbers.now
            for packet, size in zip(burst, sizes, strict=True):
                if packet.number < numbered.base:
                    continue
                item = Waiting(consumer, packet, numbered, payload_type)
                key = packet.timestamp == source.key_timestamp
                for owner in pacer.offer(item, size, consumer.id, key=key):
                    lost += self._drop(owner, now_us)
                if consumer in lost:
                    break
            _tell(consumer.leg)
        return lost

    def forget(self, consumer: Consumer) -> None:
        """The Consumer is closed: nothing that waits for it may be sent any more."""
        if self._held.pop(consumer.id, None) is not None:
            _let_go(consumer)
            if consumer.leg.pacer is not None:
                consumer.leg.pacer.drop(consumer.id)
            _tell(consumer.leg)

    def close(self) -> None:
        """Nothing leaves any more; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()

    def release(self, now_us: int) -> None:
        """Send what may leave now."""
        for leg in {id(held.consumer.leg): held.consumer.leg for held in self._held.values()}.values():
            if leg.pacer is not None:
                self._release(leg, leg.pacer.release(now_us), now_us)
                _tell(leg)
        for held in list(self._held.values()):
            pacer = held.consumer.leg.pacer
            if pacer is None or not pacer.waiting:
                del self._held[held.consumer.id]
                _let_go(held.consumer)

    def _hold(self, consumer: Consumer, source: Source) -> None:
        consumer.held = True
        if consumer.row is not None:
            consumer.row.held = 1
        self._held[consumer.id] = Held(consumer, source.end(), consumer.numbers.now)
        self._counters.values["bursts_paced"] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PIECE_S, self._on_timer)

    def _pause_s(self, now_us: int) -> float:
        """Until some leg has room for a piece: a thin line is not asked in vain."""
        soonest_us = now_us + _LONGEST_PAUSE_US
        for held in self._held.values():
            pacer = held.consumer.leg.pacer
            due_us = None if pacer is None else pacer.due_us(now_us)
            soonest_us = min(soonest_us, now_us if due_us is None else due_us)
        return max(PIECE_S, (soonest_us - now_us) / 1e6)

    def _release(self, leg: Leg, items: list[Waiting], now_us: int) -> None:
        while items:
            consumer, _, numbered, payload_type = items[0]
            count = 1
            while count < len(items) and items[count].consumer is consumer and items[count].numbered is numbered:
                count += 1
            packets = [item.packet for item in items[:count]]
            del items[:count]
            held = self._held.get(consumer.id)
            if held is None:
                continue  # dropped by what was sent before it
            left = self._send(consumer, numbered, packets, payload_type, now_us)
            for packet in packets[:left]:
                if held.numbered is not numbered or packet.number > held.at.number:
                    held.numbered, held.at = numbered, packet.position()
            if left < len(packets):
                assert leg.pacer is not None
                leg.pacer.drop(consumer.id)
                for lost in self._drop(consumer.id, now_us):
                    self._lost(lost, now_us)

    def _drop(self, owner: str, now_us: int) -> list[Consumer]:
        held = self._held.pop(owner, None)
        if held is None:
            return []
        _let_go(held.consumer)
        held.consumer.numbers.rewind(held.at, held.numbered, now_us // 1000)
        return [held.consumer]

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self.release(self._clock())
        except Exception:  # a bug met by one leg must not keep the others waiting for ever
            self._counters.broke("pacing_errors")
        if self._held:
            self._timer = asyncio.get_running_loop().call_later(self._pause_s(self._clock()), self._on_timer)


def _tell(leg: Leg) -> None:
    """What is sent ahead (``intake``) knows nothing of pacers: it stops where something waits."""
    if leg.row is not None:
        leg.row.waits(leg.pacer is not None and leg.pacer.waiting)


def _let_go(consumer: Consumer) -> None:
    consumer.held = False
    if consumer.row is not None:
        consumer.row.held = 0
