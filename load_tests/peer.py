"""A cheap WebRTC peer for load: real ICE checks, real DTLS-SRTP, no codec.

It speaks to the relay as a browser does on the wire (STUN binding requests with
USE-CANDIDATE, a DTLS handshake, SRTP and SRTCP on the same 5-tuple), but its
media are packets made beforehand and its receiver only counts, so that one
process can play a hundred subscribers on one core.

aiortc gives the DTLS handshake; its peer connection, decoders and jitter
buffers are not used. Nothing here imports a shell of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from aioice import stun
from aiortc.rtcdtlstransport import (
    SRTP_PROFILES,
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
)

UDP_GRO = 104
SO_TIMESTAMPNS = 35
HANDSHAKE_TIMEOUT_S = 10.0
CONSENT_INTERVAL_S = 2.5

PacketSink = Callable[[bytes, int], None]
"""Called with one SRTP datagram and its arrival, kernel time in nanoseconds since 1970."""


class PeerFailed(Exception):
    """ICE or DTLS did not come up within the handshake timeout."""


class LoadPeer:
    """One transport's client side on a socket of its own, connected to the relay's port.

    The object doubles as the ICE transport that aiortc's DTLS wants: ``role``,
    ``_recv`` and ``_send`` are all it uses.
    """

    certificate: ClassVar[RTCCertificate | None] = None
    role = "controlling"
    state = "completed"

    def __init__(self, options: Mapping[str, Any], sink: PacketSink | None = None) -> None:
        candidate = options["ice_candidates"][0]
        self._ice = options["ice_parameters"]
        self._fingerprints = options["dtls_parameters"]["fingerprints"]
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._handshake: asyncio.Queue[bytes] = asyncio.Queue(64)
        self._checked = asyncio.Event()
        self._ufrag = os.urandom(4).hex()
        self._buffer = bytearray(65_536)
        self.datagrams = 0
        self.bytes = 0

        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        with contextlib.suppress(OSError):  # an old kernel without UDP_GRO gives single datagrams
            self._socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect((candidate["address"], candidate["port"]))
        self._loop.add_reader(self._socket.fileno(), self._readable)

        if LoadPeer.certificate is None:
            LoadPeer.certificate = RTCCertificate.generateCertificate()
        self.dtls = RTCDtlsTransport(self, [LoadPeer.certificate])  # type: ignore[arg-type]
        self.dtls._set_role("client")
        # The relay prefers AEAD_AES_128_GCM; offer it first so that figures name one profile.
        self.dtls._srtp_profiles = sorted(
            SRTP_PROFILES, key=lambda profile: profile.openssl_profile != b"SRTP_AEAD_AES_128_GCM"
        )
        self._consent: asyncio.Task[None] | None = None

    @property
    def dtls_parameters(self) -> dict[str, Any]:
        """What ``connect_transport`` takes."""
        assert LoadPeer.certificate is not None
        return {
            "role": "client",
            "fingerprints": [
                {"algorithm": f.algorithm, "value": f.value}
                for f in LoadPeer.certificate.getFingerprints()
                if f.algorithm == "sha-256"
            ],
        }

    async def connect(self) -> None:
        """Check connectivity, shake hands, keep consent fresh until ``close``.

        Raises:
            PeerFailed: within ``HANDSHAKE_TIMEOUT_S`` something did not come up.
        """
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                while not self._checked.is_set():
                    self._check()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._checked.wait(), 0.05)
                await self.dtls.start(
                    RTCDtlsParameters(
                        fingerprints=[RTCDtlsFingerprint(f["algorithm"], f["value"]) for f in self._fingerprints]
                    )
                )
        except TimeoutError:
            raise PeerFailed("handshake timed out") from None
        if self.dtls.state != "connected":
            raise PeerFailed(f"DTLS is {self.dtls.state}")
        self._consent = asyncio.create_task(self._keep_consent())

    async def close(self) -> None:
        """Say goodbye and release the socket; idempotent."""
        if self._consent is not None:
            self._consent.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._consent
            self._consent = None
        with contextlib.suppress(OSError, ConnectionError):
            await self.dtls.stop()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def send_rtp(self, packet: bytes) -> None:
        """Protect and send one RTP packet; drops it when the socket is full."""
        with contextlib.suppress(BlockingIOError):
            self._socket.send(self.dtls._tx_srtp.protect(packet))

    def send_rtcp(self, packet: bytes) -> None:
        """Protect and send one compound RTCP packet."""
        with contextlib.suppress(BlockingIOError):
            self._socket.send(self.dtls._tx_srtp.protect_rtcp(packet))

    def unprotect_rtp(self, datagram: bytes) -> bytes:
        """Decrypt one SRTP datagram; pylibsrtp.Error when it is not ours."""
        return bytes(self.dtls._rx_srtp.unprotect(datagram))

    # ------------------------------------------------------------- ICE and DTLS

    def _check(self) -> None:
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{self._ice['usernameFragment']}:{self._ufrag}"
        request.attributes["PRIORITY"] = 1_845_494_271
        request.attributes["ICE-CONTROLLING"] = 1
        request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity(self._ice["password"].encode())
        with contextlib.suppress(BlockingIOError):
            self._socket.send(bytes(request))

    async def _keep_consent(self) -> None:
        while True:
            await asyncio.sleep(CONSENT_INTERVAL_S)
            self._check()

    async def _recv(self) -> bytes:
        return await self._handshake.get()

    async def _send(self, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError):
            self._socket.send(data)

    # ------------------------------------------------------------- receiving

    def _readable(self) -> None:
        for _ in range(64):
            try:
                length, ancillary, _flags, _address = self._socket.recvmsg_into([self._buffer], 128)
            except (BlockingIOError, ConnectionRefusedError):
                return
            if not length:
                continue
            segment, stamp_ns = length, 0
            for level, kind, value in ancillary:
                if level == socket.IPPROTO_UDP and kind == UDP_GRO:
                    segment = struct.unpack_from("=i", value)[0]
                elif kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack_from("=qq", value)
                    stamp_ns = seconds * 1_000_000_000 + nanoseconds
            first = self._buffer[0]
            if first >= 128:
                self.datagrams += -(-length // segment)
                self.bytes += length
                if self._sink is not None:
                    for start in range(0, length, segment):
                        self._sink(bytes(self._buffer[start : min(start + segment, length)]), stamp_ns)
            elif 20 <= first < 64:
                with contextlib.suppress(asyncio.QueueFull):
                    self._handshake.put_nowait(bytes(self._buffer[:length]))
            elif first < 4:
                self._stun(bytes(self._buffer[:length]))

    def _stun(self, data: bytes) -> None:
        with contextlib.suppress(ValueError):
            if stun.parse_message(data).message_class == stun.Class.RESPONSE:
                self._checked.set()
