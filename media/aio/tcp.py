"""ICE-TCP, passive: media over TCP for clients whose firewall lets no UDP through (RFC 6544, RFC 4571).

A connection is one path of a Transport, as a UDP address is: nobody is believed until a check on it was
authenticated, and when it closes the path is gone. Its bytes are read into the same buffer that UDP fills, behind
what was left of an unfinished frame, so a datagram takes the same way from there and a connection keeps
no buffer of its own.

Writing never waits. What the kernel does not take waits in a bounded outbox; when that is full
the sender is told and drops (a viewer then resumes at a key frame), as with UDP. The kernel is asked to
hold little that is not on the wire yet: what waits there can no longer be dropped and only adds delay.

A listener is open to everybody, so strangers are few, short-lived and cheap: the oldest gives way to a newcomer,
one host cannot take all places, and after a handful of frames or seconds without a valid check it is over.
"""

import asyncio
import contextlib
import errno
import socket
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from media.aio.aiortc_port import NativeBuffer
from media.aio.clock import Clock
from media.aio.counters import Counters
from media.core import framing
from media.core.ice import CLOSED_AFTER_MS, Address

MAX_STREAMS = 4096
"""Connections in total; one Transport needs one."""
MAX_STRANGERS = 256
"""Connections that have not shown a valid check yet; the oldest gives way."""
MAX_STRANGERS_PER_HOST = 64
"""A hospital behind one address joins with all its screens at once; more than that at the same moment does not."""
MAX_STRANGER_FRAMES = 16
"""A client sends checks until one is answered, and nothing else before: a few."""
STRANGER_US = 5_000_000
"""Time for the first valid check: clients send it as soon as they are connected."""
IDLE_US = CLOSED_AFTER_MS * 1_000
"""A path without a byte for so long has no consent any more."""
OUTBOX_BYTES = 256 << 10
"""A large key frame."""
CONTROL_BYTES = 16 << 10
"""Kept free of media: answers to checks must leave, or a slow path would be taken for a dead one."""
UNSENT_BYTES = 32 << 10
READ_BYTES = 65_536
"""What the kernel may hold that it has not sent yet."""
ACCEPTS_PER_WAKEUP = 32
BACKLOG = 256
PAUSE_S = 1.0
"""Before connections are taken again when the process has no descriptor left."""
_SWEEP_S = 1.0
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

OnDatagram = Callable[[int, int, Address, int], None]
"""``(offset, size, address, now_us)`` of one datagram in the receive buffer, valid during the call."""


class StreamAddress(NamedTuple):
    """Where a peer on a TCP connection is; unlike a UDP address it ends with the connection."""

    host: str
    port: int
    stream: "TcpStream"


