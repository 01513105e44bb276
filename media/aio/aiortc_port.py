"""The one file that touches private names of aiortc and pylibsrtp.

aiortc's peer connection decodes and encodes, which a relay must not, but its DTLS transport
is sound and needs nothing of it: ``RTCDtlsTransport`` runs over any object that has ``_recv``,
``_send`` and ``role``. It is fed DTLS records only (first byte 20..63), never media. SRTP is done
by the caller in place with libsrtp through pylibsrtp's binding, half the cost of
``pylibsrtp.Session``.

aiortc does the handshake. Afterwards `DtlsPort` passes records to and from OpenSSL itself, without a
task, a queue hop and a raised exception for each; SCTP is ours (``media.aio.sctp``).

Both packages are pinned exactly; ``tests/contract/test_aiortc_pin.py`` holds the names used.
"""

import asyncio
import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
)
from OpenSSL import SSL
from pylibsrtp import _binding

from media.aio.turns import Turns
from media.core.ortc_transport import DtlsParameters

_ffi: Any = _binding.ffi
_lib: Any = _binding.lib

srtp_protect: Any = _lib.srtp_protect
srtp_unprotect: Any = _lib.srtp_unprotect
srtp_protect_rtcp: Any = _lib.srtp_protect_rtcp
srtp_unprotect_rtcp: Any = _lib.srtp_unprotect_rtcp
"""``f(context, pointer, int_pointer) -> status``: work in place, ``int_pointer[0]`` is the length in and out."""


def srtp_protect_address() -> int:
    """Where ``srtp_protect`` of the libsrtp in this process begins."""
    return int(_ffi.cast("uintptr_t", _ffi.addressof(_lib, "srtp_protect")))


def srtp_unprotect_address() -> int:
    """The same of ``srtp_unprotect``."""
    return int(_ffi.cast("uintptr_t", _ffi.addressof(_lib, "srtp_unprotect")))


def srtp_unprotect_rtcp_address() -> int:
    """The same of ``srtp_unprotect_rtcp``."""
    return int(_ffi.cast("uintptr_t", _ffi.addressof(_lib, "srtp_unprotect_rtcp")))


def hmac_addresses() -> tuple[int, int] | None:
    """Where OpenSSL's ``HMAC`` is and what ``EVP_sha1`` gives, of the OpenSSL in this process; None: not to be had."""
    try:
        library = ctypes.CDLL(_binding.__file__)
        sha1 = library.EVP_sha1
        sha1.restype = ctypes.c_void_p
        return ctypes.cast(library.HMAC, ctypes.c_void_p).value or 0, sha1()
    except (OSError, AttributeError):
        return None


def srtp_handle(context: Any) -> int:
    """The address behind a context of a `SrtpPair`; good as long as the pair lives."""
    return int(_ffi.cast("uintptr_t", context))


SRTP_OK: int = _lib.srtp_err_status_ok
SRTP_REPLAYED: frozenset[int] = frozenset({9, 10})
"""srtp_err_status_replay_fail and _replay_old of libsrtp's enum, which the binding does not name."""
SRTP_TRAILER_BYTES = 148
"""Room libsrtp may need behind a packet (SRTCP index, largest tag, largest MKI)."""

HANDSHAKE_QUEUE = 64
"""DTLS datagrams that may wait: a handshake flight is under ten; before the fingerprint is known
(pymediasoup does not wait for its ``connect``) a few flights more."""
_RECORD_BYTES = 1500
"""No datagram is longer, so no record that comes."""
_FLIGHT_BYTES = 1 << 14
"""All that OpenSSL may have to say at once."""
_APPLICATION_DATA = 23
_RECORD_HEADER_BYTES = 13
_MAX_RECORDS = 64
"""Of the smallest, in one datagram."""
RECORDS_PER_TURN = 8
"""Datagrams of one peer taken in before others have their turn."""


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


class _Dtls(RTCDtlsTransport):
    """aiortc's DTLS without its pump: after the handshake that only waits for the end."""

    def __init__(self, wire: Any, certificate: RTCCertificate) -> None:
        super().__init__(wire, [certificate])
        self.over = asyncio.Event()

    async def _recv_next(self) -> None:
        if self.state == "connected":
            await self.over.wait()
            raise ConnectionError
        await super()._recv_next()


