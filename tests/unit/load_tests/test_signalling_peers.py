"""The clients and the search of the signalling comparison."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest

from load_tests.peers.fan_client import FanClient, FanLost
from load_tests.peers.fan_servers import Server
from load_tests.peers.signalling import FIRST_DELIVERIES, Audience, Search, Step
from load_tests.peers.socketio_process import admitted, seal

KEY = bytes(32)


class Line(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.written.append(b"aborted")


def frame(kind: int, payload: bytes) -> bytes:
    if len(payload) < 126:
        return bytes((0x80 | kind, len(payload))) + payload
    return bytes((0x80 | kind, 126)) + len(payload).to_bytes(2, "big") + payload


def unmasked(written: bytes) -> bytes:
    at = 2 if written[1] & 0x7F < 126 else 4
    mask, payload = written[at : at + 4], written[at + 4 :]
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


async def test_frames_cut_anywhere_are_heard_once_and_pings_are_answered() -> None:
    events = [{"type": "page_turned", "view": {"item": "i" * size}} for size in (1, 60, 300)]
    stream = b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + frame(1, b'0{"sid":"x"}')
    stream += b"".join(frame(2, msgpack.packb({"type": 2, "nsp": "/", "data": ["event", one]})) for one in events)
    stream += frame(1, b"2")
    for cut in range(1, len(stream)):
        heard: list[Any] = []
        client, line = FanClient(lambda event, _at, heard=heard: heard.append(event)), Line()
        client.connection_made(line)
        client._auth = {"token": "t"}
        client.data_received(stream[:cut])
        client.data_received(stream[cut:])
        assert heard == events
        assert msgpack.unpackb(unmasked(line.written[0])) == {"type": 0, "nsp": "/", "data": {"token": "t"}}
        assert unmasked(line.written[1]) == b"3"
        assert not client.lost


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 503 Busy\r\n\r\n",
        b"HTTP/1.1 101 x\r\n\r\n" + bytes((0x02, 0)),  # a frame in parts
        b"HTTP/1.1 101 x\r\n\r\n" + bytes((0x82, 127)) + (1 << 40).to_bytes(8, "big"),
        b"HTTP/1.1 101 x\r\n\r\n" + frame(8, b""),
        b"HTTP/1.1 101 x\r\n\r\n" + frame(2, msgpack.packb({"type": 4, "nsp": "/", "data": {"message": "no"}})),
    ],
)
async def test_what_it_cannot_take_ends_it_with_a_reason(stream: bytes) -> None:
    client = FanClient(lambda _event, _at: None)
    client.connection_made(Line())
    client.data_received(stream)
    assert client.lost
    async with asyncio.timeout(20):
        with pytest.raises(FanLost):
            await client.ask({"type": "join"})


def test_a_token_of_another_key_or_room_is_not_admitted() -> None:
    token = seal(KEY, "r1", "m2")
    assert admitted(KEY, token) == ("r1", "m2")
    for wrong in (seal(b"k" * 32, "r1", "m2"), token.replace("r1", "r2"), "", "r1:m2:", "é", None):
        assert admitted(KEY, wrong) is None


@pytest.mark.parametrize("limit", [400, 1_500, 5_000, 47_000])
def test_the_search_ends_between_the_last_rate_that_held_and_the_first_that_did_not(limit: float) -> None:
    search = Search(Audience(Server("x", None, "")), 100)  # type: ignore[arg-type]
    noisy = iter([True])
    rates = []
    while (rate := search.next_rate()) is not None:
        rates.append(rate)
        spoilt = rate == 2 * FIRST_DELIVERIES / 100 and next(noisy, False)  # one window that something else disturbed
        late = rate * 100 > limit or spoilt
        search.take(Step(rate, 100, 2.5, sent=round(rate * 2.5), last_ms=[1_000.0 if late else 1.0]))
        assert len(rates) < 30
    if limit < FIRST_DELIVERIES:
        assert search.best is None
        return
    assert search.best is not None
    assert search.failed is not None
    assert limit / 1.5 < search.best.rate * 100 <= limit < search.failed.rate * 100
