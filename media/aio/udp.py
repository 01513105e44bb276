"""The worker's one UDP socket.

asyncio's datagram transport costs a callback and an address object per packet and knows neither
UDP_GRO nor UDP_SEGMENT, so this drives a raw non-blocking socket: reads are batched, a run of
equal packets arrives in one call (GRO) and leaves in one call (GSO). Where the kernel refuses
either, the port falls back for good and counts it.

When the socket would block, datagrams wait in a bounded outbox; when that is full the sender
is told and drops (a viewer then resumes at a key frame). What the bytes mean is
``media.aio.relay``'s business.
"""

import asyncio
import errno
import fcntl
import socket
import struct
import sys
import termios
from collections import deque
from collections.abc import Callable

from media.aio.aiortc_port import NativeBuffer
from media.aio.clock import Clock
from media.aio.counters import Counters
from media.aio.loop import Wait, serve_first, serve_no_more
from media.core.ice import Address

UDP_SEGMENT = 103
UDP_GRO = 104
_IP_MTU_DISCOVER, _IP_PMTUDISC_DONT = 10, 0
_GRO_SPACE_BYTES = socket.CMSG_SPACE(4)
ARENA_BYTES = 1 << 19
"""A read takes 64 kB at the most; the C receive path keeps several until they are booked (``intake``)."""
_NOTHING = bytes(4)
READS_PER_WAKEUP = 64
"""Bounds how long other work waits; 64 reads of a GRO run each are up to 4 MB."""
SOCKET_BUFFER_BYTES = 4 << 20
OUTBOX_BYTES = 1 << 20
"""About 20 ms at 400 Mbit/s: longer queues only add delay."""
_FULL = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})
_GSO_REFUSED = frozenset({errno.EINVAL, errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP})
_TOO_LONG = frozenset({errno.EINVAL, errno.EMSGSIZE})
"""Also what the kernel says, by version, to segments longer than the path's MTU; single datagrams are fragmented."""
_SURE_SEGMENT_BYTES = 1_232
"""Fits every path (RFC 8200 section 5, less the headers): refused, it is not for its length."""

OnDatagram = Callable[[int, int, Address, int], None]
"""``(offset, size, address, now_us)`` of one datagram in ``UdpPort.buffer``, valid during the call."""


