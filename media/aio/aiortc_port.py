"""The one file that touches private names of aiortc and pylibsrtp.

aiortc's peer connection decodes and encodes, which a relay must not, but its DTLS and SCTP
transports are sound and need nothing of it: ``RTCDtlsTransport`` runs over any object that
has ``_recv``, ``_send`` and ``role``. It is fed DTLS records only (first byte 20..63), never
media. SRTP is done by the caller in place with libsrtp through pylibsrtp's binding, half the
cost of ``pylibsrtp.Session``.

``_GuardedSctp`` lets through only packets that ``media.core.sctp_guard`` has walked, and turns
what still raises into a count.

Both packages are pinned exactly; ``tests/contract/test_aiortc_pin.py`` holds the names used.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
)
from aiortc.rtcsctptransport import WEBRTC_DCEP, Chunk, RTCSctpCapabilities, RTCSctpTransport
from pylibsrtp import _binding

from media.core import sctp_guard
from media.core.ortc_transport import MAX_MESSAGE_BYTES, DtlsParameters, SctpStream

_ffi: Any = _binding.ffi
_lib: Any = _binding.lib

srtp_protect: Any = _lib.srtp_protect
srtp_unprotect: Any = _lib.srtp_unprotect
srtp_protect_rtcp: Any = _lib.srtp_protect_rtcp
srtp_unprotect_rtcp: Any = _lib.srtp_unprotect_rtcp
"""``f(context, pointer, int_pointer) -> status``: work in place, ``int_pointer[0]`` is the length in and out."""

SRTP_OK: int = _lib.srtp_err_status_ok
SRTP_REPLAYED: frozenset[int] = frozenset({9, 10})
"""srtp_err_status_replay_fail and _replay_old of libsrtp's enum, which the binding does not name."""
SRTP_TRAILER_BYTES = 148
"""Room libsrtp may need behind a packet (SRTCP index, largest tag, largest MKI)."""

HANDSHAKE_QUEUE = 64
"""DTLS datagrams that may wait: a handshake flight is under ten; before the fingerprint is known
(pymediasoup does not wait for its ``connect``) a few flights more."""
SCTP_PORT = 5000
MAX_STREAMS = 1024

Count = Callable[[str], None]
"""Adds one to a named counter."""


class NativeBuffer:
    """A bytearray that libsrtp can work in; ``pointer + offset`` addresses a byte of it."""

    def __init__(self, size_bytes: int) -> None:
        self.data = bytearray(size_bytes)
        self.view = memoryview(self.data)
        self.pointer: Any = _ffi.from_buffer("char[]", self.data)


def new_length() -> Any:
    """An ``int *`` for the in-place functions."""
    return _ffi.new("int *")


class Certificate:
    """The worker's self-signed certificate; peers know it by its fingerprint."""

    def __init__(self) -> None:
        self.inner = RTCCertificate.generateCertificate()

    def sha256_fingerprint(self) -> str:
        """32 upper-case hex pairs, colons between."""
        return next(f.value for f in self.inner.getFingerprints() if f.algorithm == "sha-256")


class SrtpPair:
    """Keys of one DTLS session. Keep it alive as long as a handle is used."""

    def __init__(self, dtls: RTCDtlsTransport) -> None:
        self._rx_session: Any = dtls._rx_srtp
        self._tx_session: Any = dtls._tx_srtp
        self.rx: Any = self._rx_session._srtp[0]
        self.tx: Any = self._tx_session._srtp[0]

    def forget_inbound(self, ssrc: int) -> None:
        """Free the state of an SSRC the peer sends but that nothing uses."""
        with contextlib.suppress(Exception):  # pylibsrtp.Error: libsrtp has none
            self._rx_session.remove_stream(ssrc)

    def forget_outbound(self, ssrc: int) -> None:
        """Free the state of an SSRC that will not be sent any more."""
        with contextlib.suppress(Exception):  # pylibsrtp.Error: nothing was ever sent on it
            self._tx_session.remove_stream(ssrc)


class DtlsFailed(Exception):
    """The handshake did not end with SRTP keys: bad fingerprint, no common profile, alert or silence."""


class _Wire:
    """What ``RTCDtlsTransport`` takes for an ICE transport."""

    role = "controlled"
    state = "completed"

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.inbound: asyncio.Queue[bytes | None] = asyncio.Queue(HANDSHAKE_QUEUE)
        self.closed = False
        self._send_datagram = send

    async def _recv(self) -> bytes:
        datagram = None if self.closed else await self.inbound.get()
        if datagram is None:
            raise ConnectionError
        return datagram

    async def _send(self, data: bytes) -> None:
        self._send_datagram(data)


