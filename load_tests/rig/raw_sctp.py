"""The far end of an SCTP association for load: shakes hands, counts, acknowledges, sends, and no more.

A receiver that did its whole duty would cost as much as the relay it measures. This one waits for the
relay's INIT, takes in-order data on a loopback that loses nothing, and acknowledges as browsers do: every second
packet at once, a single one after 200 ms. It never resends and never asks for anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from struct import pack, unpack_from

from google_crc32c import value as crc32c

from load_tests.rig.peer import LoadPeer

_DATA, _INIT, _INIT_ACK, _SACK, _HEARTBEAT, _HEARTBEAT_ACK, _COOKIE_ECHO, _COOKIE_ACK = 0, 1, 2, 3, 4, 5, 10, 11
_FORWARD_TSN = 192
_RECEIVE_WINDOW_BYTES = 1 << 20
_ACK_DELAY_S = 0.2
_TAG, _FIRST_TSN = 0x5EED5EED, 1000
_BINARY = 53

OnMessage = Callable[[int, bytes], None]
"""``(stream_id, message)`` of one unfragmented message."""


class RawSctp:
    """Passive SCTP on a connected `LoadPeer`; register it before the relay starts its association."""

    def __init__(self, peer: LoadPeer, on_message: OnMessage) -> None:
        self._dtls = peer.dtls
        self._on_message = on_message
        self._peer_tag = 0
        self._cumulative = 0
        self._unacknowledged = 0
        self._tsn = _FIRST_TSN
        self._stream_numbers: dict[int, int] = {}
        self.established = asyncio.Event()
        self._acknowledging: asyncio.Task[None] | None = None
        self._dtls._register_data_receiver(self)

    @property
    def peer_tag(self) -> int:
        """What our packets carry, told by the relay's INIT."""
        return self._peer_tag

    @property
    def cumulative(self) -> int:
        """Last number received."""
        return self._cumulative

    async def send(self, stream_id: int, message: bytes, *, ordered: bool) -> None:
        """One message that fits a packet."""
        await self._send(self.data_chunk(stream_id, message, ordered=ordered))

    def data_chunk(self, stream_id: int, message: bytes, *, ordered: bool) -> bytes:
        """The chunk of one message, to be sent once."""
        number = self._stream_numbers.get(stream_id, 0) if ordered else 0
        self._stream_numbers[stream_id] = (number + 1) & 0xFFFF
        body = pack("!IHHI", self._tsn, stream_id, number, _BINARY) + message
        self._tsn = (self._tsn + 1) & 0xFFFFFFFF
        return _chunk(_DATA, 3 if ordered else 7, body)

    async def _handle_data(self, packet: bytes) -> None:
        position = 12
        while position + 4 <= len(packet):
            kind, length = packet[position], unpack_from("!H", packet, position + 2)[0]
            if length < 4:
                return
            await self._chunk(kind, packet[position + 4 : position + length])
            position += length + (-length & 3)
        if self._unacknowledged >= 2:
            await self._acknowledge()
        elif self._unacknowledged and self._acknowledging is None:
            self._acknowledging = asyncio.create_task(self._acknowledge_late())

    async def _acknowledge(self) -> None:
        self._unacknowledged = 0
        await self._send(_chunk(_SACK, 0, pack("!IIHH", self._cumulative, _RECEIVE_WINDOW_BYTES, 0, 0)))

    async def _acknowledge_late(self) -> None:
        await asyncio.sleep(_ACK_DELAY_S)
        self._acknowledging = None
        if self._unacknowledged:
            await self._acknowledge()

    async def _chunk(self, kind: int, body: bytes) -> None:
        if kind == _DATA:
            tsn, stream_id = unpack_from("!IH", body)
            self._cumulative = max(tsn, self._cumulative)
            self._unacknowledged += 1
            self._on_message(stream_id, body[12:])
        elif kind == _INIT:
            self._peer_tag, _, _, _, first_tsn = unpack_from("!IIHHI", body)
            self._cumulative = (first_tsn - 1) & 0xFFFFFFFF
            head = pack("!IIHHI", _TAG, _RECEIVE_WINDOW_BYTES, 1024, 1024, _FIRST_TSN)
            parameters = pack("!HHHHBBxx", 0xC000, 4, 0x8008, 6, 192, 130) + pack("!HHQ", 7, 12, 1)
            await self._send(_chunk(_INIT_ACK, 0, head + parameters))
        elif kind == _COOKIE_ECHO:
            await self._send(_chunk(_COOKIE_ACK, 0, b""))
            self.established.set()
        elif kind == _FORWARD_TSN:
            self._cumulative = max(unpack_from("!I", body)[0], self._cumulative)
            self._unacknowledged += 2
        elif kind == _HEARTBEAT:
            await self._send(_chunk(_HEARTBEAT_ACK, 0, body))

    async def _send(self, chunk: bytes) -> None:
        packet = pack("!HHII", 5000, 5000, self._peer_tag, 0) + chunk
        with contextlib.suppress(ConnectionError):
            await self._dtls._send_data(packet[:8] + pack("<I", crc32c(packet)) + packet[12:])

    def _handle_disconnect(self) -> None:
        if self._acknowledging is not None:
            self._acknowledging.cancel()


def _chunk(kind: int, flags: int, body: bytes) -> bytes:
    return pack("!BBH", kind, flags, 4 + len(body)) + body + bytes(-len(body) & 3)
