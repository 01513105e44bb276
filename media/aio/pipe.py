"""Publishers on another worker of this machine: a consult that is larger than one worker.

What a publisher sends to worker A, decrypted and otherwise as it came, crosses once to each worker B where somebody
wants it, and there takes the way of every packet: B has a Transport without a network (`PipeTransport`) and on it the
same Producers under the same ids, so layers, numbering, repair and sender reports work as if the publisher had come
to B. Requests for key frames go back. Repairs do not: A asks the publisher itself, and what it repairs crosses too.
Layers of pictures that nobody on B follows do not cross either: B names them, and is told twice a second how large they
are and what they take, so that it can choose among them as if they came.

One SOCK_SEQPACKET connection for each publisher and destination, in the supervisor's directory of mode 0700,
opened by A with a key that B was given. A message is one read batch:

    u8 kind | u32 length | bytes, again and again        A -> B: RTP, RTCP, DATA (u8 id length, id, u8 is text, bytes),
                                                         METER (u32 SSRC, u16 width, u16 height, then for each layer
                                                         u8 spatial, u8 temporal, u32 bit/s)
    u32 SSRC                                             B -> A: a key frame is wanted, and so is the stream
    u8 255 | u32 SSRC, again and again                   B -> A: these, and no others, are not wanted now

A full socket loses a batch of media, as a network would: B asks for a key frame then. Messages of DataProducers
wait for room, ahead of all media: a waveform that A's viewers have, B's have too. Where the connection
ends, B closes the PipeTransport and all it carries; A's own viewers notice nothing.

Long on purpose: both ends of one private protocol, read side by side.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Any

from media.aio.aiortc_port import Certificate, NativeBuffer
from media.aio.clock import Clock
from media.aio.counters import Counters
from media.aio.feedback import Feedback
from media.aio.ingress import Ingress
from media.aio.sctp import ChannelPort
from media.aio.transport import TAPPED_DATA, TAPPED_RTCP, TAPPED_RTP, Spawn, Transport, TransportEvents
from media.core import rtcp
from media.core.control import MediaError, MediaErrorCode
from media.core.ice import Consent, Credentials
from media.core.layers import Target
from media.core.receive import ReceiveStream

_HEAD = Struct("!BI")
_SSRC = Struct("!I")
_METER = Struct("!IHH")
_METER_LAYER = Struct("!BBI")
METER = 9
"""Beside what taps are offered."""
METER_EVERY_US = 500_000
"""Half of what makes a layer count as switched off."""
UNWANTED = 255
NEEDS_EVERY_US = 250_000
"""How soon a layer that is followed no more, or followed again without a key frame, is told of."""
REQUEST_BYTES = 4096
MESSAGE_BYTES = 48 << 10
"""Largest message: what a read batch brings more goes in another. A default socket buffer holds a few."""
BUFFER_BYTES = 1 << 20
BACKLOG = 64
ACCEPT_PAUSE_S = 1.0
WAITING_MESSAGES = 1024
"""Messages of DataProducers that may wait for room: a minute and a half of a 12-lead ECG; then the oldest give way."""


class PipeBatch:
    """What one publisher's pipe gathers during a read batch; cut into messages."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, kind: int, packet: bytes) -> bool:
        """Take one packet; False when it does not fit any more."""
        size = _HEAD.size + len(packet)
        if self.size + size > MESSAGE_BYTES:
            return False
        self.parts += (_HEAD.pack(kind, len(packet)), packet)
        self.size += size
        return True

    def take(self) -> bytes:
        """All of it, and empty."""
        message = b"".join(self.parts)
        self.parts, self.size = [], 0
        return message