class DtlsPort:
    """DTLS of one Transport, either role.

    Args:
        send: sends one datagram.
        on_closed: the peer said goodbye.
        turns: where records wait to be read; the worker's, or its own when there is nobody to give way to.
    """

    def __init__(
        self,
        certificate: Certificate,
        send: Callable[[bytes], None],
        on_closed: Callable[[], None],
        turns: Turns | None = None,
    ) -> None:
        self.turns = turns or Turns()
        self._wire = _Wire(send)
        self._send_datagram = send
        self.inner = _Dtls(self._wire, certificate.inner)
        self.inner._srtp_profiles = [SRTP_AEAD_AES_128_GCM, SRTP_AEAD_AES_256_GCM, SRTP_AES128_CM_SHA1_80]
        self._on_closed = on_closed
        self._on_data: Callable[[bytes], None] | None = None
        self._resend: asyncio.TimerHandle | None = None
        self.connected = False

    def offer(self, datagram: bytes) -> bool:
        """Queue one datagram whose first byte is 20..63; False when the queue is full."""
        try:
            self._wire.inbound.put_nowait(datagram)
        except asyncio.QueueFull:
            return False
        if self.connected:
            self.turns.wake(self._read_waiting)
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
        self._read(b"")  # data may have come in one datagram with the end of the handshake
        self.turns.wake(self._read_waiting)
        return SrtpPair(self.inner)

    def srtp_profile(self) -> str:
        """Name of the negotiated SRTP profile."""
        name: bytes = self._ssl.get_selected_srtp_profile()
        return name.decode()

    def on_data(self, receive: Callable[[bytes], None]) -> None:
        """Call this with what the peer sends as application data; until then that is dropped."""
        self._on_data = receive

    def send(self, data: bytes) -> bool:
        """Send one record of application data; False when there is no session."""
        if not self.connected:
            return False
        try:
            self._ssl.send(data)
        except SSL.Error:
            return False
        self._write()
        return True

    async def close(self) -> None:
        """Say goodbye and stop; idempotent."""
        self.connected = False
        self._on_data = None
        self.turns.forget(self._read_waiting)
        if self._resend is not None:
            self._resend.cancel()
            self._resend = None
        self.inner.remove_all_listeners()
        pump = self.inner._task
        await self.inner.stop()
        self._wire.closed = True
        if pump is not None:
            with contextlib.suppress(asyncio.CancelledError, Exception):  # its end is what was asked for
                await pump

    @property
    def _ssl(self) -> Any:
        return self.inner._ssl

    def _read_waiting(self) -> None:
        waiting = self._wire.inbound
        for _ in range(RECORDS_PER_TURN):
            if waiting.empty() or not self.connected:
                return
            self._read(waiting.get_nowait() or b"")
        self.turns.wake(self._read_waiting)

    def _read(self, datagram: bytes) -> None:
        """Decrypt all records of one datagram."""
        only_data, records = _application_records(datagram)
        if datagram:
            self._ssl.bio_write(datagram)
        try:
            while records:
                records -= 1
                data = self._ssl.recv(_RECORD_BYTES)
                if self._on_data is not None and self.connected:
                    self._on_data(data)
        except SSL.ZeroReturnError:
            self._ended()
        except SSL.Error:  # nothing more to read, or a record that is not the peer's: dropped, as DTLS says
            pass
        if not only_data:
            self._write()
            self._arm()

    def _write(self) -> None:
        """Send what OpenSSL has to say."""
        try:
            flight = self._ssl.bio_read(_FLIGHT_BYTES)
        except SSL.Error:  # it has nothing to say
            return
        self._send_datagram(flight)

    def _arm(self) -> None:
        """The last flight of a handshake may be due again although the handshake is over (DTLS 1.3)."""
        timeout_s = self._ssl.DTLSv1_get_timeout() if self.connected else None
        if self._resend is not None:
            self._resend.cancel()
            self._resend = None
        if timeout_s is not None:
            self._resend = asyncio.get_running_loop().call_later(timeout_s, self._resend_flight)

    def _resend_flight(self) -> None:
        self._ssl.DTLSv1_handle_timeout()
        self._write()
        self._arm()

    def _ended(self) -> None:
        self.inner.over.set()

    def _state_changed(self) -> None:
        if self.inner.state in ("closed", "failed") and self.connected:
            self.connected = False
            self._on_closed()


def _application_records(datagram: bytes) -> tuple[bool, int]:
    """Whether it is nothing but DTLS 1.2 application data, and how many records at most can be read from it.

    Reading once more than there are records costs a raised exception, the same as the record itself.
    """
    position, records = 0, 0
    while position + _RECORD_HEADER_BYTES <= len(datagram) and datagram[position] == _APPLICATION_DATA:
        position += _RECORD_HEADER_BYTES + int.from_bytes(datagram[position + 11 : position + 13])
        records += 1
    if records and position == len(datagram):
        return True, records
    return False, _MAX_RECORDS
