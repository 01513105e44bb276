"""One Transport of a session: a `LoadPeer` on the session's line, with true data channels.

After the DTLS handshake, which is aiortc's, SCTP runs in the reading itself over `media.core.sctp`: it acknowledges,
repairs and gives up as a browser does, so a lossy line costs the server what it costs in reality.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import secrets
import socket
import struct
import time
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from aioice import stun
from OpenSSL import SSL

from load_tests.report.ledger import Ledger
from load_tests.rig.peer import ANCILLARY_BYTES, SO_TIMESTAMPNS, UDP_GRO, LoadPeer, PeerFailed, Remote
from load_tests.rig.poller import Poller
from load_tests.session.path import Path
from load_tests.session.wall import ahead_ns
from media.core.sctp import Association, Message, State

CHECK_S: Final = 0.05
"""A check that was not answered is sent again."""
MTU: Final = 1500
_BINARY: Final = 53
_BUFFER = bytearray(65_536)
_VIEW = memoryview(_BUFFER)
_BUFFERS = [_BUFFER]


class TargetNotAllowed(Exception):
    """The server told an address that this run was not told to send to."""


def remote_of(options: Mapping[str, Any], allowed: Collection[str]) -> Remote:
    """The server's end of a Transport: its first UDP candidate.

    Args:
        allowed: addresses that traffic may go to besides loopback.

    Raises:
        TargetNotAllowed: the candidate is elsewhere.
        PeerFailed: there is no UDP candidate.
    """
    found = [one for one in options["ice_candidates"] if one["protocol"] == "udp"]
    for candidate in found:
        address = candidate["address"]
        if ipaddress.ip_address(address).is_loopback or address in allowed:
            return Remote(
                (address, candidate["port"]),
                options["ice_parameters"]["usernameFragment"],
                options["ice_parameters"]["password"],
                next(f["value"] for f in options["dtls_parameters"]["fingerprints"] if f["algorithm"] == "sha-256"),
            )
    if not found:
        raise PeerFailed("no UDP candidate")
    raise TargetNotAllowed(found[0]["address"])


class SessionPeer(LoadPeer):
    """A peer of one session."""

    def __init__(self, poller: Poller, bind: str, path: Path, ledger: Ledger) -> None:
        super().__init__(poller, bind)
        self.ice_ms = self.dtls_ms = 0.0
        self.heard_s = time.monotonic()
        """When the far end last answered a check: it still knows this Transport."""
        self.arrived_ns = 0
        """When the datagram that is looked at came, since 1970; 0: not known."""
        self.on_message: Callable[[int, bytes], None] = lambda _stream, _message: None
        self._path, self._ledger = path, ledger
        self._first_check = b""
        self._ssl: Any = None
        self._association: Association | None = None
        self._established = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us = 0
        self._began_s = 0.0

    async def connect_to(self, remote: Remote) -> None:
        """Check, shake hands.

        Raises:
            PeerFailed: it did not come up.
        """
        self._began_s = time.monotonic()
        await self.connect(remote)
        self.dtls_ms = (time.monotonic() - self._began_s) * 1000 - self.ice_ms
        self._first_check = self._last_check

    def _check(self) -> None:
        """Keep consent fresh (RFC 7675): the first check again, in another transaction."""
        remote = self._remote
        assert remote is not None
        if not self._first_check:
            super()._check()
            return
        message = bytearray(self._first_check)
        message[8:20] = secrets.token_bytes(12)
        # MESSAGE-INTEGRITY is counted as the last attribute, FINGERPRINT behind it (RFC 8489 section 14.5)
        struct.pack_into("!H", message, 2, len(message) - 28)
        message[-28:-8] = hmac.digest(remote.password.encode(), bytes(message[:-32]), "sha1")
        struct.pack_into("!H", message, 2, len(message) - 20)
        struct.pack_into("!I", message, len(message) - 4, zlib.crc32(message[:-8]) ^ 0x5354554E)
        self._send_now(bytes(message))

    def _stun(self, data: bytes) -> None:
        if self._answered.is_set() and data[:2] == b"\x01\x01":  # one more answer says nothing new
            self.heard_s = time.monotonic()
        elif data[:1] == b"\0" or self._is_answer(data):
            self.heard_s = time.monotonic()
            super()._stun(data)

    def _is_answer(self, data: bytes) -> bool:
        """The first answer must be signed by who was asked (RFC 8489 section 9.1.4)."""
        if self._remote is None:
            return False
        try:
            message = stun.parse_message(data)
        except (ValueError, OSError, struct.error):
            return False
        return message.message_class is stun.Class.RESPONSE and message.check_message_integrity(
            self._remote.password.encode()
        )

    async def _become_connected(self) -> None:
        while not self._answered.is_set():
            self._check()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._answered.wait()
        self.ice_ms = (time.monotonic() - self._began_s) * 1000

    async def close(self) -> None:
        """Say goodbye and release the socket; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._association is not None and self._socket.fileno() >= 0:
            self._association.close()
            self._flush()
        self._association = None
        await super().close()

    # ------------------------------------------------------------- data channels

    async def open_data(self) -> None:
        """Begin the association and wait until messages can be sent; idempotent.

        Raises:
            TimeoutError: the server's end does not come up.
        """
        if self._association is None:
            self._ssl = self.dtls._ssl
            self._association = Association(
                secrets.randbelow((1 << 32) - 1) + 1, secrets.randbits(32), secrets.token_bytes(16)
            )
            self._association.connect(_now_us())
            self._flush()
        async with asyncio.timeout(20):
            await self._established.wait()

    def send_message(self, stream: int, message: bytes, *, reliable: bool) -> bool:
        """One message on a negotiated stream; False when too much waits, or the association is gone."""
        if self._association is None:
            return False
        sent = self._association.send(stream, _BINARY, message, ordered=reliable, max_resends=None if reliable else 0)
        self._flush()
        return sent

    def _sctp(self, datagram: bytes) -> None:
        association, ssl = self._association, self._ssl
        if association is None:
            return
        ssl.bio_write(datagram)
        with contextlib.suppress(SSL.Error):
            while True:
                packet = ssl.recv(MTU)
                for event in association.receive(packet, _now_us()):
                    if isinstance(event, Message):
                        self.on_message(event.stream, event.payload)
        if association.state is State.ESTABLISHED:
            self._established.set()
        self._flush()

    def _flush(self) -> None:
        association, ssl = self._association, self._ssl
        if association is None:
            return
        with contextlib.suppress(SSL.Error):
            for packet in association.flush(_now_us()):
                ssl.send(packet)
                self._send_now(ssl.bio_read(MTU))
        due_us = association.deadline_us
        if due_us is None or (self._timer is not None and self._timer_us <= due_us):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_us = due_us
        wait_s = max(0, due_us - _now_us()) / 1e6 + 0.001
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._expired)

    def _expired(self) -> None:
        self._timer = None
        if self._association is not None:
            self._association.tick(_now_us())
            self._flush()

    # ------------------------------------------------------------- datagrams

    def _send_now(self, datagram: bytes) -> bool:
        return self._path.send(datagram, self._leave)

    def _leave(self, datagram: bytes) -> bool:
        if self._socket.fileno() < 0:  # closed while it was on the line
            return True
        try:
            self._socket.send(datagram)
        except ConnectionRefusedError:  # the worker is gone: as on a line, nobody is told
            return True
        except OSError:
            self._ledger.count("send_failed")
            return False
        return True

    def read_one(self) -> None:
        """Take one datagram, or one run of them that the kernel kept together."""
        try:
            length, ancillary, _flags, _address = self._socket.recvmsg_into(_BUFFERS, ANCILLARY_BYTES)
        except OSError:  # nothing there, or what the network said of a datagram before: nobody is told
            return
        if not length:
            return
        segment, stamp_ns = length, 0
        for level, kind, value in ancillary:
            if level == socket.IPPROTO_UDP and kind == UDP_GRO:
                segment = struct.unpack_from("=i", value)[0]
            elif kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack_from("=qq", value)
                stamp_ns = seconds * 1_000_000_000 + nanoseconds - ahead_ns()
        if self._path.perfect:
            self._take(_VIEW, length, segment, stamp_ns)
            return
        for start in range(0, length, segment):
            datagram = bytes(_VIEW[start : min(start + segment, length)])
            self._path.receive(datagram, self._take_late)

    def _take_late(self, datagram: bytes) -> None:
        if self._socket.fileno() >= 0:
            self._take(memoryview(datagram), len(datagram), len(datagram), 0)

    def _take(self, view: memoryview, length: int, segment: int, stamp_ns: int) -> None:
        if view[0] >= 128:
            if self.sink is not None:
                self.sink(view, length, segment, stamp_ns)
            return
        self.arrived_ns = stamp_ns
        for start in range(0, length, segment):
            self._take_other(bytes(view[start : min(start + segment, length)]))

    def _take_other(self, datagram: bytes) -> None:
        if 20 <= datagram[0] < 64:
            self._dtls_datagram(datagram)
        elif datagram[0] < 4:
            self._stun(datagram)

    def _dtls_datagram(self, datagram: bytes) -> None:
        if self._association is not None:
            self._sctp(datagram)
        else:
            with contextlib.suppress(asyncio.QueueFull):
                self._handshake.put_nowait(datagram)


def _now_us() -> int:
    return time.monotonic_ns() // 1000
