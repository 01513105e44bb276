"""A peer that shows every byte: ICE checks, DTLS-SRTP and SCTP over one socket of its own.

Where pymediasoup proves that a foreign client works, this one can do what no client should: send
what it likes, from where it likes, lose what it is sent, and look at headers.
"""

import asyncio
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import pack, unpack_from
from typing import Any

import pylibsrtp
from aioice import stun

from media.aio.aiortc_port import Certificate, DtlsPort
from media.aio.client import WorkerClient
from media.aio.sctp import ChannelPort, SctpPort
from media.core import framing, ortc, ortc_transport, rtcp, rtp
from media.core.sctp import wire

Address = tuple[str, int]
WAIT_S = 60.0


@dataclass
class Rtp:
    """A decrypted packet, taken apart."""

    payload_type: int
    marker: bool
    seq: int
    timestamp: int
    ssrc: int
    extensions: dict[int, bytes]
    payload: bytes


def parse_rtp(data: bytes) -> Rtp:
    first, second, seq, timestamp, ssrc = unpack_from("!BBHII", data)
    position = 12 + 4 * (first & 15)
    extensions = {}
    if first & 0x10:
        found, stop = rtp.read_extensions(bytearray(data), position, len(data))
        extensions = {identifier: data[at : at + length] for identifier, at, length in found}
        position = stop
    end = len(data) - (data[-1] if first & 0x20 else 0)
    return Rtp(second & 0x7F, bool(second & 0x80), seq, timestamp, ssrc, extensions, data[position:end])