class TcpStream:
    """One connection."""

    def __init__(self, port: "TcpPort", sock: socket.socket, host: str, remote_port: int, now_us: int) -> None:
        self.address = StreamAddress(host, remote_port, self)
        self.trusted = False
        """A check on it was authenticated."""
        self.opened_us = self.heard_us = now_us
        self._port = port
        self._socket: socket.socket | None = sock
        self._rest = b""
        self._outbox = bytearray()
        self._frames_left = MAX_STRANGER_FRAMES
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        """It is over."""
        return self._socket is None

    def trust(self) -> None:
        """A check was authenticated: this is a participant."""
        if not self.trusted:
            self.trusted = True
            self._port.no_stranger(self)

    def send(self, datagram: bytes) -> bool:
        """Send one datagram that is not media; False when it was dropped."""
        return self._send(framing.join(memoryview(datagram), len(datagram)), OUTBOX_BYTES + CONTROL_BYTES)

    def send_run(self, run: memoryview, segment_bytes: int) -> bool:
        """Send equal datagrams lying back to back (the last may be shorter), all or none.

        Args:
            run: all datagrams; copied before this returns.
            segment_bytes: length of each.

        Returns:
            False when nothing of it will be sent: the connection is backed up or closed.
        """
        return self._send(framing.join(run, segment_bytes), OUTBOX_BYTES)

    def close(self) -> None:
        """End the connection, without what still waits; idempotent."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock.fileno())
        loop.remove_writer(sock.fileno())
        sock.close()
        self._outbox.clear()
        self._port.closed(self)

    def _send(self, framed: bytearray, limit: int) -> bool:
        sock = self._socket
        if sock is None:
            return False
        if self._outbox:
            if len(self._outbox) + len(framed) > limit:
                self._port.counters.add("tcp_outbox_full")
                return False
            self._outbox += framed
            return True
        sent = self._write(sock, framed)
        if sent < len(framed) and not self.closed:
            self._outbox += memoryview(framed)[sent:]
            self._port.counters.add("tcp_outbox_used")
            asyncio.get_running_loop().add_writer(sock.fileno(), self._writable)
        return not self.closed

    def _write(self, sock: socket.socket, data: bytearray) -> int:
        """How much the kernel took; a broken connection is closed."""
        try:
            return sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._port.counters.add("tcp_broken")
            self.close()
            return 0

    def _writable(self) -> None:
        sock = self._socket
        if sock is not None:
            del self._outbox[: self._write(sock, self._outbox)]
            if not self._outbox and not self.closed:
                asyncio.get_running_loop().remove_writer(sock.fileno())

    def _readable(self) -> None:
        """Read once what fits the buffer; the loop wakes us again for the rest, after others had their turn."""
        sock, port = self._socket, self._port
        if sock is None:
            return
        buffer = port.buffer
        held = len(self._rest)
        buffer.data[:held] = self._rest
        try:
            size = sock.recv_into(buffer.view[held:], READ_BYTES - held)
        except BlockingIOError:
            return
        except OSError:
            port.counters.add("tcp_broken")
            size = 0
        if not size:
            self.close()
            return
        now_us = self.heard_us = port.clock()
        try:
            frames, end = framing.split(buffer.data, held + size)
        except framing.MalformedFrame:
            port.counters.add("tcp_malformed")
            self.close()
            return
        self._rest = bytes(buffer.view[end : held + size])
        self._hand_on(frames, now_us)

    def _hand_on(self, frames: list[tuple[int, int]], now_us: int) -> None:
        for offset, size in frames:
            if not self.trusted:
                self._frames_left -= 1
                if self._frames_left < 0:
                    self._port.counters.add("tcp_strangers_refused")
                    self.close()
            if self.closed:
                break  # by what one of its datagrams has brought about
            self._port.on_datagram(offset, size, self.address, now_us)
        self._port.on_batch_end(now_us)


class TcpPort:
    """The listening socket and its connections.

    Args:
        buffer: what all connections are read into, one at a time.
        on_datagram: takes each datagram.
        on_batch_end: called when one connection's datagrams are handed on.
        on_closed: a connection is over, its address is nobody's any more.
    """

    def __init__(
        self,
        counters: Counters,
        clock: Clock,
        buffer: NativeBuffer,
        on_datagram: OnDatagram,
        on_batch_end: Callable[[int], None],
        on_closed: Callable[[StreamAddress], None],
    ) -> None:
        self.counters = counters
        self.clock = clock
        self.buffer = buffer
        self.on_datagram = on_datagram
        self.on_batch_end = on_batch_end
        self._on_closed = on_closed
        self._socket: socket.socket | None = None
        self._streams: set[TcpStream] = set()
        self._strangers: dict[TcpStream, str] = {}
        """Oldest first, with what counts as their host."""
        self._strangers_of: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None

    @property
    def streams(self) -> int:
        """Connections now."""
        return len(self._streams)

    def open(self, bind: str, port: int) -> int:
        """Listen; returns the port.

        Raises:
            OSError: the address or port cannot be had.
        """
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a replaced worker's connections linger
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bind != "::"))
            sock.bind((bind, port))
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._acceptable)
        return int(sock.getsockname()[1])

    def close(self) -> None:
        """End all connections and release the port; idempotent."""
        for handle in (self._timer, self._pause):
            if handle is not None:
                handle.cancel()
        self._timer = self._pause = None
        for stream in list(self._streams):
            stream.close()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def no_stranger(self, stream: TcpStream) -> None:
        """It is known or gone: its place among the strangers is free."""
        host = self._strangers.pop(stream, None)
        if host is not None:
            self._strangers_of[host] -= 1
            if not self._strangers_of[host]:
                del self._strangers_of[host]

    def closed(self, stream: TcpStream) -> None:
        """A connection has ended."""
        self.no_stranger(stream)
        self._streams.discard(stream)
        self._on_closed(stream.address)

    def _acceptable(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            for _ in range(ACCEPTS_PER_WAKEUP):
                try:
                    sock, address = self._socket.accept()
                except BlockingIOError:
                    raise
                except OSError as error:
                    if error.errno in _NO_DESCRIPTORS:
                        self._rest()
                        return
                    continue  # this one broke off while it waited
                self._take(sock, address)

    def _rest(self) -> None:
        """Do not turn in circles over a connection that cannot be accepted."""
        assert self._socket is not None
        self.counters.add("tcp_no_descriptors")
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        self._pause = loop.call_later(PAUSE_S, loop.add_reader, self._socket.fileno(), self._acceptable)

    def _take(self, sock: socket.socket, address: Address) -> None:
        host = network_of(address[0])
        if len(self._streams) >= MAX_STREAMS or self._strangers_of[host] >= MAX_STRANGERS_PER_HOST:
            self.counters.add("tcp_refused")
            sock.close()
            return
        if len(self._strangers) >= MAX_STRANGERS:
            self.counters.add("tcp_strangers_refused")
            next(iter(self._strangers)).close()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, CLOSED_AFTER_MS)
        except OSError:  # gone already
            sock.close()
            return
        stream = TcpStream(self, sock, address[0], address[1], self.clock())
        self._streams.add(stream)
        self._strangers[stream] = host
        self._strangers_of[host] += 1
        self.counters.add("tcp_accepted")
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.sweep(self.clock())
        if self._streams:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._on_timer)

    def sweep(self, now_us: int) -> None:
        """Close strangers who had their time and connections on which nothing comes."""
        for stream in list(self._streams):
            if not stream.trusted and now_us - stream.opened_us >= STRANGER_US:
                self.counters.add("tcp_strangers_refused")
                stream.close()
            elif now_us - stream.heard_us >= IDLE_US:
                self.counters.add("tcp_idle")
                stream.close()


def network_of(host: str) -> str:
    """What counts as one host: an IPv4 address, or the 64 leading bits that one IPv6 line is given."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return address.exploded[:19] if mapped is None else str(mapped)
    return host