class DtlsPort:
    """DTLS of one Transport, either role."""

    def __init__(self, certificate: Certificate, send: Callable[[bytes], None], on_closed: Callable[[], None]) -> None:
        self._wire = _Wire(send)
        wire: Any = self._wire  # duck-typed on purpose
        self.inner = RTCDtlsTransport(wire, [certificate.inner])
        self.inner._srtp_profiles = [SRTP_AEAD_AES_128_GCM, SRTP_AEAD_AES_256_GCM, SRTP_AES128_CM_SHA1_80]
        self._on_closed = on_closed
        self.connected = False

    def offer(self, datagram: bytes) -> bool:
        """Queue one datagram whose first byte is 20..63; False when the queue is full."""
        try:
            self._wire.inbound.put_nowait(datagram)
        except asyncio.QueueFull:
            return False
        return True

    async def handshake(self, parameters: DtlsParameters) -> SrtpPair:
        """Run the handshake; the caller bounds its time.

        Raises:
            DtlsFailed: it ended without keys.
        """
        self.inner._set_role(parameters.our_role)
        fingerprint = RTCDtlsFingerprint(algorithm=parameters.algorithm, value=parameters.fingerprint)
        await self.inner.start(RTCDtlsParameters(fingerprints=[fingerprint]))
        if self.inner.state != "connected":
            raise DtlsFailed(self.inner.state)
        self.inner.on("statechange", self._state_changed)
        self.connected = True
        return SrtpPair(self.inner)

    def srtp_profile(self) -> str:
        """Name of the negotiated SRTP profile."""
        ssl: Any = self.inner._ssl
        name: bytes = ssl.get_selected_srtp_profile()
        return name.decode()

    async def close(self) -> None:
        """Say goodbye and stop; idempotent."""
        self.connected = False
        self.inner.remove_all_listeners()
        pump = self.inner._task
        await self.inner.stop()
        self._wire.closed = True
        if pump is not None:
            with contextlib.suppress(asyncio.CancelledError, Exception):  # its end is what was asked for
                await pump

    def _state_changed(self) -> None:
        if self.inner.state in ("closed", "failed") and self.connected:
            self.connected = False
            self._on_closed()


class _GuardedSctp(RTCSctpTransport):
    """aiortc's SCTP behind a check of every packet."""

    def __init__(self, dtls: RTCDtlsTransport, count: Count, on_abuse: Callable[[], None]) -> None:
        super().__init__(dtls, SCTP_PORT)
        self._count = count
        self._on_abuse = on_abuse
        self._inbound_streams_max = MAX_STREAMS

    async def _handle_data(self, data: bytes) -> None:
        if not sctp_guard.is_safe(data, max_streams=MAX_STREAMS):
            self._count("sctp_refused")
            return
        try:
            await super()._handle_data(data)
        except Exception:  # whatever a peer's packet makes aiortc raise must end here, not the DTLS pump
            self._count("sctp_errors")
        if len(self._sack_misordered) > sctp_guard.MAX_MISORDERED or self._advertised_rwnd < -MAX_MESSAGE_BYTES:
            self._count("sctp_abuse")  # it sends holes or endless messages past the window it was given
            self._on_abuse()

    async def _data_channel_receive(self, stream_id: int, pp_id: int, data: bytes) -> None:
        if pp_id == WEBRTC_DCEP:
            self._count("sctp_dcep_refused")  # channels are negotiated by signalling only (ORTC trap 21)
            return
        await super()._data_channel_receive(stream_id, pp_id, data)

    async def _send_chunk(self, chunk: Chunk) -> None:
        with contextlib.suppress(ConnectionError):  # the Transport is closing; SCTP's own timers fire once more
            await super()._send_chunk(chunk)


class ChannelPort:
    """One negotiated data channel."""

    def __init__(self, inner: RTCDataChannel) -> None:
        self._inner = inner

    @property
    def is_open(self) -> bool:
        """Messages can be sent now."""
        return self._inner.readyState == "open"

    @property
    def buffered_bytes(self) -> int:
        """What waits behind this channel's congestion window."""
        return self._inner.bufferedAmount

    def send(self, message: bytes | str) -> bool:
        """Queue one message; False when the channel is not open or the message too long for the peer."""
        if not self.is_open:
            return False
        try:
            self._inner.send(message)
        except ValueError:
            return False
        return True

    def close(self) -> None:
        """Reset the stream; idempotent."""
        self._inner.remove_all_listeners()
        self._inner.close()


class SctpPort:
    """The SCTP association of one Transport."""

    def __init__(self, dtls: DtlsPort, count: Count, on_abuse: Callable[[], None]) -> None:
        self._inner = _GuardedSctp(dtls.inner, count, on_abuse)
        self._count = count
        self._started = False

    async def start(self) -> None:
        """Begin the association; DTLS must be connected. Idempotent."""
        if not self._started:
            self._started = True
            await self._inner.start(RTCSctpCapabilities(maxMessageSize=MAX_MESSAGE_BYTES), SCTP_PORT)

    def open_channel(
        self,
        stream: SctpStream,
        label: str,
        protocol: str,
        on_message: Callable[[bytes | str], None] | None,
    ) -> ChannelPort:
        """Make our end of a negotiated channel.

        Raises:
            ValueError: the stream id is taken.
        """
        parameters = RTCDataChannelParameters(
            label=label,
            protocol=protocol,
            ordered=stream.ordered,
            maxPacketLifeTime=stream.max_packet_life_time_ms,
            maxRetransmits=stream.max_retransmits,
            negotiated=True,
            id=stream.stream_id,
        )
        inner = RTCDataChannel(self._inner, parameters)
        if on_message is not None:
            inner.on("message", on_message)
        return ChannelPort(inner)

    async def stop(self) -> None:
        """Abort the association; idempotent."""
        if self._started:
            self._started = False
            await self._inner.stop()
