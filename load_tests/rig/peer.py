"""A cheap WebRTC peer for load: real ICE checks, real DTLS-SRTP, no codec.

It speaks as a browser does on the wire (STUN binding requests, a DTLS handshake,
SRTP and SRTCP on the same 5-tuple), but its media are packets made beforehand and
its receiver only counts, so that one process can play a hundred subscribers on one
core. It is the same class towards every relay that is measured: who is told what
over which signalling is the contender's business (``contenders``, ``peers.janus``,
``peers.aiortc_hub``), what is in the packets that of ``traffic``.

Only AEAD_AES_128_GCM is offered or taken: every figure compares the same cipher, and
a relay that cannot do it fails to connect instead of being measured with another.

aiortc gives the DTLS handshake; its peer connection, decoders and jitter buffers are
not used. Nothing here imports a shell of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from aioice import stun
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
)

from load_tests.rig.poller import Poller

UDP_GRO = 104
SO_TIMESTAMPNS = 35
ANCILLARY_BYTES = 128
HANDSHAKE_TIMEOUT_S = 15.0
CONSENT_INTERVAL_S = 2.5
GCM = b"SRTP_AEAD_AES_128_GCM"

_BUFFER = bytearray(65_536)
_VIEW = memoryview(_BUFFER)
_BUFFERS = [_BUFFER]

MediaSink = Callable[[memoryview, int, int, int], None]
"""``(view, length, segment, stamp_ns)``: SRTP or SRTCP datagrams back to back in ``view[:length]``, each ``segment``
bytes long but the last; kernel arrival time in ns since 1970. The view is valid during the call only."""


class PeerFailed(Exception):
    """ICE or DTLS did not come up within the handshake timeout."""


@dataclass(frozen=True, slots=True)
class Remote:
    """The relay's end of a transport, as its signalling told it."""

    address: tuple[str, int]
    ufrag: str
    password: str
    fingerprint: str
    """sha-256, hex pairs with colons."""