class UdpPort:
    """A bound socket that hands out datagrams and sends runs of them."""

    def __init__(
        self, counters: Counters, clock: Clock, on_datagram: OnDatagram, on_batch_end: Callable[[int], None]
    ) -> None:
        self.clock = clock
        self.buffer = NativeBuffer(ARENA_BYTES)
        self._counters = counters
        self._on_datagram = on_datagram
        self._on_batch_end = on_batch_end
        self._outbox: deque[tuple[bytes, int, Address]] = deque()
        self._outbox_bytes = 0
        self._segments: dict[int, list[tuple[int, int, bytes]]] = {}
        self._gso = True
        self._gro = False
        self._socket: socket.socket | None = None
        self._direct = -1
        self._waiting = bytearray(4)

    def open(self, bind: str, port: int, wait: Wait | None = None) -> int:
        """Bind and start to read; returns the port.

        Args:
            wait: waits for datagrams and reads them in place of this object, on a loop that can (``loop``).

        Raises:
            OSError: the address or port cannot be had.
        """
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bind != "::"))
            # No "don't fragment": where a tunnel is narrow and its ICMP filtered, long packets would vanish for ever.
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
            sock.bind((bind, port))
        except OSError:
            sock.close()
            raise
        try:
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
            self._gro = True
        except OSError:
            self._counters.add("udp_gro_refused")
        self._socket = sock
        self._direct = sock.fileno()
        serve_first(sock.fileno(), self._readable, wait)
        return int(sock.getsockname()[1])

    def close(self) -> None:
        """Release the port; idempotent."""
        if self._socket is not None:
            serve_no_more(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self._direct = -1

    @property
    def descriptor(self) -> int:
        """The socket for who reads past this object."""
        return self._direct

    @property
    def direct_fd(self) -> int:
        """The socket for who sends runs past this object; -1 while they must come through it."""
        return -1 if self._outbox or not self._gso else self._direct

    def send(self, datagram: bytes, address: Address) -> bool:
        """Send one datagram; False when it was dropped."""
        return self.send_run(memoryview(datagram), len(datagram), address)

    def send_one(self, datagram: memoryview, address: Address) -> bool:
        """`send_run` for one datagram."""
        sock = self._socket
        if sock is None or self._outbox:
            return self.send_run(datagram, len(datagram), address)
        try:
            sock.sendto(datagram, address)
        except OSError as error:
            return self.refused(datagram, len(datagram), address, error.errno or 0)
        return True

    def send_run(self, run: memoryview, segment_bytes: int, address: Address) -> bool:
        """Send equal datagrams lying back to back (the last may be shorter).

        Args:
            run: all datagrams; copied before this returns.
            segment_bytes: length of each.

        Returns:
            False when there was no room for any of them. What a path refuses, or only a part of the run, is lost
            like on the way: its numbers count as used.
        """
        sock = self._socket
        if sock is None:
            return False
        if self._outbox:
            return self._queue(run, segment_bytes, address)
        if len(run) > segment_bytes and not self._gso:
            return self._send_singly(run, segment_bytes, address)
        try:
            if len(run) > segment_bytes:
                ancillary = self._segments.get(segment_bytes)
                if ancillary is None:
                    ancillary = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", segment_bytes))]
                    self._segments[segment_bytes] = ancillary
                sock.sendmsg((run,), ancillary, 0, address)
            else:
                sock.sendto(run, address)
        except BlockingIOError:
            return self._queue(run, segment_bytes, address)
        except OSError as error:
            return self.refused(run, segment_bytes, address, error.errno or 0)
        return True

    def refused(self, run: memoryview, segment_bytes: int, address: Address, reason: int) -> bool:
        """A run was offered to the kernel, which did not take it: wait, send it otherwise, or count it as lost.

        Args:
            reason: errno.

        Returns:
            As `send_run`.
        """
        if reason in _FULL:
            return self._queue(run, segment_bytes, address)
        if len(run) > segment_bytes:
            too_long = reason in _TOO_LONG and segment_bytes > _SURE_SEGMENT_BYTES
            if too_long or reason == errno.EMSGSIZE:
                return self._send_singly(run, segment_bytes, address)
            if reason in _GSO_REFUSED:
                self._gso = False
                self._counters.add("udp_gso_refused")
                return self._send_singly(run, segment_bytes, address)
        self._counters.add("udp_send_errors")
        return True

    def _send_singly(self, run: memoryview, segment_bytes: int, address: Address) -> bool:
        datagrams = [run[start : start + segment_bytes] for start in range(0, len(run), segment_bytes)]
        left = [self.send_run(datagram, len(datagram), address) for datagram in datagrams]
        return any(left)

    def _queue(self, run: memoryview, segment_bytes: int, address: Address) -> bool:
        if self._outbox_bytes + len(run) > OUTBOX_BYTES:
            self._counters.add("udp_outbox_full")
            return False
        assert self._socket is not None
        if not self._outbox:
            asyncio.get_running_loop().add_writer(self._socket.fileno(), self._writable)
        self._outbox.append((bytes(run), segment_bytes, address))
        self._outbox_bytes += len(run)
        self._counters.add("udp_outbox_used")
        return True

    def _writable(self) -> None:
        waiting, self._outbox, self._outbox_bytes = self._outbox, deque(), 0
        assert self._socket is not None
        asyncio.get_running_loop().remove_writer(self._socket.fileno())
        for run, segment_bytes, address in waiting:  # what still blocks queues itself again, in order
            self.send_run(memoryview(run), segment_bytes, address)

    def _readable(self) -> None:
        sock = self._socket
        if sock is None:
            return
        buffers = [self.buffer.data]
        waiting = self._waiting
        reads = 0
        try:
            while reads < READS_PER_WAKEUP:
                if self._gro:
                    size, ancillary, _, address = sock.recvmsg_into(buffers, _GRO_SPACE_BYTES)
                else:
                    size, address = sock.recvfrom_into(self.buffer.data)
                    ancillary = []
                reads += 1
                self._split(size, ancillary, address, self.clock())
                fcntl.ioctl(sock, termios.FIONREAD, waiting)
                if waiting == _NOTHING:
                    break  # asking costs half of a read that fails; what comes meanwhile wakes us again
        except BlockingIOError:
            pass
        except OSError:
            self._counters.add("udp_receive_errors")
        self._on_batch_end(self.clock())

    def _split(self, size: int, ancillary: list[tuple[int, int, bytes]], address: Address, now_us: int) -> None:
        segment = size
        if ancillary:
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_UDP and kind == UDP_GRO:
                    segment = int.from_bytes(data[:4], sys.byteorder)
        if segment >= size:
            self._on_datagram(0, size, address, now_us)
            return
        for offset in range(0, size, segment):
            self._on_datagram(offset, min(segment, size - offset), address, now_us)
