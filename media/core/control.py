"""How the application and a media worker talk: typed requests, results, notifications.

One Unix stream socket carries frames of ``u32 big-endian length || msgpack map``:

* ``{"id": n, "call": {"method": ..., ...}}``  application -> worker
* ``{"id": n, "ok": {...}}`` or ``{"id": n, "error": {"code", "text"}}``  worker -> application
* ``{"note": {"event": ..., ...}}``  worker -> application, unasked

Every id of a Router, Transport, Producer and so on is chosen by the caller, so a call
repeated after a lost answer is refused as ``exists`` instead of making a second object.
Closing is idempotent. A call that fails has changed nothing.

The sockets are in ``media.aio.client`` and ``media.aio.control_server``.

Long because it is the whole vocabulary of two processes, and nothing else.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgpack
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from media.core.lag import BOUNDS_S

JsonObject = dict[str, Any]
"""One ORTC object as it is on the wire: camelCase keys, JSON values."""

FRAME_LIMIT_BYTES = 1 << 20
"""Largest control frame; the largest real one (many codecs and extensions) is under 20 kB."""

Id = Annotated[str, Field(min_length=1, max_length=128)]


class MediaErrorCode(StrEnum):
    """Stable codes of what a worker can refuse."""

    NOT_FOUND = "not_found"
    BAD_PARAMETERS = "bad_parameters"
    EXISTS = "exists"
    BAD_STATE = "bad_state"
    LIMIT = "limit"
    WORKER_GONE = "worker_gone"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


class MediaError(Exception):
    """A call on the media plane was declined; nothing changed (except after ``timeout``)."""

    def __init__(self, code: MediaErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Request(BaseModel):
    """What every call shares."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Start(Request):
    """Take the port and say ``ready``: the one call a worker in standby waits for; it has no answer of its own."""

    method: Literal["start"] = "start"
    port: Annotated[int, Field(ge=0, le=65_535)]
    """0: any."""


class OpenRouter(Request):
    """Make a Router; result ``rtp_capabilities``."""

    method: Literal["open_router"] = "open_router"
    router: Id


class CloseRouter(Request):
    """Close a Router and everything in it."""

    method: Literal["close_router"] = "close_router"
    router: Id


class CreateTransport(Request):
    """Make one WebRTC Transport.

    Result: ``id``, ``ice_parameters``, ``ice_candidates``, ``dtls_parameters``, ``sctp_parameters``.
    """

    method: Literal["create_transport"] = "create_transport"
    router: Id
    transport: Id
    owner: Id
    """Whom it belongs to; comes back in notifications, has no other meaning here."""
    direction: Literal["send", "recv"]
    """As the client sees it: it sends media on ``send``."""


class ConnectTransport(Request):
    """Give the client's DTLS fingerprints and role; may be called once."""

    method: Literal["connect_transport"] = "connect_transport"
    transport: Id
    dtls_parameters: JsonObject


class RestartIce(Request):
    """New ICE credentials; result ``ice_parameters``. The old ones stay until the new are nominated."""

    method: Literal["restart_ice"] = "restart_ice"
    transport: Id


class CloseTransport(Request):
    """Close a Transport with its Producers and Consumers."""

    method: Literal["close_transport"] = "close_transport"
    transport: Id


PipeKey = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""Unguessable, so that of the worker's own machine only the worker that was told dials in."""


class AcceptPipe(Request):
    """Make a Transport for a publisher that is on another worker; its Producers are made on it as on any other.

    It closes when the other worker's end does. [DESIGN: pipes]
    """

    method: Literal["accept_pipe"] = "accept_pipe"
    router: Id
    transport: Id
    owner: Id
    key: PipeKey


class OpenPipe(Request):
    """Copy all that a ``send`` Transport receives to the worker that has accepted this key."""

    method: Literal["open_pipe"] = "open_pipe"
    transport: Id
    path: str
    key: PipeKey


class Produce(Request):
    """Register a media source of a ``send`` Transport."""

    method: Literal["produce"] = "produce"
    transport: Id
    producer: Id
    kind: Literal["audio", "video"]
    rtp_parameters: JsonObject
    paused: bool = False
    content: Literal["camera", "screen"] = "camera"
    """A screen keeps its resolution on a thin line and gives up frames; a camera the other way round."""


class PauseProducer(Request):
    """Drop what a Producer sends."""

    method: Literal["pause_producer"] = "pause_producer"
    producer: Id


class ResumeProducer(Request):
    """Forward it again, video from its next key frame."""

    method: Literal["resume_producer"] = "resume_producer"
    producer: Id


class CloseProducer(Request):
    """Remove a Producer; its Consumers close with it."""

    method: Literal["close_producer"] = "close_producer"
    producer: Id