def build_rtp(
    payload_type: int,
    seq: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    *,
    marker: bool = False,
    extensions: dict[int, bytes] | None = None,
    padding: int = 0,
) -> bytes:
    block = b""
    if extensions:
        body = b"".join(bytes((key << 4 | len(value) - 1,)) + value for key, value in extensions.items())
        body += bytes(-len(body) % 4)
        block = pack("!HH", 0xBEDE, len(body) // 4) + body
    first = 0x80 | (0x10 if block else 0) | (0x20 if padding else 0)
    tail = bytes(padding - 1) + bytes((padding,)) if padding else b""
    return pack("!BBHII", first, marker << 7 | payload_type, seq, timestamp, ssrc) + block + payload + tail


def vp8(key: bool, picture: int, size: int = 400) -> bytes:
    """First packet of a VP8 frame with a 15-bit picture id."""
    return bytes((0x90, 0x80, 0x80 | picture >> 8, picture & 255, 0x00 if key else 0x01)) + bytes(size)


@dataclass
class Received:
    rtp: list[Rtp] = field(default_factory=list)
    reports: list[rtcp.RtcpItem] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    messages: list[bytes | str] = field(default_factory=list)

    def of(self, kind: type[Any]) -> list[Any]:
        return [item for item in self.reports if isinstance(item, kind)]


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that must come; the step only bounds how often it is looked at."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WAIT_S
    while not condition():
        assert loop.time() < deadline, what
        await asyncio.sleep(0.005)


class Peer:
    """One Transport of one participant, this end."""

    _ids = itertools.count()

    def __init__(
        self, worker: WorkerClient, router: str, direction: str, owner: str | None = None, *, tcp: bool = False
    ) -> None:
        number = next(self._ids)
        self.worker = worker
        self.router = router
        self.direction = direction
        self.owner = owner or f"owner{number}"
        self.id = f"t{number}-{direction}"
        self.got = Received()
        self.lose: Callable[[Rtp], bool] = lambda packet: False
        self.answer_checks = True
        self.remote: Address = ("", 0)
        self.ice: dict[str, Any] = {}
        self.stun_answers: list[stun.Message] = []
        self._certificate = Certificate()
        self._dtls = DtlsPort(self._certificate, self.send_raw, lambda: None)
        self.errors: list[str] = []
        self._sctp = SctpPort(self._dtls, self.errors.append, lambda: None)
        self._rx: Any = None
        self._tx: Any = None
        self.tcp = tcp
        self.candidate = 0
        """Which one we reach the relay by; its protocol is ours to choose, both have the same port."""
        self.hung_up = False
        """The relay has ended our connection."""
        self.family = socket.AF_INET
        self._unread = b""
        self._socket = socket.socket() if tcp else self._open_socket()
        self._transactions: dict[bytes, asyncio.Future[stun.Message]] = {}

    async def join(self, *, dtls_role: str = "client", handshake_first: bool = False) -> None:
        """Create the Transport, check, handshake. ``dtls_role`` is ours."""
        options = await self.worker.create_transport(self.router, self.id, self.owner, self.direction)  # type: ignore[arg-type]
        candidate = options["ice_candidates"][self.candidate]
        self.remote = (candidate["ip"], candidate["port"])
        if self.tcp or ":" in candidate["ip"]:
            self.family = socket.AF_INET6 if ":" in candidate["ip"] else socket.AF_INET
            self.move(tcp=self.tcp)
        self.ice = options["ice_parameters"]
        await self.check(nominate=True)
        remote = ortc_transport.DtlsParameters(
            "server" if dtls_role == "server" else "client",
            "sha-256",
            options["dtls_parameters"]["fingerprints"][0]["value"],
        )
        handshake = asyncio.create_task(self._dtls.handshake(remote))
        if handshake_first:
            await asyncio.sleep(0)  # let the first flight leave before the worker knows the fingerprint
        await self.worker.connect_transport(self.id, self.dtls_parameters(dtls_role))
        async with asyncio.timeout(WAIT_S):
            keys = await handshake
        self._rx, self._tx = keys._rx_session, keys._tx_session

    def dtls_parameters(self, role: str) -> dict[str, Any]:
        fingerprint = {"algorithm": "sha-256", "value": self._certificate.sha256_fingerprint()}
        return {"role": role, "fingerprints": [fingerprint]}

    # ---------------------------------------------------------------- sockets and ICE

    def _open_socket(self) -> socket.socket:
        if self.tcp:
            sock = socket.create_connection(self.remote, timeout=WAIT_S)
        else:
            sock = socket.socket(self.family, socket.SOCK_DGRAM)
            sock.bind(("::1" if self.family == socket.AF_INET6 else "127.0.0.1", 0))
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable, sock)
        return sock

    def move(self, *, tcp: bool = False) -> None:
        """Go on from another port, perhaps over a connection; the old one hears nothing more."""
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self.tcp, self._unread = tcp, b""
        self._socket = self._open_socket()

    @property
    def address(self) -> Address:
        name: Address = self._socket.getsockname()
        return name

    def send_raw(self, datagram: bytes) -> None:
        if self.tcp:
            self._socket.sendall(len(datagram).to_bytes(2, "big") + datagram)
            return
        self._socket.sendto(datagram, self.remote)

    def check_message(self, nominate: bool, *, password: str | None = None, ufrag: str | None = None) -> stun.Message:
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{ufrag or self.ice['usernameFragment']}:abcd"
        request.attributes["PRIORITY"] = 1853824767
        request.attributes["ICE-CONTROLLING"] = 1
        if nominate:
            request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity((password or self.ice["password"]).encode())
        return request

    async def check(self, *, nominate: bool) -> stun.Message:
        """One check that must be answered."""
        request = self.check_message(nominate)
        answer: asyncio.Future[stun.Message] = asyncio.get_running_loop().create_future()
        self._transactions[request.transaction_id] = answer
        self.send_raw(bytes(request))
        async with asyncio.timeout(WAIT_S):
            return await answer

    def _readable(self, sock: socket.socket) -> None:
        while True:
            try:
                datagram = sock.recv(65536)
            except (BlockingIOError, OSError):
                return
            if not self.tcp:
                self._datagram(datagram)
            elif not datagram:
                asyncio.get_running_loop().remove_reader(sock.fileno())
                self.hung_up = True
                return
            else:
                self._unread += datagram
                frames, rest = framing.split(memoryview(self._unread), len(self._unread))
                whole, self._unread = self._unread, self._unread[rest:]
                for offset, size in frames:
                    self._datagram(whole[offset : offset + size])

    def _datagram(self, datagram: bytes) -> None:
        if datagram[0] < 4:
            message = stun.parse_message(datagram)
            waiting = self._transactions.pop(message.transaction_id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        elif datagram[0] < 64:
            assert self._dtls.offer(datagram)
        elif self._rx is not None:
            self._media(datagram)

    # ---------------------------------------------------------------- media

    def _media(self, datagram: bytes) -> None:
        self.got.raw.append(datagram)
        if 192 <= datagram[1] <= 223:
            self.got.reports += rtcp.parse(self._rx.unprotect_rtcp(datagram))
            return
        packet = parse_rtp(self._rx.unprotect(datagram))
        if not self.lose(packet):
            self.got.rtp.append(packet)

    def protect(self, packet: bytes) -> bytes:
        protected: bytes = self._tx.protect(packet)
        return protected

    def send_rtp(self, packet: bytes) -> None:
        self.send_raw(self.protect(packet))

    def send_rtcp(self, packet: bytes) -> None:
        self.send_raw(self._tx.protect_rtcp(packet))

    # ---------------------------------------------------------------- data

    async def channel(self, parameters: dict[str, Any], label: str) -> ChannelPort:
        stream = ortc_transport.parse_sctp_stream(parameters)
        channel = self._sctp.open_channel(stream, label, "", self.got.messages.append)
        await self._sctp.start()
        return channel

    async def send_sctp(self, packet: bytes) -> None:
        """Bytes straight into DTLS, past our own SCTP."""
        assert self._dtls.send(packet)

    def stop_hearing(self) -> Callable[[], None]:
        """Take no data in and acknowledge none until the result is called."""
        hearing = self._dtls._on_data
        assert hearing is not None
        self._dtls.on_data(lambda data: None)
        return lambda: self._dtls.on_data(hearing)

    async def send_endless_message(self) -> None:
        """Fragments of one message, in order, acknowledged or not, until the other end has had enough."""
        association = self._sctp._association
        assert association._peer is not None
        first = association._outbound.next_tsn
        for number in range(400):
            data = wire.Data(first + number & 0xFFFFFFFF, 3, 0, 53, wire.FIRST * (number == 0), bytes(1100))
            if not self._dtls.send(wire.build_packet(association._peer.tag, wire.build_data(data))):
                return
            await asyncio.sleep(0.001)  # a socket's buffer holds some of them, not all

    async def close(self) -> None:
        await self._sctp.stop()
        await self._dtls.close()
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()


VIDEO_SSRC, VIDEO_RTX_SSRC, AUDIO_SSRC = 0x11111111, 0x22222222, 0x33333333
VIDEO_PT, VIDEO_RTX_PT, AUDIO_PT = 96, 97, 111
MID_ID, TWCC_ID, LEVEL_ID, ORIENTATION_ID = 4, 3, 1, 13
_TWCC = {"type": "transport-cc", "parameter": ""}


def video_parameters(**changes: Any) -> dict[str, Any]:
    """What Chromium sends for one camera; ids and types unlike the Router's on purpose."""
    feedback = [
        {"type": "nack", "parameter": ""},
        {"type": "nack", "parameter": "pli"},
        {"type": "ccm", "parameter": "fir"},
        {"type": "goog-remb", "parameter": ""},
        _TWCC,
    ]
    return {
        "mid": "0",
        "codecs": [
            {
                "mimeType": "video/VP8",
                "payloadType": VIDEO_PT,
                "clockRate": 90000,
                "parameters": {},
                "rtcpFeedback": feedback,
            },
            {
                "mimeType": "video/rtx",
                "payloadType": VIDEO_RTX_PT,
                "clockRate": 90000,
                "parameters": {"apt": VIDEO_PT},
                "rtcpFeedback": [],
            },
        ],
        "headerExtensions": [
            {"uri": ortc.MID_URI, "id": MID_ID},
            {"uri": ortc.TRANSPORT_CC_URI, "id": TWCC_ID},
            {"uri": ortc.VIDEO_ORIENTATION_URI, "id": ORIENTATION_ID},
        ],
        "encodings": [{"ssrc": VIDEO_SSRC, "rtx": {"ssrc": VIDEO_RTX_SSRC}}],
        "rtcp": {"cname": "someone", "reducedSize": True},
    } | changes


def audio_parameters(**changes: Any) -> dict[str, Any]:
    return {
        "mid": "1",
        "codecs": [
            {
                "mimeType": "audio/opus",
                "payloadType": AUDIO_PT,
                "clockRate": 48000,
                "channels": 2,
                "parameters": {},
                "rtcpFeedback": [_TWCC],
            }
        ],
        "headerExtensions": [
            {"uri": ortc.MID_URI, "id": MID_ID},
            {"uri": ortc.AUDIO_LEVEL_URI, "id": LEVEL_ID},
            {"uri": ortc.TRANSPORT_CC_URI, "id": TWCC_ID},
        ],
        "encodings": [{"ssrc": AUDIO_SSRC}],
        "rtcp": {"cname": "someone", "reducedSize": True},
    } | changes


__all__ = [
    "Peer",
    "Received",
    "Rtp",
    "audio_parameters",
    "build_rtp",
    "parse_rtp",
    "pylibsrtp",
    "until",
    "video_parameters",
    "vp8",
]
