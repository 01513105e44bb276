"""Data channels of one Transport: an SCTP association over its DTLS.

The association itself is ``media.core.sctp``; here are its clock, its randomness, its timer and the channels that
signalling negotiated (RFC 8831 without RFC 8832, ORTC trap 21). Sending is put off to the worker's `Turns`: what
is queued until then shares packets, and fifty viewers' packets do not keep media waiting.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from media.aio.aiortc_port import DtlsPort
from media.core.ortc_transport import SctpStream
from media.core.sctp import MAX_STREAMS, Association, Closed, Event, Message, Opened, ResetDone, State, StreamsReset
from media.core.sctp import channels as wire

Count = Callable[[str], None]
"""Adds one to a named counter."""

__all__ = ["MAX_STREAMS", "ChannelPort", "SctpPort"]


def _now_us() -> int:
    return time.monotonic_ns() // 1000


class ChannelPort:
    """One negotiated data channel."""

    def __init__(self, port: "SctpPort", stream: SctpStream, on_message: Callable[[bytes | str], None] | None) -> None:
        self.on_message = on_message
        self.stream = stream
        self.closing = False
        self.reset_out = self.reset_in = False
        self._port = port

    @property
    def is_open(self) -> bool:
        """Messages can be sent now."""
        return not self.closing and self._port.is_open

    @property
    def buffered_bytes(self) -> int:
        """What waits on this channel and has not left for the first time."""
        return self._port.waiting_bytes(self.stream.stream_id)

    def send(self, message: bytes | str, life_ms: int | None = None) -> bool:
        """Queue one message; False when the channel is not open, the message too long, or too much waits.

        Args:
            life_ms: given up when it has not left by then; None: what the channel promises.
        """
        return not self.closing and self._port.send(self.stream, message, life_ms)

    def close(self) -> None:
        """Reset the stream; what is queued leaves first, what comes is ignored. Idempotent."""
        self.on_message = None
        if not self.closing:
            self.closing = True
            self._port.close_channel(self)


@dataclass(slots=True)
class _Timer:
    due_us: int
    handle: asyncio.TimerHandle


class SctpPort:
    """The SCTP association of one Transport.

    Args:
        count: counts what is refused, by name.
        on_abuse: the peer did what no honest one does; its Transport should end.
    """

    def __init__(self, dtls: DtlsPort, count: Count, on_abuse: Callable[[], None]) -> None:
        self._dtls, self._count, self._on_abuse = dtls, count, on_abuse
        self._association = Association(
            tag=secrets.randbelow((1 << 32) - 1) + 1,
            initial_tsn=secrets.randbits(32),
            cookie_key=secrets.token_bytes(16),
        )
        self._channels: dict[int, ChannelPort] = {}
        self._started = False
        self._loop = asyncio.get_running_loop()
        self._timer: _Timer | None = None

    @property
    def is_open(self) -> bool:
        """The association is up."""
        return self._association.state is State.ESTABLISHED

    async def start(self) -> None:
        """Begin the association; DTLS must be connected. Idempotent."""
        if not self._started:
            self._started = True
            self._association.connect(_now_us())
            self._flush()
            self._dtls.on_data(self._received)

    def open_channel(
        self,
        stream: SctpStream,
        label: str,
        protocol: str,
        on_message: Callable[[bytes | str], None] | None,
    ) -> ChannelPort:
        """Make our end of a negotiated channel; label and protocol are not sent.

        Raises:
            ValueError: the stream id is taken.
        """
        if self.takes(stream.stream_id):
            raise ValueError(f"stream {stream.stream_id} is taken")
        channel = self._channels[stream.stream_id] = ChannelPort(self, stream, on_message)
        return channel

    def takes(self, stream_id: int) -> bool:
        """The id is in use, or still being reset."""
        return stream_id in self._channels

    async def stop(self) -> None:
        """Abort the association; idempotent."""
        if self._started:
            self._started = False
            self._association.close()
            self._flush()
        self._dtls.turns.forget(self._flush)
        if self._timer is not None:
            self._timer.handle.cancel()
            self._timer = None

    # ------------------------------------------------------------- channels

    def waiting_bytes(self, stream_id: int) -> int:
        """What waits on a stream."""
        return self._association.waiting_bytes(stream_id)

    def send(self, stream: SctpStream, message: bytes | str, life_ms: int | None = None) -> bool:
        """Queue one message on a stream; see `ChannelPort.send`."""
        protocol, payload = wire.encode(message)
        if life_ms is None:
            life_ms = stream.max_packet_life_time_ms
        queued = self._association.send(
            stream.stream_id,
            protocol,
            payload,
            ordered=stream.ordered,
            max_resends=stream.max_retransmits,
            expires_us=None if life_ms is None else _now_us() + 1000 * life_ms,
        )
        if queued:
            self._dtls.turns.wake(self._flush)
        return queued

    def close_channel(self, channel: ChannelPort) -> None:
        """Our direction ends."""
        if self._association.reset(channel.stream.stream_id):
            self._channels.pop(channel.stream.stream_id, None)
        else:
            self._dtls.turns.wake(self._flush)

    # ------------------------------------------------------------- packets and time

    def _received(self, packet: bytes) -> None:
        events = self._association.receive(packet, _now_us())
        if self._association.refused:
            for reason, times in self._association.refused.items():
                for _ in range(times):
                    self._count("sctp_refused")
                    self._count(f"sctp_refused_{reason}")
            self._association.refused.clear()
        try:
            for event in events:
                self._on_event(event)
        finally:
            self._flush()

    def _on_event(self, event: Event) -> None:
        match event:
            case Message():
                self._deliver(event)
            case Opened():
                self._count("sctp_established")
            case StreamsReset():
                for stream_id in event.streams or list(self._channels):
                    self._reset_in(stream_id)
            case ResetDone():
                for stream_id in event.streams:
                    self._reset_out(stream_id)
            case Closed():
                self._channels.clear()
                if event.reason in ("aborted", "shutdown"):
                    self._count("sctp_closed_by_peer")
                else:
                    self._count("sctp_abuse")
                    self._on_abuse()

    def _deliver(self, message: Message) -> None:
        if message.protocol == wire.DCEP:
            self._count("sctp_dcep_refused")  # channels are negotiated by signalling only (ORTC trap 21)
            return
        channel = self._channels.get(message.stream)
        if channel is None or channel.on_message is None:
            self._count("sctp_without_channel")
            return
        try:
            content = wire.decode(message)
        except wire.NotAMessage:
            self._count("sctp_refused")
            return
        channel.on_message(content)

    def _reset_in(self, stream_id: int) -> None:
        channel = self._channels.get(stream_id)
        if channel is not None:
            channel.reset_in = True
            channel.close()  # RFC 8831 section 6.7: a channel closes in both directions
            self._release(channel)

    def _reset_out(self, stream_id: int) -> None:
        channel = self._channels.get(stream_id)
        if channel is not None:
            channel.reset_out = True
            self._release(channel)

    def _release(self, channel: ChannelPort) -> None:
        if channel.reset_in and channel.reset_out:
            self._channels.pop(channel.stream.stream_id, None)

    def _flush(self) -> None:
        for packet in self._association.flush(_now_us()):
            self._dtls.send(packet)
        self._arm()

    def _arm(self) -> None:
        """One timer; it is not moved when its deadline moves away, which every acknowledgement does."""
        due_us = self._association.deadline_us
        if due_us is None or not self._started or (self._timer is not None and self._timer.due_us <= due_us):
            return
        if self._timer is not None:
            self._timer.handle.cancel()
        late_s = max(0, due_us - _now_us()) / 1e6 + 0.001
        self._timer = _Timer(due_us, self._loop.call_later(late_s, self._expired))

    def _expired(self) -> None:
        self._timer = None
        self._association.tick(_now_us())
        self._dtls.turns.wake(self._flush)