class Consume(Request):
    """Copy a Producer to a ``recv`` Transport; starts paused.

    Result: ``rtp_parameters``, ``producer_paused``, ``kind``.
    """

    method: Literal["consume"] = "consume"
    transport: Id
    consumer: Id
    producer: Id
    rtp_capabilities: JsonObject


class PauseConsumer(Request):
    """Stop forwarding to one viewer."""

    method: Literal["pause_consumer"] = "pause_consumer"
    consumer: Id


class ResumeConsumer(Request):
    """Forward to one viewer, video from the next key frame."""

    method: Literal["resume_consumer"] = "resume_consumer"
    consumer: Id


class ViewConsumer(Request):
    """Tell how large a viewer's screen shows this Consumer: it steers layers and the share of a thin line."""

    method: Literal["view_consumer"] = "view_consumer"
    consumer: Id
    width: Annotated[int, Field(ge=0, le=16_384)]
    """Device pixels of the area it is shown in; 0 by 0 is not visible and gets nothing."""
    height: Annotated[int, Field(ge=0, le=16_384)]
    rank: Literal["main", "tile"] = "tile"
    """``main``: pinned, large or on a wall; served before tiles."""


class CloseConsumer(Request):
    """Remove a Consumer."""

    method: Literal["close_consumer"] = "close_consumer"
    consumer: Id


class WaveformSource(Request):
    """What makes a DataProducer a waveform: WAVEFORM.md."""

    stream_id: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
    simulated: bool
    context_version: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] | None = None
    """Of the binding it is announced under: frames of another one are refused. None: the caller does not know."""


class VitalsSource(Request):
    """What makes a DataProducer one of vital signs: media/WAVEFORM_WIRE.md section 6."""

    simulated: bool
    context_version: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] | None = None
    """As `WaveformSource.context_version`."""


class ProduceData(Request):
    """Register an SCTP stream a client sends on; labels ``ecg``, ``vitals`` and ``ctl`` have meaning here."""

    method: Literal["produce_data"] = "produce_data"
    transport: Id
    data_producer: Id
    label: Annotated[str, Field(max_length=256)] = ""
    protocol: Annotated[str, Field(max_length=256)] = ""
    sctp_stream_parameters: JsonObject
    waveform: WaveformSource | None = None
    vitals: VitalsSource | None = None


class CloseDataProducer(Request):
    """Remove a DataProducer; its DataConsumers close with it."""

    method: Literal["close_data_producer"] = "close_data_producer"
    data_producer: Id


class ConsumeData(Request):
    """Copy a DataProducer, or the relay's own ``ctl`` answers, to a ``recv`` Transport; starts paused.

    Result: ``sctp_stream_parameters``, ``label``, ``protocol``.
    """

    method: Literal["consume_data"] = "consume_data"
    transport: Id
    data_consumer: Id
    data_producer: Id
    """Id of a DataProducer, or ``ctl``."""


class ResumeDataConsumer(Request):
    """The client has its end of the channel: start to send (ORTC trap 22)."""

    method: Literal["resume_data_consumer"] = "resume_data_consumer"
    data_consumer: Id


class CloseDataConsumer(Request):
    """Remove a DataConsumer."""

    method: Literal["close_data_consumer"] = "close_data_consumer"
    data_consumer: Id


class TapData(Request):
    """Send a copy of every waveform frame and vital-signs message that this Router takes from its own clients.

    The worker connects to the socket and shows the key; ``media.core.tap`` is spoken there. A Router has one tap: the
    next one replaces it. [DESIGN: tap]
    """

    method: Literal["tap_data"] = "tap_data"
    router: Id
    path: str
    key: PipeKey


class Stats(Request):
    """Counters of the whole worker, by name."""

    method: Literal["stats"] = "stats"


AnyRequest = Annotated[
    Start
    | OpenRouter
    | CloseRouter
    | CreateTransport
    | ConnectTransport
    | RestartIce
    | CloseTransport
    | AcceptPipe
    | OpenPipe
    | Produce
    | PauseProducer
    | ResumeProducer
    | CloseProducer
    | Consume
    | PauseConsumer
    | ResumeConsumer
    | ViewConsumer
    | CloseConsumer
    | ProduceData
    | CloseDataProducer
    | ConsumeData
    | ResumeDataConsumer
    | CloseDataConsumer
    | TapData
    | Stats,
    Field(discriminator="method"),
]


