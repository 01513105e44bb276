"""Producer and Consumer as the worker holds them: the core's state plus where bytes go.

They do no I/O: receiving is ``ingress``, sending ``forward``, reports ``feedback``, and who may
create or close them is ``relay``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, Protocol

from media.aio.aiortc_port import SrtpPair
from media.aio.tcp import TcpStream
from media.core.capture import CaptureTime
from media.core.congestion.estimator import LineEstimator
from media.core.congestion.pacer import Pacer
from media.core.congestion.sent import SentPackets
from media.core.dependency import DependencyReader
from media.core.ice import Address
from media.core.keyframes import KeyframeRequests
from media.core.layers import LayerMeter, Target, View
from media.core.loudest import LoudestVoices
from media.core.ortc import ProducerParameters
from media.core.receive import ReceiveStream
from media.core.router import ConsumerState, Lane
from media.core.sender_report import SourceTime
from media.core.speaker import AudioLevel

RESENDS_PER_INTERVAL = 256
"""Packets one viewer may have resent in an interval: a whole key frame, not an amplifier."""
RESEND_INTERVAL_US = 100_000


class LegRow(Protocol):
    """A Leg as the C function reads it (``media.aio.fanout``)."""

    @property
    def cdata(self) -> Any:
        """The row itself."""

    def reach(self, address: Address | None) -> None:
        """The peer is there now, or nowhere."""

    def use(self, context: Any) -> None:
        """Encrypt with this context, or with none."""

    def record(self, sent: SentPackets | None) -> None:
        """Write down there what is sent, or nowhere."""

    def pace(self, pacer: Pacer[Any] | None) -> None:
        """Large bursts ask there, or nowhere."""

    def waits(self, something: bool) -> None:
        """Something waits for its line, or no more: what is sent past that is counted by its pacer."""


class InLeg(Protocol):
    """A Transport as the C receive path reads it (``media.aio.intake``)."""

    @property
    def transport(self) -> Any:
        """Whose."""

    @property
    def cdata(self) -> Any:
        """The row itself."""

    @property
    def addresses(self) -> dict[Address, Any]:
        """What comes from where is this Transport's, and the rows that say so."""

    def use(self, context: Any) -> None:
        """Decrypt with this context, or with none."""

    def take_checks(self) -> list[tuple[Address, int]]:
        """From where checks were answered since this was asked last, and when, microseconds."""

    def hear_checks(self) -> None:
        """The next check is not answered without asking."""

    def arm(self, stream: "InboundStream", armed: Any) -> Any:
        """The row of a stream that feeds this lane."""

    def disarm(self) -> None:
        """Nothing is sent ahead until its streams are armed again."""

    def hear(self, estimator: LineEstimator) -> None:
        """Take in calm feedback of this viewer's line."""


_WRITTEN_THROUGH = frozenset({"address", "tx", "sent", "pacer"})


