"""What the relay does with waveforms of one Router: check, keep 30 s, pass on, repair.

The relay hands in messages of sources and control messages of viewers and sends
what comes back. A message is passed on as the same bytes it came in; the signal is
never decoded, filtered or resampled here (W10). Control messages are msgpack maps,
see media/WAVEFORM_WIRE.md. Nothing a peer sends raises: it is refused and counted.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgpack

from media.core.waveform.errors import MalformedFrame
from media.core.waveform.frame import MAX_FRAME_BYTES, Flag, WaveformFrame, split_message, with_flags
from media.core.waveform.places import Places
from media.core.waveform.repair import Bucket, SourceRepair
from media.core.waveform.ring import MAX_FRAMES, FrameRing

MAX_MESSAGE_BYTES: Final = 2 * MAX_FRAME_BYTES
MAX_CONTROL_BYTES: Final = 512
MAX_NACK_SPAN: Final = 1024
"""Frames one request may name; more than the ring of any sane stream holds."""
CONTROL_PER_S: Final = 40.0
CONTROL_BURST: Final = 80.0
RESEND_PER_S: Final = 200.0
"""Frames per second resent to one viewer on the long run: a viewer that asks for all of it twice over."""
RESEND_BURST: Final = 700.0
"""A ring of 50 ms frames and then some, after a reconnect."""
REORDER_FRAMES: Final = 2
"""The newest frames may still come in out of order: they are not "gone" yet."""
MAX_VIEWERS: Final = 4096
MAX_RANGES: Final = 8192
"""Stretches of numbers that are remembered of a stream, whatever its source numbers."""
LOST_WINDOW: Final = 4096
"""Frames that `WaveformHub.lost_frames` looks back."""
_U32: Final = 2**32 - 1

Channel = Literal["ctl", "ecg"]
Reply = tuple[Channel, bytes]


class StreamInUse(ValueError):
    """Another open source of this Router already has this stream id."""


class _Refused(Exception):
    """Why a message was not taken; its text is the name of a counter."""


@dataclass(slots=True)
class _Stream:
    simulated: bool
    context_version: int | None
    """Of the binding it was announced under; None: not known here."""
    ring: FrameRing = field(default_factory=FrameRing)
    places: Places = field(default_factory=lambda: Places(MAX_RANGES))
    repair: SourceRepair = field(default_factory=SourceRepair)


class _Viewer:
    def __init__(self) -> None:
        self.control = Bucket(CONTROL_PER_S, CONTROL_BURST)
        self.resend = Bucket(RESEND_PER_S, RESEND_BURST)


class WaveformHub:
    """Streams and viewers of one Router. Pure: time comes in as server microseconds."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        """frames, bytes, repaired, asked, resent, gone, ping, and one ``refused_...`` per reason."""
        self.fresh: list[bytes] = []
        """Frames that the last accepted message brought for the first time, oldest first, without transport flags."""
        self._streams: dict[int, _Stream] = {}
        self._viewers: OrderedDict[str, _Viewer] = OrderedDict()

    def open_stream(self, stream_id: int, simulated: bool, context_version: int | None = None) -> None:
        """A source announced a stream.

        Args:
            context_version: what every frame must carry; None where nobody here knows.

        Raises:
            StreamInUse: its id is taken by an open stream.
        """
        if stream_id in self._streams:
            raise StreamInUse(f"stream {stream_id} is already open")
        self._streams[stream_id] = _Stream(simulated, context_version)

    def close_stream(self, stream_id: int) -> None:
        """The source is gone; idempotent. Its ring goes with it."""
        self._streams.pop(stream_id, None)

    def close_viewer(self, viewer_id: str) -> None:
        """Forget a viewer's budget; idempotent."""
        self._viewers.pop(viewer_id, None)

    def lost_frames(self, stream_id: int) -> int:
        """Frames of the current window that never reached the relay."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return 0
        newest = stream.places.newest_seq
        return sum(last - first + 1 for first, last in stream.places.missing(max(0, newest - LOST_WINDOW), newest))

    def accept(self, stream_id: int, message: bytes, now_us: int) -> bytes | None:
        """Check and keep a source's message.

        Args:
            stream_id: the stream that this DataProducer announced.
            message: a frame, usually with the one before it.
            now_us: server time.

        Returns:
            The bytes to pass on to every viewer, or None when refused (counted).
        """
        try:
            stream, frame, previous = self._check(stream_id, message)
        except _Refused as refusal:
            self.counters[f"refused_{refusal}"] += 1
            return None
        self.fresh.clear()
        if previous is not None and _other_context(stream, previous):
            # What a source appends at a switch of patients; nobody gets it, and the new patient's frame is not lost.
            self.counters["refused_context"] += 1
            previous, message = None, frame.encoded
        if previous is not None:
            lacked = len(stream.ring) > 0 and stream.ring.get(previous.seq) is None
            self._keep(stream, previous, now_us)
            self.counters["repaired"] += lacked and stream.ring.get(previous.seq) is not None
        self._keep(stream, frame, now_us)
        self.counters["frames"] += 1
        self.counters["bytes"] += len(message)
        return message

    def ask_source(self, stream_id: int, now_us: int) -> list[bytes]:
        """Control messages to the source of a stream, for what it should send again now. [WF18]"""
        stream = self._streams.get(stream_id)
        if stream is None:
            return []
        ranges = stream.repair.due(now_us)
        self.counters["asked"] += sum(last - first + 1 for first, last in ranges)
        return [
            msgpack.packb({"t": "nack", "stream": stream_id, "first": first, "last": last}) for first, last in ranges
        ]

    def awaits_source(self, stream_id: int) -> bool:
        """Whether `ask_source` should be asked again soon."""
        stream = self._streams.get(stream_id)
        return stream is not None and len(stream.repair) > 0

    def kept(self, stream_id: int, first: int, last: int) -> Iterator[tuple[int, bytes | None]]:
        """Number and frame of a range, oldest first; None for one that is not kept and will not come any more.

        Looked up as it is asked for, and only as far as the newest frame.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        for seq in range(max(first, stream.ring.newest_seq - MAX_FRAMES), last + 1):
            if seq > stream.ring.newest_seq:
                return
            frame = stream.ring.get(seq)
            settled = seq <= stream.ring.newest_seq - REORDER_FRAMES and not stream.repair.waiting(seq)
            if frame is not None or settled:
                yield seq, frame

    def control(self, viewer_id: str, message: bytes, now_us: int) -> list[Reply]:
        """Answer a viewer's ``ping``, ``nack`` or ``have``.

        Returns:
            What to send to this viewer, in order: ``("ctl", map)`` on its control
            channel, ``("ecg", frame)`` on its DataConsumer of the stream named in
            the frame (`peek_stream_id`). Malformed or too many: nothing, counted.
        """
        try:
            viewer = self._viewer(viewer_id)
            if not viewer.control.take(now_us):
                raise _Refused("control_rate")
            request = _decode_map(message)
            match request.get("t"):
                case "ping":
                    return self._pong(request, now_us)
                case "nack":
                    stream_id, stream = self._requested_stream(request)
                    first, last = _u32(request, "first"), _u32(request, "last")
                    if not first <= last < first + MAX_NACK_SPAN:
                        raise _Refused("control_malformed")
                    return self._resend(viewer, stream_id, stream, first, last, now_us)
                case "have":
                    stream_id, stream = self._requested_stream(request)
                    return self._catch_up(viewer, stream_id, stream, _u32(request, "seq"), now_us)
                case _:
                    raise _Refused("control_malformed")
        except _Refused as refusal:
            self.counters[f"refused_{refusal}"] += 1
            return []

    def _check(self, stream_id: int, message: bytes) -> tuple[_Stream, WaveformFrame, WaveformFrame | None]:
        stream = self._streams.get(stream_id)
        if stream is None:
            raise _Refused("stream_closed")
        if len(message) > MAX_MESSAGE_BYTES:
            raise _Refused("oversize")
        try:
            frame, previous = split_message(message)
        except MalformedFrame:
            raise _Refused("malformed") from None
        for part in (frame, previous):
            if part is None:
                continue
            if part.stream_id != stream_id:
                raise _Refused("wrong_stream")
            # A simulated wave never passes as real, nor a real one as simulated. [W9]
            if bool(part.flags & Flag.SIMULATED) is not stream.simulated:
                raise _Refused("simulated_flag")
        # A frame belongs to the patient its stream was announced for. (W19, W20, W24)
        if _other_context(stream, frame):
            raise _Refused("context")
        return stream, frame, previous

    def _keep(self, stream: _Stream, frame: WaveformFrame, now_us: int) -> None:
        places = stream.places
        epoch, newest, refused = places.current, places.newest_seq, places.refused
        place = places.accept(frame)
        if place is None:
            if places.refused > refused:  # whoever keeps the stream counts it too
                self.counters["unplaced"] += 1
                self.fresh.append(frame.encoded)
            return
        self.fresh.append(frame.encoded)
        if places.current != epoch:
            stream.ring.clear()  # the device counts anew: its old numbers now mean other frames
            stream.repair.clear()
        elif 0 <= newest < frame.seq - 1 and place.epoch == epoch:
            frame_us = frame.n * 1_000_000_000 // frame.sample_rate_mhz
            stream.repair.missing(newest + 1, frame.seq - 1, frame_us, now_us)
        if place.epoch == places.current:
            stream.repair.arrived(frame.seq, now_us)
            stream.ring.put(frame.seq, frame.encoded, now_us)

    def _viewer(self, viewer_id: str) -> _Viewer:
        viewer = self._viewers.pop(viewer_id, None) or _Viewer()
        self._viewers[viewer_id] = viewer
        if len(self._viewers) > MAX_VIEWERS:
            self._viewers.popitem(last=False)
        return viewer

    def _requested_stream(self, request: dict[str, Any]) -> tuple[int, _Stream]:
        stream_id = _u32(request, "stream")
        stream = self._streams.get(stream_id)
        if stream is None:
            raise _Refused("control_stream")
        return stream_id, stream

    def _pong(self, request: dict[str, Any], now_us: int) -> list[Reply]:
        client_us = request.get("c")
        if type(client_us) is not int or not -(2**63) <= client_us < 2**63:
            raise _Refused("control_malformed")
        self.counters["ping"] += 1
        return [("ctl", msgpack.packb({"t": "pong", "c": client_us, "s": now_us}))]

    def _catch_up(self, viewer: _Viewer, stream_id: int, stream: _Stream, seq: int, now_us: int) -> list[Reply]:
        """Everything kept after ``seq``, oldest first; "gone" for what is not."""
        newest = stream.ring.newest_seq
        if newest <= seq:
            return []
        replies: list[Reply] = []
        first = max(seq + 1, newest - MAX_NACK_SPAN + 1)
        if first > seq + 1:
            replies.append(self._gone(stream_id, seq + 1, first - 1))
        return replies + self._resend(viewer, stream_id, stream, first, newest, now_us)

    def _resend(
        self, viewer: _Viewer, stream_id: int, stream: _Stream, first: int, last: int, now_us: int
    ) -> list[Reply]:
        replies: list[Reply] = []
        gone_from: int | None = None
        settled = stream.ring.newest_seq - REORDER_FRAMES
        for seq in range(first, last + 1):
            frame = stream.ring.get(seq)
            if frame is None and seq <= settled and not stream.repair.waiting(seq):
                gone_from = seq if gone_from is None else gone_from
                continue
            if gone_from is not None:
                replies.append(self._gone(stream_id, gone_from, seq - 1))
                gone_from = None
            if frame is None:
                continue
            if not viewer.resend.take(now_us):
                self.counters["refused_resend_rate"] += 1
                return replies
            self.counters["resent"] += 1
            replies.append(("ecg", with_flags(frame, add=Flag.RESEND)))
        if gone_from is not None:
            replies.append(self._gone(stream_id, gone_from, last))
        return replies

    def _gone(self, stream_id: int, first: int, last: int) -> Reply:
        self.counters["gone"] += last - first + 1
        return "ctl", msgpack.packb({"t": "gone", "stream": stream_id, "first": first, "last": last})


def _other_context(stream: _Stream, frame: WaveformFrame) -> bool:
    return stream.context_version is not None and frame.context_version != stream.context_version


def _decode_map(message: bytes) -> dict[str, Any]:
    if len(message) > MAX_CONTROL_BYTES:
        raise _Refused("control_malformed")
    try:
        decoded = msgpack.unpackb(message)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise _Refused("control_malformed") from None
    if not isinstance(decoded, dict):
        raise _Refused("control_malformed")
    return decoded


def _u32(request: dict[str, Any], name: str) -> int:
    value = request.get(name)
    if type(value) is not int or not 0 <= value <= _U32:
        raise _Refused("control_malformed")
    return value
