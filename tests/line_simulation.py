"""Closed loop of one viewer's line in virtual time: publisher, relay's cores, network, viewer.

The viewer is `media.core.twcc.ArrivalRecorder`, the relay `ViewerLine`; between them `tests.netem`. A
publisher sends each layer with frames that vary, and a key frame six times as large where a viewer
is moved. Nothing sleeps: a minute takes a fraction of a second.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random

from media.core import rtcp
from media.core.congestion.allocator import LAST_LAYER_BPS, Allocator, Demand
from media.core.congestion.line import ViewerLine
from media.core.congestion.pacer import FREE_BURST_BYTES
from media.core.congestion.sent import NO_CLUSTER
from media.core.layers import Offer, Target, View
from media.core.twcc import ArrivalRecorder
from tests.netem import Cubic, Link

PACKET_BYTES = 1200
FRAME_US = 33_333
AUDIO_US = 20_000
AUDIO_BYTES = 120
TICK_US = 100_000
FEEDBACK_US = 100_000
KEY_FACTOR = 6
RESERVED_BPS = 50_000

CAMERA = (
    Offer(0, 320, 180, (80_000, 120_000)),
    Offer(1, 640, 360, (250_000, 450_000)),
    Offer(2, 1280, 720, (1_000_000, 1_500_000)),
)
SCREEN = (Offer(0, 1920, 1080, (300_000, 600_000, 1_200_000)),)


def consult() -> list[Demand[str]]:
    """A main camera, a shared screen and two tiles."""
    tile = View(320, 180, "tile")
    return [
        Demand("main", CAMERA, 3, "camera", View(1280, 720, "main")),
        Demand("screen", SCREEN, 1, "screen", View(1920, 1080, "main")),
        Demand("left", CAMERA, 3, "camera", tile),
        Demand("right", CAMERA, 3, "camera", tile),
    ]


@dataclass
class Figures:
    """What came of a run, the first ``WARM_UP_US`` left out unless said otherwise."""

    seconds: float = 0.0
    estimate_share: list[float] = field(default_factory=list)
    """Estimate of what there was to gain: min(capacity, all that is wanted)."""
    queue_us: list[int] = field(default_factory=list)
    """Wait of each packet at the bottleneck."""
    switches: int = 0
    """Changes of any Consumer's target."""
    changes: list[tuple[int, str, Target]] = field(default_factory=list)
    """All of them, warm-up included: (us, consumer, target)."""
    media_bytes: int = 0
    probe_bytes: int = 0
    granted_bits: float = 0.0
    ideal_bits: float = 0.0
    """What an allocator that knows the line, and keeps the same margin, would have granted."""
    lost: int = 0
    sent: int = 0
    overspent: int = 0
    """Ticks in which more was allocated than estimated, beyond a main view's last layer."""
    first_full_us: int = -1_000_000
    """When everything wanted was first sent."""
    estimates: list[tuple[int, int]] = field(default_factory=list)

    @property
    def utilisation(self) -> float:
        """Mean share of the line, or of what is wanted, that the estimate grants."""
        return sum(self.estimate_share) / len(self.estimate_share)

    @property
    def granted(self) -> float:
        """Pictures granted, of what an allocator that knows the line would grant."""
        return self.granted_bits / self.ideal_bits

    def queue_percentile_ms(self, share: float) -> float:
        return sorted(self.queue_us)[int(share * (len(self.queue_us) - 1))] / 1000

    @property
    def switches_per_minute(self) -> float:
        return self.switches * 60 / self.seconds


WARM_UP_US = 10_000_000