class Leg:
    """Where and with which keys one peer is reached; shared by all that is sent to it.

    What changes here is written through to the row that C reads, so that no row ever names keys that are gone.
    """

    __slots__ = ("_estimator", "address", "divert", "intake", "pacer", "row", "rx", "sent", "srtp", "stream", "tx")

    address: Address | None
    """Where the peer is."""
    rx: Any
    """libsrtp context for what is received."""
    tx: Any
    """libsrtp context for what is sent."""
    sent: SentPackets | None
    """What left under transport-wide numbers, which it also counts; None until something has."""
    pacer: Pacer[Any] | None
    """Holds large bursts back for the line; None: it is not known."""

    def __init__(self, address: Address | None = None) -> None:
        self.intake: InLeg | None = None
        self.row: LegRow | None = None
        self.address = address
        self.rx = self.tx = self.sent = None
        self.divert: Callable[[bytes], bool] | None = None
        """Takes the RTCP for a publisher that is on another worker (``pipe``)."""
        self.stream: TcpStream | None = None
        """The connection, when the address is one: what is sent goes there and not to the UDP port."""
        self.srtp: SrtpPair | None = None
        self._estimator: LineEstimator | None = None
        self.pacer = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Written through to who else reads it; reading, which each packet does for each viewer, stays a plain slot."""
        super().__setattr__(name, value)
        if name == "rx":
            if self.intake is not None:
                self.intake.use(value)
        elif name in _WRITTEN_THROUGH and self.row is not None:
            if name == "address":
                self.row.reach(value)
            elif name == "tx":
                self.row.use(value)
            elif name == "pacer":
                self.row.pace(value)
            else:
                self.row.record(value)

    @property
    def ready(self) -> bool:
        """Media can be sent."""
        return self.tx is not None and self.address is not None

    def keep_intake(self, intake: InLeg) -> None:
        """From now on this is kept true."""
        self.intake = intake
        intake.use(self.rx)
        if self._estimator is not None:
            intake.hear(self._estimator)

    def keep_line(self, estimator: LineEstimator) -> None:
        """What is sent is recorded there, and what the viewer says of it is heard there."""
        self.sent = estimator.sent
        self._estimator = estimator
        if self.intake is not None:
            self.intake.hear(estimator)

    def keep_row(self, row: LegRow) -> None:
        """From now on this row is kept true."""
        self.row = row
        row.reach(self.address)
        row.use(self.tx)
        row.record(self.sent)
        row.pace(self.pacer)


@dataclass(slots=True, eq=False, weakref_slot=True)
class InboundStream:
    """One SSRC a client sends."""

    ssrc: int
    producer: "Producer"
    layer: "Layer"
    is_rtx: bool
    payload_type: int
    receive: ReceiveStream
    time: SourceTime
    capture: CaptureTime
    row: Any = None
    """As the C receive path reads it (``media.aio.intake``)."""


@dataclass(slots=True, eq=False)
class Layer:
    """One RTP stream of a Producer: a simulcast layer, an SVC stream with several layers inside, or all there is."""

    index: int
    media: InboundStream | None = None
    """The SSRC that carries it now."""
    repair: InboundStream | None = None
    """The SSRC of its retransmissions."""
    keyframes: KeyframeRequests = field(default_factory=KeyframeRequests)
    lanes: "list[Lane[Consumer]]" = field(default_factory=list)
    """What viewers follow or wait for; the others do not exist."""
    meter: LayerMeter = field(default_factory=LayerMeter)
    structure: DependencyReader | None = None
    """Reads the dependency descriptor where packets carry one."""


@dataclass(slots=True, eq=False, kw_only=True)
class Producer:
    """A media source entering the relay."""

    id: str
    router_id: str
    transport_id: str
    leg: Leg
    """The publisher's, for feedback."""
    parameters: ProducerParameters
    is_audio: bool
    payload_type: int
    """The Router's, that viewers see."""
    forwarded_ids: dict[int, int]
    """Header extensions that are passed on: the publisher's id to the Router's."""
    level_id: int
    """The publisher's id of the audio level, 0 without."""
    dependency_id: int
    """The publisher's id of the dependency descriptor, 0 without."""
    level: AudioLevel | None
    voices: LoudestVoices[str] | None
    """Of its Router; None for a picture, or a sound that does not tell its level."""
    cname: str
    content: Literal["camera", "screen"]
    paused: bool
    layers: list[Layer]
    """Smallest first, as far as is known."""
    announced: tuple[Layer, ...] = ()
    """The same in the order of the publisher's encodings."""
    sizes: tuple[tuple[int, int, int], ...] = ()
    """Layer, width and height of what could be followed at the last look."""
    consumers: "dict[str, Consumer]" = field(default_factory=dict)

    @property
    def spatial_layers(self) -> int:
        """How many sizes the publisher may send."""
        if len(self.layers) > 1:
            return len(self.layers)
        reader = self.layers[0].structure
        return 1 if reader is None or reader.structure is None else reader.structure.spatial_layers

    def layer_of(self, lane: "Lane[Consumer]") -> Layer:
        """The stream that feeds a lane."""
        return self.layers[lane.spatial] if len(self.layers) > 1 else self.layers[0]

    def lane(self, spatial: int, temporal: int, redundant: bool = False) -> "Lane[Consumer]":
        """The lane of one layer up to one temporal layer, made when nobody has followed it."""
        layer = self.layers[spatial] if len(self.layers) > 1 else self.layers[0]
        for lane in layer.lanes:
            if lane.spatial == spatial and lane.temporal == temporal and lane.redundant is redundant:
                return lane
        made: Lane[Consumer] = Lane(spatial, temporal, redundant)
        for lane in layer.lanes:
            lane.disturb()  # a packet goes to more than one of them now
        layer.lanes.append(made)
        return made

    def rank_layers(self) -> bool:
        """Bring the layers into the order of their sizes; True when they were in another.

        Browsers list the smallest first, some encoders the largest: what key frames say decides.
        """
        known = [layer.meter.width * layer.meter.height for layer in self.layers]
        if 0 in known or all(small <= large for small, large in pairwise(known)):
            return False
        self.layers.sort(key=lambda layer: layer.meter.width * layer.meter.height)
        for index, layer in enumerate(self.layers):
            layer.index = index
            for lane in layer.lanes:
                lane.spatial = index
        return True

    def prune(self) -> None:
        """Forget lanes that nobody follows: they would be numbered and kept for nothing."""
        for layer in self.layers:
            if any(not lane.watched for lane in layer.lanes):
                layer.lanes[:] = [lane for lane in layer.lanes if lane.watched]


@dataclass(slots=True, eq=False, kw_only=True)
class Consumer(ConsumerState):
    """A Producer's copy to one client."""

    id: str
    owner: str
    producer: Producer
    transport_id: str
    leg: Leg
    rtx_payload_type: int
    """0: RTX was not negotiated."""
    redundant: bool = False
    """Its sound goes to it as RED."""
    paused: bool = True
    row: Any = None
    """As the C function reads it (``media.aio.fanout``)."""
    held: bool = False
    """Its packets wait in its leg's pacer, and what comes waits behind them."""
    resends_left: int = RESENDS_PER_INTERVAL
    """Packets that may still be sent again in this interval."""
    resends_since_us: int = 0
    """When the interval began."""
    round_trip_us: int = 0
    """Last measured, 0 before."""
    view: View | None = None
    """What the viewer's screen shows of it; None as long as it has not said."""
    allowed: Target | None = None
    """Most that the viewer's line has room for; None: no limit."""
    told: tuple[int, int, str] | None = None
    """What signalling was last told of its layers."""

    def may_resend(self, now_us: int) -> bool:
        """One more packet may be sent again now."""
        if now_us - self.resends_since_us >= RESEND_INTERVAL_US:
            self.resends_since_us, self.resends_left = now_us, RESENDS_PER_INTERVAL
        return self.resends_left > 0
