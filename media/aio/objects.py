"""Producer and Consumer as the worker holds them: the core's state plus where bytes go.

They do no I/O: receiving is ``ingress``, sending ``forward``, reports ``feedback``, and who may
create or close them is ``relay``.
"""

from dataclasses import dataclass, field
from typing import Any

from media.aio.aiortc_port import SrtpPair
from media.aio.tcp import TcpStream
from media.core.ice import Address
from media.core.ortc import ProducerParameters
from media.core.receive import ReceiveStream
from media.core.router import ConsumerState, Fanout, Source
from media.core.sender_report import SourceTime
from media.core.speaker import AudioLevel

RESENDS_PER_INTERVAL = 256
"""Packets one viewer may have resent in 100 ms: a whole key frame, not an amplifier."""


@dataclass(slots=True, eq=False)
class Leg:
    """Where and with which keys one peer is reached; shared by all that is sent to it."""

    address: Address | None = None
    stream: TcpStream | None = None
    """The connection, when the address is one: what is sent goes there and not to the UDP port."""
    srtp: SrtpPair | None = None
    rx: Any = None
    """libsrtp contexts of ``srtp``, read per packet."""
    tx: Any = None

    @property
    def ready(self) -> bool:
        """Media can be sent."""
        return self.tx is not None and self.address is not None


@dataclass(slots=True, eq=False)
class InboundStream:
    """One SSRC a client sends."""

    ssrc: int
    producer: "Producer"
    is_rtx: bool
    payload_type: int
    receive: ReceiveStream
    time: SourceTime


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
    level: AudioLevel | None
    cname: str
    paused: bool
    fanout: "Fanout[Consumer]" = field(default_factory=Fanout)
    source: Source | None = None
    media: InboundStream | None = None
    """The SSRC that carries it now."""
    consumers: "dict[str, Consumer]" = field(default_factory=dict)


@dataclass(slots=True, eq=False, kw_only=True)
class Consumer(ConsumerState):
    """A Producer's copy to one client."""

    id: str
    producer: Producer
    transport_id: str
    leg: Leg
    rtx_payload_type: int
    """0: RTX was not negotiated."""
    paused: bool = True
    resends_left: int = RESENDS_PER_INTERVAL
    """Packets that may still be sent again in this interval of 100 ms."""
    round_trip_us: int = 0
    """Last measured, 0 before."""
