"""Which lane each viewer follows, and moving it there.

What decides: whether it is paused and its Transport up, what the publisher sends now, the size of the area
it is shown in, and what the viewer's line has room for. A viewer that should go elsewhere waits at
the entrance of the new lane and stays where it is until that comes; the key frame is asked for.

Choosing is ``media.core.layers`` and ``media.core.congestion``; entrances are ``lanes``.
"""

from collections.abc import Callable, Iterable

from media.aio.counters import Counters
from media.aio.feedback import Feedback
from media.aio.objects import Consumer, Producer
from media.core import control
from media.core.layers import NOTHING, Offer, Target, best_for_view, cumulative
from media.core.router import EVERY_TEMPORAL, Flow, stop

LOOK_INTERVAL_US = 250_000
"""How soon a layer that fell silent or a change of rates is noticed."""


class Steering:
    """Lanes of all Consumers of one worker.

    Args:
        notify: tells signalling what a viewer gets; must not block.
    """

    def __init__(
        self, counters: Counters, feedback: Feedback, notify: Callable[[control.AnyNotification], None]
    ) -> None:
        self._counters = counters
        self._feedback = feedback
        self._notify = notify
        self._due_us = 0
        self.on_change: Callable[[Consumer, int], None] | None = None
        """Told of every picture that goes or may go elsewhere: what others get of the line depends on it."""

    # ------------------------------------------------------------- what happens to a viewer

    def steer(self, consumer: Consumer, now_us: int) -> None:
        """Bring a Consumer where it should be; call after anything that decides it has changed."""
        producer = consumer.producer
        if consumer.paused or producer.paused or not consumer.leg.ready:
            self.stop(consumer, now_us)
            return
        target, limited_by = aim(consumer, offers(producer, now_us))
        if target == NOTHING:
            self.stop(consumer, now_us)
        else:
            self._go(consumer, producer, target, now_us)
        self._tell(consumer, target, limited_by)
        if self.on_change is not None and not producer.is_audio:
            self.on_change(consumer, now_us)

    def stop(self, consumer: Consumer, now_us: int) -> None:
        """Nothing more goes to it; its numbering can be continued."""
        lane = consumer.lane
        if lane is not None and lane.source is not None:
            consumer.numbers.stop(lane.source.end(), now_us // 1000)
        stop(consumer)
        consumer.producer.prune()
        if self.on_change is not None and not consumer.producer.is_audio:
            self.on_change(consumer, now_us)

    def restart(self, consumer: Consumer, now_us: int) -> None:
        """It has missed packets that will not come: go on at the next key frame."""
        self.stop(consumer, now_us)
        self.steer(consumer, now_us)

    def lost(self, consumer: Consumer, now_us: int) -> None:
        """Packets could not be sent to it and its numbering is closed: go on at the next key frame."""
        stop(consumer)
        self.steer(consumer, now_us)

    def entered(self, consumer: Consumer, now_us: int) -> None:
        """It follows another lane now."""
        consumer.producer.prune()
        self.steer(consumer, now_us)

    # ------------------------------------------------------------- what is due

    def tick(self, producers: Iterable[Producer], now_us: int) -> None:
        """Look again at Producers with layers; call at every tick."""
        if now_us < self._due_us:
            return
        self._due_us = now_us + LOOK_INTERVAL_US
        for producer in producers:
            if producer.is_audio or not producer.consumers:
                continue
            if len(producer.layers) > 1 and producer.rank_layers():
                producer.sizes = ()
                for consumer in producer.consumers.values():
                    consumer.allowed = None  # it was said of the layers as they were counted before
            sizes = tuple(offer[:3] for offer in offers(producer, now_us))
            if sizes != producer.sizes:
                producer.sizes = sizes
                for consumer in list(producer.consumers.values()):
                    self.steer(consumer, now_us)

    # ------------------------------------------------------------- moving

    def _go(self, consumer: Consumer, producer: Producer, target: Target, now_us: int) -> None:
        lane = producer.lane(target.spatial, target.temporal, consumer.redundant)
        if consumer.lane is lane:
            if consumer.entrance is not None:  # it was on its way elsewhere
                consumer.entrance.waiting.remove(consumer)
                consumer.entrance = None
                producer.prune()
            return
        if consumer.entrance is lane:
            return
        layer = producer.layer_of(lane)
        present = consumer.lane
        lane.wait(consumer)
        if present is None or producer.layer_of(present) is not layer or present.spatial < target.spatial:
            self._feedback.want_keyframe(producer, layer, now_us)
        producer.prune()

    def _tell(self, consumer: Consumer, target: Target, limited_by: control.LimitedBy) -> None:
        producer = consumer.producer
        if producer.is_audio:
            return
        lane = consumer.lane if consumer.flow is Flow.LIVE else None
        shown = (-1, -1) if target == NOTHING or lane is None else (lane.spatial, lane.temporal)
        if target != NOTHING and (lane is None or consumer.entrance is not None):
            return  # on its way: the news is when it is there
        news = (*shown, limited_by)
        if consumer.told == news:
            return
        consumer.told = news
        self._notify(
            control.ConsumerLayers(
                router=producer.router_id,
                owner=consumer.owner,
                consumer=consumer.id,
                spatial=shown[0],
                temporal=shown[1],
                spatial_layers=producer.spatial_layers,
                limited_by=limited_by,
            )
        )


def offers(producer: Producer, now_us: int) -> list[Offer]:
    """Spatial layers that can be followed now, smallest first; never empty."""
    if len(producer.layers) > 1:
        found = [
            Offer(
                layer.index,
                layer.meter.width,
                layer.meter.height,
                cumulative(layer.meter.rates(now_us), layer.index, False),
            )
            for layer in producer.layers
            if layer.meter.active(now_us)
        ]
        return found or [Offer(0, 0, 0, (0,))]
    layer = producer.layers[0]
    rates = layer.meter.rates(now_us)
    structure = layer.structure.structure if layer.structure is not None else None
    if structure is None or structure.spatial_layers == 1:
        return [Offer(0, layer.meter.width, layer.meter.height, cumulative(rates, 0, False))]
    sizes = structure.resolutions or ((0, 0),) * structure.spatial_layers
    present = {spatial for spatial, _ in structure.targets if spatial >= 0}
    return [Offer(spatial, *sizes[spatial], cumulative(rates, spatial, True)) for spatial in sorted(present)]


def aim(consumer: Consumer, offered: list[Offer]) -> tuple[Target, control.LimitedBy]:
    """Where a Consumer should be, and what keeps it from the best there could be."""
    producer = consumer.producer
    if producer.is_audio:
        return Target(0, EVERY_TEMPORAL), "nothing"
    spatial = best_for_view(offered, consumer.view)
    if spatial < 0:
        return NOTHING, "view"
    limited_by: control.LimitedBy = "nothing"
    if offered[-1].spatial < producer.spatial_layers - 1:
        limited_by = "source"
    if spatial < offered[-1].spatial:
        limited_by = "view"
    allowed = consumer.allowed
    if allowed is None:
        return Target(spatial, EVERY_TEMPORAL), limited_by
    if allowed == NOTHING:
        return NOTHING, "line"
    possible = [offer for offer in offered if offer.spatial <= min(spatial, allowed.spatial)] or offered[:1]
    chosen = possible[-1]
    top = len(chosen.bps) - 1
    thinned = chosen.spatial == allowed.spatial and allowed.temporal < top
    if chosen.spatial < spatial or thinned:
        limited_by = "line"
    return Target(chosen.spatial, allowed.temporal if thinned else EVERY_TEMPORAL), limited_by
