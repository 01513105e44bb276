"""Tells viewers on ``ctl`` which server time RTP timestamps of their pictures and sounds mean (WAVEFORM_WIRE [WF16]).

One message to each viewer that listens, every 500 ms, with all it is sent now; besides, the one Consumer alone
at once where its numbering begins, and everything at the next tick where a publisher's clock or timestamps jump.
Nothing here runs per packet. Dating is ``media.core.capture``; the channel is ``data``.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgpack

from media.aio.counters import Counters
from media.aio.data import DataConsumer, DataPlane
from media.aio.objects import Consumer, Producer
from media.aio.transport import Transport
from media.core.capture import TimeMap, shifted
from media.core.router import Flow

INTERVAL_US = 500_000
MAX_MAPS = 64
"""In one message, pictures first: more than a page shows."""
LIMIT_BYTES = 16_384
"""A map that would wait behind this much is of the past when it comes; the next one says the same."""


class MapRouter(Protocol):
    """What is needed of a Router."""

    @property
    def data(self) -> DataPlane:
        """Its data channels."""

    @property
    def transports(self) -> dict[str, Transport]:
        """By id."""


class TimeMaps:
    """Maps for all viewers of one worker.

    Args:
        routers: by id, the worker's own table.
        transports: likewise.
        round_trip_us: last round trip to an owner of a Router, None while not known.
    """

    def __init__(
        self,
        counters: Counters,
        routers: Mapping[str, MapRouter],
        transports: Mapping[str, Transport],
        round_trip_us: Callable[[str, str], int | None],
    ) -> None:
        self._counters = counters
        self._routers = routers
        self._transports = transports
        self._round_trip_us = round_trip_us

    def entered(self, consumer: Consumer, now_us: int) -> None:
        """Its numbering begins here: at the start, after a pause, in another layer."""
        router = self._routers.get(consumer.producer.router_id)
        listener = None if router is None else router.data.listener(consumer.owner)
        if listener is not None:
            self._tell(listener, [consumer], now_us)

    def jumped(self, producer: Producer) -> None:
        """Its timestamps mean another time now."""
        router = self._routers.get(producer.router_id)
        if router is None:
            return
        for consumer in producer.consumers.values():
            listener = router.data.listener(consumer.owner)
            if listener is not None:
                listener.map_due_us = 0

    def tick(self, now_us: int) -> None:
        """Send what is due."""
        for router in self._routers.values():
            due = {c.transport.owner: c for c in router.data.listeners() if now_us >= c.map_due_us}
            if not due:
                continue
            sent: dict[str, list[Consumer]] = {}
            for transport in router.transports.values():
                if transport.owner in due and transport.consumers:
                    sent.setdefault(transport.owner, []).extend(transport.consumers.values())
            for owner, listener in due.items():
                listener.map_due_us = now_us + INTERVAL_US
                self._tell(listener, sorted(sent.get(owner, ()), key=_is_sound), now_us)

    def _tell(self, listener: DataConsumer, consumers: Iterable[Consumer], now_us: int) -> None:
        maps: list[dict[str, Any]] = []
        for consumer in consumers:
            found = self._map(consumer, now_us)
            if found is not None and len(maps) < MAX_MAPS:
                maps.append(_entry(consumer, found))
        if not maps:
            return
        if listener.channel.buffered_bytes > LIMIT_BYTES or not listener.channel.send(
            msgpack.packb({"t": "map", "of": maps})
        ):
            self._counters.add("maps_dropped")
        else:
            self._counters.add("maps_sent")

    def _map(self, consumer: Consumer, now_us: int) -> TimeMap | None:
        """In the numbering this viewer sees; None while it is sent nothing or nothing is known."""
        lane, producer = consumer.lane, consumer.producer
        if consumer.flow is not Flow.LIVE or lane is None or lane.source is None:
            return None
        stream = producer.layer_of(lane).media
        newest = None if stream is None or stream.ssrc != lane.source.ssrc else stream.time.newest
        publisher = self._transports.get(producer.transport_id)
        if stream is None or newest is None or publisher is None:
            return None
        trip_us = self._round_trip_us(publisher.router_id, publisher.owner)
        if trip_us is not None:
            publisher.capture_clock.round_trip.add(trip_us, now_us)
        found = stream.capture.date(*newest, now_us)
        return None if found is None else shifted(found, consumer.numbers.now.timestamp_shift)


def _is_sound(consumer: Consumer) -> bool:
    return consumer.producer.is_audio


def _entry(consumer: Consumer, found: TimeMap) -> dict[str, Any]:
    producer = consumer.producer
    return {
        "producer": producer.id,
        "ssrc": consumer.ssrc,
        "rtp": found.timestamp,
        "s": found.server_us,
        "rate": producer.parameters.clock_rate_hz,
        "how": found.how,
        "err": found.error_us,
    }