class LoadPeer:
    """One transport's client side on a socket of its own.

    The object doubles as the ICE transport that aiortc's DTLS wants: ``role``,
    ``state``, ``_recv`` and ``_send`` are all it uses.
    """

    certificate: ClassVar[RTCCertificate | None] = None
    role = "controlling"
    state = "completed"

    def __init__(self, poller: Poller, bind: str, sink: MediaSink | None = None) -> None:
        self.ufrag = os.urandom(4).hex()
        self.password = os.urandom(12).hex()
        self.sink = sink
        self._poller = poller
        self._remote: Remote | None = None
        self._last_check = b""
        self._controlling = True
        self._handshake: asyncio.Queue[bytes] = asyncio.Queue(64)
        self._answered = asyncio.Event()
        self._nominated = asyncio.Event()

        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        with contextlib.suppress(OSError):  # an old kernel without UDP_GRO gives single datagrams
            self._socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self._socket.bind((bind, 0))
        poller.add(self._socket.fileno(), self.read_one)

        if LoadPeer.certificate is None:
            LoadPeer.certificate = RTCCertificate.generateCertificate()
        wire: Any = self  # duck-typed on purpose
        self.dtls = RTCDtlsTransport(wire, [LoadPeer.certificate])
        self.dtls._srtp_profiles = [SRTP_AEAD_AES_128_GCM]

    @property
    def address(self) -> tuple[str, int]:
        """Where this peer is reached."""
        name: tuple[str, int] = self._socket.getsockname()
        return name

    @property
    def fingerprint(self) -> str:
        """sha-256 of this peer's certificate."""
        assert LoadPeer.certificate is not None
        return next(f.value for f in LoadPeer.certificate.getFingerprints() if f.algorithm == "sha-256")

    async def connect(
        self, remote: Remote, *, dtls_role: Literal["client", "server"] = "client", controlling: bool = True
    ) -> None:
        """Check connectivity, shake hands, keep consent fresh until ``close``.

        Raises:
            PeerFailed: within ``HANDSHAKE_TIMEOUT_S`` something did not come up, or with another cipher.
        """
        self._remote = remote
        self._controlling = controlling
        self._socket.connect(remote.address)
        self.dtls._set_role(dtls_role)
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await self._become_connected()
                await self.dtls.start(
                    RTCDtlsParameters(fingerprints=[RTCDtlsFingerprint("sha-256", remote.fingerprint)])
                )
        except TimeoutError:
            raise PeerFailed("handshake timed out") from None
        if self.dtls.state != "connected":
            raise PeerFailed(f"DTLS is {self.dtls.state}")
        connection: Any = self.dtls._ssl
        if connection.get_selected_srtp_profile() != GCM:
            raise PeerFailed("another SRTP profile was negotiated")
        self._poller.every(CONSENT_INTERVAL_S, self._check, self)

    async def close(self) -> None:
        """Say goodbye and release the socket; idempotent."""
        self._poller.forget(self)
        with contextlib.suppress(OSError, ConnectionError):
            await self.dtls.stop()
        if self._socket.fileno() >= 0:
            self._poller.remove(self._socket.fileno())
            self._socket.close()

    def send_rtp(self, packet: bytes) -> bool:
        """Protect and send one RTP packet; False when the socket is full."""
        return self._send_now(self.dtls._tx_srtp.protect(packet))

    def send_rtcp(self, packet: bytes) -> None:
        """Protect and send one compound RTCP packet."""
        self._send_now(self.dtls._tx_srtp.protect_rtcp(packet))

    def unprotect_rtp(self, datagram: bytes) -> bytes:
        """Decrypt one SRTP datagram; pylibsrtp.Error when it is not ours."""
        return bytes(self.dtls._rx_srtp.unprotect(datagram))

    def unprotect_rtcp(self, datagram: bytes) -> bytes:
        """Decrypt one SRTCP datagram; pylibsrtp.Error when it is not ours."""
        return bytes(self.dtls._rx_srtp.unprotect_rtcp(datagram))

    # ------------------------------------------------------------- ICE and DTLS

    async def _become_connected(self) -> None:
        """Nominate as the controlling side, wait for the nomination as the controlled one."""
        while not (self._answered.is_set() and (self._controlling or self._nominated.is_set())):
            self._check()
            await asyncio.sleep(0.02)

    def _check(self) -> None:
        remote = self._remote
        assert remote is not None
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{remote.ufrag}:{self.ufrag}"
        request.attributes["PRIORITY"] = 1_845_494_271
        if self._controlling:
            request.attributes["ICE-CONTROLLING"] = 1
            request.attributes["USE-CANDIDATE"] = None
        else:
            request.attributes["ICE-CONTROLLED"] = 1
        request.add_message_integrity(remote.password.encode())
        self._last_check = bytes(request)
        self._send_now(self._last_check)

    async def _recv(self) -> bytes:
        return await self._handshake.get()

    async def _send(self, data: bytes) -> None:
        self._send_now(data)

    def _send_now(self, datagram: bytes) -> bool:
        try:
            self._socket.send(datagram)
        except (BlockingIOError, ConnectionRefusedError):
            return False
        return True

    # ------------------------------------------------------------- receiving

    def read_one(self) -> None:
        """Take one datagram, or one run of them that the kernel kept together."""
        try:
            length, ancillary, _flags, _address = self._socket.recvmsg_into(_BUFFERS, ANCILLARY_BYTES)
        except (BlockingIOError, ConnectionRefusedError):
            return
        if not length:
            return
        first = _BUFFER[0]
        if first >= 128:
            if self.sink is None:
                return
            segment, stamp_ns = length, 0
            for level, kind, value in ancillary:
                if level == socket.IPPROTO_UDP and kind == UDP_GRO:
                    segment = struct.unpack_from("=i", value)[0]
                elif kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack_from("=qq", value)
                    stamp_ns = seconds * 1_000_000_000 + nanoseconds
            self.sink(_VIEW, length, segment, stamp_ns)
        elif 20 <= first < 64:
            with contextlib.suppress(asyncio.QueueFull):
                self._handshake.put_nowait(bytes(_VIEW[:length]))
        elif first < 4:
            self._stun(bytes(_VIEW[:length]))

    def _stun(self, data: bytes) -> None:
        with contextlib.suppress(ValueError, OSError):
            message = stun.parse_message(data)
            if message.message_class == stun.Class.RESPONSE:
                self._answered.set()
            elif message.message_class == stun.Class.REQUEST and self._remote is not None:
                answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, message.transaction_id)
                answer.attributes["XOR-MAPPED-ADDRESS"] = self._remote.address
                answer.add_message_integrity(self.password.encode())
                self._send_now(bytes(answer))
                if "USE-CANDIDATE" in message.attributes:
                    self._nominated.set()