class Simulation:
    """One run; see `run`."""

    def __init__(self, down: Link, up: Link, *, seed: int = 0, demands: list[Demand[str]] | None = None) -> None:
        self.line: ViewerLine[str] = ViewerLine(0)
        self.demands = consult() if demands is None else demands
        self.figures = Figures()
        self._down, self._up = down, up
        self._random = Random(seed)
        self._recorder = ArrivalRecorder()
        self._events: list[tuple[int, int, str, object]] = []
        self._order = count()
        self._targets: dict[str, Target] = {}
        self._key_due: set[str] = set()
        self._competitor_bps = 0
        self.download = Cubic()
        self._download_until_us = 0
        self._granted_bps = 0
        self._now_us = 0

    def _at(self, when_us: int, what: str, value: object = None) -> None:
        heappush(self._events, (when_us, next(self._order), what, value))

    def run(
        self,
        seconds: float,
        competitor: tuple[int, int, int] | None = None,
        download: tuple[int, int] | None = None,
    ) -> Figures:
        """Simulate.

        Args:
            competitor: another sender on the same bottleneck: (from us, to us, bit/s).
            download: a TCP connection there that takes what it can: (from us, to us).
        """
        end_us = int(seconds * 1e6)
        self.figures.seconds = seconds - WARM_UP_US / 1e6
        for what, when in (("tick", 0), ("frame", 0), ("audio", 7_000), ("feedback", FEEDBACK_US)):
            self._at(when, what)
        if competitor is not None:
            self._at(competitor[0], "competitor", competitor)
        if download is not None:
            self._download_until_us = download[1]
            self._at(download[0], "download")
        steps = {
            "tick": self._tick,
            "frame": self._frame,
            "audio": self._audio,
            "feedback": self._feedback,
            "arrive": self._arrive,
            "told": self._told,
            "release": self._release,
            "padding": self._padding,
            "competitor": self._compete,
            "download": self._download,
            "acknowledged": self._acknowledged,
            "missed": self._missed,
        }
        while self._events and self._events[0][0] <= end_us:
            self._now_us, _, what, value = heappop(self._events)
            steps[what](value)
        return self.figures

    # ------------------------------------------------------------- relay

    def _send(self, sizes: list[int], cluster: int = NO_CLUSTER) -> None:
        first = self.line.sent.next_number
        now_us = self._now_us
        self.line.sent.note(first & 0xFFFF, sizes, now_us, cluster)
        warm = now_us >= WARM_UP_US
        for number, size in enumerate(sizes, first):
            arrivals = self._down.send(now_us, size)
            for when_us in arrivals:
                self._at(when_us, "arrive", number)
            if warm:
                self.figures.sent += 1
                self.figures.lost += not arrivals
                self.figures.queue_us.append(self._down.queue_delay_us)
        if warm:
            total = sum(sizes)
            if cluster == NO_CLUSTER:
                self.figures.media_bytes += total
            else:
                self.figures.probe_bytes += total

    def _tick(self, _value: object) -> None:
        self._at(self._now_us + TICK_US, "tick")
        if self.line.tick(self._now_us):
            self._decide()
        if self._now_us < WARM_UP_US or self._down.rate is None:
            return
        capacity = self._down.rate.at(self._now_us) - self._competitor_bps
        best: Allocator[str] = Allocator()
        ideal = best.allocate(capacity, RESERVED_BPS, self.demands, 0)
        reach = min(capacity, ideal.ceiling_bps)
        estimate = self.line.estimator.estimate_bps
        self.figures.ideal_bits += ideal.allocated_bps * TICK_US / 1e6
        self.figures.estimate_share.append(min(estimate, reach) / reach)
        self.figures.granted_bits += self._granted_bps * TICK_US / 1e6
        self.figures.estimates.append((self._now_us, estimate))

    def _decide(self) -> None:
        now_us = self._now_us
        plan = self.line.decide(self.demands, RESERVED_BPS, now_us)
        allocation = plan.allocation
        self._granted_bps = allocation.allocated_bps
        if allocation.allocated_bps + RESERVED_BPS > plan.estimate_bps + LAST_LAYER_BPS:
            self.figures.overspent += 1
        targets = {consumer: grant.target for consumer, grant in allocation.grants.items()}
        for consumer, target in targets.items():
            before = self._targets.get(consumer)
            if before != target:
                self.figures.changes.append((now_us, consumer, target))
                self.figures.switches += now_us >= WARM_UP_US
                if target.spatial >= 0 and (before is None or before.spatial != target.spatial):
                    self._key_due.add(consumer)
        self._targets = targets
        short = any(grant.limited_by == "line" for grant in allocation.grants.values())
        if not short and self.figures.first_full_us < 0:
            self.figures.first_full_us = now_us
        if plan.probe is not None:
            gap_us = 5_000
            piece = max(200, plan.probe.rate_bps * gap_us // 8_000_000)
            left, when = plan.probe.size_bytes, now_us
            while left > 0:
                self._at(when, "padding", (plan.probe.cluster, min(piece, left)))
                left -= piece
                when += gap_us

    def _padding(self, value: object) -> None:
        cluster, size = value  # type: ignore[misc]
        full, rest = divmod(size, PACKET_BYTES)
        self._send([PACKET_BYTES] * full + ([rest] if rest else []), cluster)

    def _frame(self, _value: object) -> None:
        self._at(self._now_us + FRAME_US, "frame")
        for demand in self.demands:
            target = self._targets.get(demand.consumer)
            if target is None or target.spatial < 0:
                continue
            size = demand.offers[target.spatial].bps[target.temporal] * FRAME_US / 8e6 * self._random.uniform(0.6, 1.4)
            key = demand.consumer in self._key_due
            if key:
                self._key_due.discard(demand.consumer)
                size *= KEY_FACTOR
            full, rest = divmod(int(size), PACKET_BYTES)
            self._burst([PACKET_BYTES] * full + [max(60, rest)], demand.consumer, key)

    def _burst(self, sizes: list[int], consumer: str, key: bool) -> None:
        pacer = self.line.pacer
        total = sum(sizes)
        if not pacer.waiting and total <= FREE_BURST_BYTES:
            pacer.spend(total)
            self._send(sizes)
        elif pacer.passes(total, self._now_us):
            self._send(sizes)
        else:
            idle = not pacer.waiting
            for size in sizes:
                for owner in pacer.offer(size, size, consumer, key=key):
                    self._key_due.add(owner)
            if idle:
                self._release(None)

    def _release(self, _value: object) -> None:
        sizes = self.line.pacer.release(self._now_us)
        if sizes:
            self._send(sizes)
        due_us = self.line.pacer.due_us(self._now_us)
        if due_us is not None:
            self._at(max(due_us, self._now_us + 1_000), "release")

    def _audio(self, _value: object) -> None:
        self._at(self._now_us + AUDIO_US, "audio")
        self.line.pacer.spend(AUDIO_BYTES)
        self._send([AUDIO_BYTES])

    def _told(self, value: object) -> None:
        for item in rtcp.parse(value):  # type: ignore[arg-type]
            assert isinstance(item, rtcp.TransportFeedback)
            if self.line.on_feedback(item.fci, self._now_us):
                self._decide()

    # ------------------------------------------------------------- viewer and network

    def _arrive(self, value: object) -> None:
        self._recorder.record(value & 0xFFFF, self._now_us + 77_000_000_123)  # type: ignore[operator]

    def _feedback(self, _value: object) -> None:
        self._at(self._now_us + FEEDBACK_US, "feedback")
        for packet in self._recorder.build(1, 2):
            for when_us in self._up.send(self._now_us, len(packet)):
                self._at(when_us, "told", packet)

    def _compete(self, value: object) -> None:
        _start_us, end_us, bps = value  # type: ignore[misc]
        if self._now_us >= end_us:
            self._competitor_bps = 0
            return
        self._competitor_bps = bps
        self._down.send(self._now_us, PACKET_BYTES)
        self._at(self._now_us + PACKET_BYTES * 8_000_000 // bps, "competitor", value)

    def _download(self, _value: object) -> None:
        if self._now_us >= self._download_until_us:
            return
        # A window leaves in a burst only at its beginning; from then on each acknowledgement lets one or two go.
        for _ in range(self.download.room()):
            arrivals = self._down.send(self._now_us, PACKET_BYTES)
            back_us = self._up.delay_us
            if arrivals:
                self._at(arrivals[0] + back_us, "acknowledged", arrivals[0] + back_us - self._now_us)
            else:
                round_trip_us = self._down.queue_delay_us + self._down.delay_us + back_us
                self._at(self._now_us + round_trip_us, "missed", round_trip_us)

    def _acknowledged(self, value: object) -> None:
        self.download.acked(self._now_us, value)  # type: ignore[arg-type]
        self._download(None)

    def _missed(self, value: object) -> None:
        self.download.lost(self._now_us, value)  # type: ignore[arg-type]
        self._download(None)