class Notification(BaseModel):
    """Something the worker says of its own accord."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkerReady(Notification):
    """First thing a worker says: it owns its UDP port."""

    event: Literal["ready"] = "ready"
    pid: int
    port: int
    addresses: list[str]
    turn_us: int = 0
    """Length of the turns that the kernel grants it; 0 where it has one for all. (``media.core.precedence``)"""


class TransportState(Notification):
    """Connectivity of one Transport changed; ``closed`` is final and frees its id."""

    event: Literal["transport_state"] = "transport_state"
    router: Id
    owner: Id
    transport: Id
    state: Literal["connected", "unstable", "closed"]


class ActiveSpeaker(Notification):
    """Another audio Producer is the loudest now; None when all are silent."""

    event: Literal["active_speaker"] = "active_speaker"
    router: Id
    producer: Id | None


class ProducerClosed(Notification):
    """The worker closed a Producer because its Transport died."""

    event: Literal["producer_closed"] = "producer_closed"
    router: Id
    producer: Id


class ConsumerClosed(Notification):
    """The worker closed a Consumer because its Producer or Transport died."""

    event: Literal["consumer_closed"] = "consumer_closed"
    router: Id
    consumer: Id


LimitedBy = Literal["nothing", "view", "line", "source"]


class ConsumerLayers(Notification):
    """What a viewer gets of a video has changed."""

    event: Literal["consumer_layers"] = "consumer_layers"
    router: Id
    owner: Id
    consumer: Id
    spatial: int
    """Layer that is forwarded, 0 the smallest; -1: nothing."""
    temporal: int
    spatial_layers: int
    """How many the publisher may send."""
    limited_by: LimitedBy
    """Why it is not the best: the area it is shown in, the viewer's line, or layers the publisher does not send."""


class LineQuality(Notification):
    """How a peer's line is, every two seconds while something is sent to it."""

    event: Literal["line_quality"] = "line_quality"
    router: Id
    owner: Id
    transport: Id
    estimate_bps: int
    round_trip_ms: float | None
    lost: float
    """Share of packets lost towards the peer, 0 to 1."""
    protocol: Literal["udp", "tcp"]


class Load(Notification):
    """How busy the worker is, every second."""

    event: Literal["load"] = "load"
    cpu_share: float
    """Of one core, all threads, over the last second."""
    loop_lag_ms: float
    """Worst delay of a timer in the last second."""
    loop_lags: list[int] = Field(default=[], max_length=len(BOUNDS_S) + 1)
    """Moments of the last second by how late the loop was: the buckets of ``core.lag``."""
    loop_lags_s: float = 0.0
    """Sum of these delays, seconds."""
    packets_in_per_s: int
    packets_out_per_s: int
    transports: int
    consumers: int


AnyNotification = Annotated[
    WorkerReady
    | TransportState
    | ActiveSpeaker
    | ProducerClosed
    | ConsumerClosed
    | ConsumerLayers
    | LineQuality
    | Load,
    Field(discriminator="event"),
]

_requests: TypeAdapter[AnyRequest] = TypeAdapter(AnyRequest)
_notifications: TypeAdapter[AnyNotification] = TypeAdapter(AnyNotification)


class MalformedFrame(Exception):
    """The other end broke the framing; the connection cannot go on."""


class FrameReader:
    """Cut a byte stream into control frames; bounded by ``FRAME_LIMIT_BYTES``."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[JsonObject]:
        """Take bytes, give the frames that are now complete.

        Raises:
            MalformedFrame: too long, not msgpack, or not a map.
        """
        self._pending += data
        while len(self._pending) >= 4:
            length = int.from_bytes(self._pending[:4], "big")
            if length > FRAME_LIMIT_BYTES:
                raise MalformedFrame(f"frame of {length} bytes")
            if len(self._pending) < 4 + length:
                return
            body = bytes(self._pending[4 : 4 + length])
            del self._pending[: 4 + length]
            yield _decode_map(body)


def _decode_map(body: bytes) -> JsonObject:
    try:
        value = msgpack.unpackb(body, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise MalformedFrame("not msgpack") from error
    if not isinstance(value, dict):
        raise MalformedFrame("not a map")
    return value


def build_frame(value: JsonObject) -> bytes:
    """Length prefix and msgpack of one map."""
    body: bytes = msgpack.packb(value)
    return len(body).to_bytes(4, "big") + body


def parse_request(call: object) -> AnyRequest:
    """Check one call.

    Raises:
        MediaError: ``bad_parameters``; unknown method, missing, wrong or unknown fields.
    """
    try:
        return _requests.validate_python(call)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MediaError(MediaErrorCode.BAD_PARAMETERS, f"{where}: {first['msg']}") from error


def parse_notification(note: object) -> AnyNotification:
    """Check one notification.

    Raises:
        MalformedFrame: not one this version knows.
    """
    try:
        return _notifications.validate_python(note)
    except ValidationError as error:
        raise MalformedFrame("unknown notification") from error