class PipeOut:
    """A's end: copies what one publisher sends to one other worker.

    Args:
        want_keyframe: called with the SSRC of a stream.
        measure: the METER of an SSRC; None when it has none or it is not due.
        over: called once when the other end is gone.
        filling: pipes that have something to send at the end of the read batch; this one adds itself.
    """

    def __init__(
        self,
        path: Path,
        key: bytes,
        counters: Counters,
        want_keyframe: Callable[[int], None],
        over: Callable[["PipeOut"], None],
        filling: "list[PipeOut]",
        measure: Callable[[int], bytes | None] = lambda _ssrc: None,
    ) -> None:
        self._counters = counters
        self._want_keyframe = want_keyframe
        self._measure = measure
        self._unwanted: set[int] = set()
        self._over = over
        self._filling = filling
        self._batch = PipeBatch()
        self._waiting: deque[bytes] = deque()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            self._socket.connect(str(path))
            self._socket.send(key)
        except OSError as error:
            self._socket.close()
            raise MediaError(MediaErrorCode.WORKER_GONE, "the other media worker cannot be reached") from error
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def offer(self, kind: int, packet: bytes) -> None:
        """Gather one packet."""
        if self._unwanted and kind == TAPPED_RTP:
            ssrc = int.from_bytes(packet[8:12], "big")
            if ssrc in self._unwanted:
                measured = self._measure(ssrc)
                if measured is None:
                    return
                kind, packet = METER, measured
        if not self._batch.parts:
            self._filling.append(self)
        self._add(kind, packet)

    def _add(self, kind: int, packet: bytes) -> None:
        if not self._batch.add(kind, packet):
            self.flush()
            if not self._batch.add(kind, packet):
                self._counters.add("pipe_oversize")

    def flush(self) -> None:
        """Send what was gathered."""
        if not self._batch.parts:
            return
        message = self._batch.take()
        if self._waiting or not self._send(message):
            self._counters.add("pipe_batches_dropped")

    def _send(self, message: bytes) -> bool:
        """Send one message; False when there is no room for it."""
        if self._socket.fileno() < 0:
            return True  # nobody is there any more
        try:
            self._socket.send(message)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._end()
        else:
            self._counters.add("pipe_batches_sent")
        return True

    def data(self, identity: str, message: bytes | str) -> None:
        """Send one message of a DataProducer, at once."""
        name = identity.encode()
        raw = message.encode() if isinstance(message, str) else message
        self.flush()
        batch = PipeBatch()
        if not batch.add(TAPPED_DATA, bytes((len(name),)) + name + bytes((isinstance(message, str),)) + raw):
            self._counters.add("pipe_oversize")
            return
        whole = batch.take()
        if self._waiting or not self._send(whole):
            self._wait(whole)

    def _wait(self, message: bytes) -> None:
        if len(self._waiting) >= WAITING_MESSAGES:
            self._waiting.popleft()
            self._counters.add("pipe_messages_dropped")
        if not self._waiting:
            asyncio.get_running_loop().add_writer(self._socket.fileno(), self._writable)
        self._waiting.append(message)

    def _writable(self) -> None:
        while self._waiting and self._send(self._waiting[0]):
            if self._waiting:  # its end empties it
                self._waiting.popleft()
        if not self._waiting and self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_writer(self._socket.fileno())

    def close(self) -> None:
        """End the connection; idempotent."""
        self._waiting.clear()
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            asyncio.get_running_loop().remove_writer(self._socket.fileno())
            self._socket.close()

    def _end(self) -> None:
        if self._socket.fileno() >= 0:
            self.close()
            self._over(self)

    def _readable(self) -> None:
        try:
            request = self._socket.recv(REQUEST_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            request = b""
        if len(request) == _SSRC.size:
            ssrc = _SSRC.unpack(request)[0]
            self._unwanted.discard(ssrc)
            self._want_keyframe(ssrc)
        elif request and request[0] == UNWANTED and len(request) % _SSRC.size == 1:
            self._unwanted = {ssrc for (ssrc,) in _SSRC.iter_unpack(request[1:])}
        else:
            self._end()


class NoChannel:
    """The channel of a DataProducer that is on another worker: nothing is sent to it."""

    buffered_bytes = 0

    def send(self, _message: bytes | str) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Nothing to end."""


class PipeAssociation:
    """Stands where a client's SCTP association would: its messages come through the pipe."""

    def takes(self, _stream_id: int) -> bool:
        """No stream id is ever in the way."""
        return False

    def open_channel(self, *_arguments: Any) -> ChannelPort:
        """A channel that is only received on."""
        channel: Any = NoChannel()
        return channel  # type: ignore[no-any-return]


class PipeTransport(Transport):
    """B's end: a publisher that is on another worker. It needs no ICE, DTLS or consent."""

    def __init__(
        self,
        *,
        transport_id: str,
        router_id: str,
        owner: str,
        certificate: Certificate,
        spawn: Spawn,
        counters: Counters,
        events: TransportEvents,
    ) -> None:
        super().__init__(
            transport_id=transport_id,
            router_id=router_id,
            owner=owner,
            direction="send",
            credentials=Credentials("", ""),
            certificate=certificate,
            send=lambda _datagram, _address: False,
            spawn=spawn,
            counters=counters,
            events=events,
        )
        self.leg.divert = self._ask
        self._association: Any = PipeAssociation()
        self._connection: socket.socket | None = None
        self._unwanted: set[int] = set()
        """SSRCs that A was last told are not wanted."""
        self._needs_due_us = 0

    @property
    def sctp(self) -> Any:
        """What DataProducers open their channels on."""
        return self._association

    def attach(self, connection: socket.socket) -> None:
        """A has dialled in."""
        self._connection = connection

    def judge(self, _now_ms: int) -> Consent:
        """A pipe is there or has ended."""
        return Consent.NEW

    def lost(self) -> None:
        """A has closed its end, or died."""
        if not self.closed:
            self._events.transport_failed(self)

    async def close(self) -> None:
        """End the connection; idempotent."""
        self.closed = True
        if self._connection is not None:
            connection, self._connection = self._connection, None
            if connection.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(connection.fileno())
                connection.close()

    def _ask(self, compound: bytes) -> bool:
        """Of what B would tell a publisher, A needs to know only which key frames are wanted."""
        if self._connection is None:
            return False
        for item in rtcp.parse(compound):
            if isinstance(item, rtcp.Pli):
                self._expect(item.media_ssrc)
                with contextlib.suppress(OSError):  # full or gone: it is asked for again until it comes
                    self._connection.send(_SSRC.pack(item.media_ssrc))
        return True

    def tell_needs(self, now_us: int) -> None:
        """Tell A what nobody here follows; call after each message from A."""
        if now_us < self._needs_due_us or self._connection is None:
            return
        self._needs_due_us = now_us + NEEDS_EVERY_US
        # Sound is always wanted: who is loudest is found out here.
        unwanted = {
            ssrc
            for ssrc, stream in self.streams.items()
            if not stream.producer.is_audio and not stream.layer.lanes and stream.layer.media is not None
        }
        if unwanted == self._unwanted:
            return
        for ssrc in self._unwanted - unwanted:
            self._expect(ssrc)
        message = bytes((UNWANTED,)) + b"".join(map(_SSRC.pack, sorted(unwanted)))
        with contextlib.suppress(OSError):  # full or gone: said again the next time
            self._connection.send(message)
            self._unwanted = unwanted

    def take_meter(self, data: bytes, now_us: int) -> None:
        """What A measured of a stream that does not cross now."""
        ssrc, width, height = _METER.unpack_from(data)
        stream = self.streams.get(ssrc)
        if stream is None or ssrc not in self._unwanted:
            return
        rates = {
            Target(spatial, temporal): bps for spatial, temporal, bps in _METER_LAYER.iter_unpack(data[_METER.size :])
        }
        layer = stream.layer
        if len(stream.producer.layers) > 1:  # simulcast: the two workers may count the layers differently
            rates = {Target(layer.index, target.temporal): bps for target, bps in rates.items()}
        layer.meter.told(width, height, rates, now_us)

    def _expect(self, ssrc: int) -> None:
        """A stream comes again, from wherever its numbers are by now: what was left out is not missing."""
        stream = self.streams.get(ssrc)
        if stream is None or ssrc not in self._unwanted:
            return
        self._unwanted.discard(ssrc)
        parameters = stream.producer.parameters
        nack = parameters.feedback.nack and not stream.is_rtx
        stream.receive = ReceiveStream(ssrc, parameters.clock_rate_hz, nack=nack)


class Pipes:
    """All pipes of one worker, both directions.

    Args:
        buffer: the worker's receive buffer: packets are read where they are handled.
        data: takes the messages of DataProducers.
    """

    def __init__(
        self,
        buffer: NativeBuffer,
        counters: Counters,
        clock: Clock,
        ingress: Ingress,
        feedback: Feedback,
        data: Callable[[PipeTransport, str, bytes | str], None],
    ) -> None:
        self._buffer = buffer
        self._counters = counters
        self._clock = clock
        self._ingress = ingress
        self._feedback = feedback
        self._take_data = data
        self._expected: dict[bytes, PipeTransport] = {}
        self._filling: list[PipeOut] = []
        self._path: Path | None = None
        self._socket: socket.socket | None = None
        self._strangers: set[socket.socket] = set()

    def open(self, path: Path) -> None:
        """Listen.

        Raises:
            OSError: the path cannot be used.
        """
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self._socket.listen(BACKLOG)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Listen no more; idempotent. Connections belong to their Transports."""
        loop = asyncio.get_running_loop()
        for connection in (*self._strangers, *([self._socket] if self._socket is not None else [])):
            loop.remove_reader(connection.fileno())
            connection.close()
        self._strangers.clear()
        self._socket = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def expect(self, key: str, transport: PipeTransport) -> None:
        """Another worker will dial in with this key."""
        for old in [k for k, expected in self._expected.items() if expected.closed]:
            del self._expected[old]
        self._expected[bytes.fromhex(key)] = transport

    def connect(self, transport: Transport, path: Path, key: str) -> None:
        """Copy what a publisher sends to another worker.

        Raises:
            MediaError: ``worker_gone``, it is not there.
        """

        due_us: dict[int, int] = {}

        def measure(ssrc: int) -> bytes | None:
            stream, now_us = transport.streams.get(ssrc), self._clock()
            if stream is None or stream.is_rtx or now_us < due_us.get(ssrc, 0):
                return None
            due_us[ssrc] = now_us + METER_EVERY_US
            meter = stream.layer.meter
            return _METER.pack(ssrc, meter.width, meter.height) + b"".join(
                _METER_LAYER.pack(*target, min(bps, 0xFFFFFFFF)) for target, bps in meter.rates(now_us).items()
            )

        def want_keyframe(ssrc: int) -> None:
            stream = transport.streams.get(ssrc)
            if stream is not None:
                self._feedback.want_keyframe(stream.producer, stream.layer, self._clock())

        transport.taps.append(
            PipeOut(
                path, bytes.fromhex(key), self._counters, want_keyframe, transport.taps.remove, self._filling, measure
            )
        )
        if transport.leg.intake is not None:
            transport.leg.intake.disarm()  # what is sent ahead passes no tap in time

    def flush(self) -> None:
        """The read batch is over."""
        if self._filling:
            filling = self._filling[:]
            self._filling.clear()
            for pipe in filling:
                pipe.flush()

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError:  # out of descriptors: the one that waits would wake us without end
            self._counters.add("pipe_accept_errors")
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            loop.call_later(ACCEPT_PAUSE_S, self._accept_again)
            return
        connection.setblocking(False)
        self._strangers.add(connection)
        asyncio.get_running_loop().add_reader(connection.fileno(), self._greeted, connection)

    def _accept_again(self) -> None:
        if self._socket is not None and self._socket.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def _greeted(self, connection: socket.socket) -> None:
        """The first message names the pipe."""
        try:
            key = connection.recv(64)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            key = b""
        loop = asyncio.get_running_loop()
        self._strangers.discard(connection)
        loop.remove_reader(connection.fileno())
        transport = self._expected.pop(key, None)
        if transport is None or transport.closed:
            self._counters.add("pipe_strangers")
            connection.close()
            return
        transport.attach(connection)
        loop.add_reader(connection.fileno(), self._readable, connection, transport)

    def _readable(self, connection: socket.socket, transport: PipeTransport) -> None:
        try:
            size = connection.recv_into(self._buffer.view, MESSAGE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        if not size:
            asyncio.get_running_loop().remove_reader(connection.fileno())
            transport.lost()
            return
        now_us = self._clock()
        try:
            self._message(transport, size, now_us)
        except Exception:  # a bug met by one packet must not end the pipe, nor the loop of every consult
            self._counters.broke("pipe_errors")
        self._ingress.flush(now_us)

    def _message(self, transport: PipeTransport, size: int, now_us: int) -> None:
        data, position = self._buffer.data, 0
        held: list[bytes] = []
        while position + _HEAD.size <= size:
            kind, length = _HEAD.unpack_from(data, position)
            start = position + _HEAD.size
            position = start + length
            if position > size:
                self._counters.add("pipe_malformed")
                return
            if kind == TAPPED_RTP:
                self._ingress.piped(transport, start, position, now_us)
            elif kind == TAPPED_RTCP:
                self._feedback.received(transport, bytes(data[start:position]), now_us)
            elif kind == METER:
                transport.take_meter(bytes(data[start:position]), now_us)
            elif kind == TAPPED_DATA:
                held.append(bytes(data[start:position]))
        for message in held:
            length = message[0]
            identity, is_text, body = message[1 : 1 + length].decode(), message[1 + length], message[2 + length :]
            self._take_data(transport, identity, body.decode() if is_text else body)
        transport.tell_needs(now_us)
