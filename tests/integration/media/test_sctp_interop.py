"""Our SCTP with aiortc's at the other end, on a clean line and on one that loses, doubles and reorders."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from aiortc import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities, RTCSctpTransport

from media.aio.sctp import ChannelPort, SctpPort
from media.aio.turns import Turns
from media.core.ortc_transport import SctpStream
from tests.integration.media.peer import until

RELIABLE = SctpStream(0, True, None, None)
LIVE = SctpStream(1, False, 0, None)
SHORT_LIVED = SctpStream(2, False, None, 100)


class Line:
    """Both DTLS ends at once: bytes go across as they are."""

    state = "connected"

    def __init__(self, role: str, loss: float, seed: int) -> None:
        self._role = role
        self.turns = Turns()
        self.loss = loss
        self._random = Random(seed)
        self._theirs: Any = None
        self._ours: Callable[[bytes], None] | None = None
        self._arriving: asyncio.Queue[bytes] = asyncio.Queue(10_000)
        self._tasks = [asyncio.create_task(self._pump())]

    # our end: what `SctpPort` uses of `DtlsPort`

    def on_data(self, receive: Callable[[bytes], None]) -> None:
        self._ours = receive

    def send(self, data: bytes) -> bool:
        for at_s in self._fates():
            asyncio.get_running_loop().call_later(at_s, self._arriving.put_nowait, data)
        return True

    # their end: what aiortc uses of its DTLS transport

    def _register_data_receiver(self, receiver: Any) -> None:
        self._theirs = receiver

    def _unregister_data_receiver(self, receiver: Any) -> None:
        self._theirs = None

    async def _send_data(self, data: bytes) -> None:
        for at_s in self._fates():
            asyncio.get_running_loop().call_later(at_s, self._arrive, data)

    def _fates(self) -> list[float]:
        if not self.loss:
            return [0.0]
        if self._random.random() < self.loss:
            return []
        return [self._random.uniform(0, 0.01) for _ in range(1 + (self._random.random() < self.loss))]

    def _arrive(self, data: bytes) -> None:
        if self._ours is not None:
            self._ours(data)

    async def _pump(self) -> None:
        while True:
            data = await self._arriving.get()
            if self._theirs is not None:
                await self._theirs._handle_data(data)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Ends:
    """A channel of each kind, both ends of it."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.counts: list[str] = []
        self.our_port = SctpPort(line, self.counts.append, lambda: self.counts.append("abuse"))  # type: ignore[arg-type]
        self.their_port = RTCSctpTransport(line)  # type: ignore[arg-type]
        self.ours: dict[int, ChannelPort] = {}
        self.theirs: dict[int, RTCDataChannel] = {}
        self.we_got: dict[int, list[bytes | str]] = {0: [], 1: [], 2: []}
        self.they_got: dict[int, list[bytes | str]] = {0: [], 1: [], 2: []}
        for stream in (RELIABLE, LIVE, SHORT_LIVED):
            self.open(stream)

    def open(self, stream: SctpStream) -> None:
        number = stream.stream_id
        self.ours[number] = self.our_port.open_channel(stream, "x", "", self.we_got[number].append)
        parameters = RTCDataChannelParameters(
            label="x",
            ordered=stream.ordered,
            maxPacketLifeTime=stream.max_packet_life_time_ms,
            maxRetransmits=stream.max_retransmits,
            negotiated=True,
            id=number,
        )
        self.theirs[number] = RTCDataChannel(self.their_port, parameters)
        self.theirs[number].on("message", self.they_got[number].append)

    async def start(self) -> None:
        await self.their_port.start(RTCSctpCapabilities(maxMessageSize=262_144), 5000)
        await self.our_port.start()
        await until(lambda: self.ours[0].is_open and self.theirs[0].readyState == "open", "both ends")


@asynccontextmanager
async def ends(role: str, loss: float = 0.0, seed: int = 0) -> AsyncIterator[Ends]:
    line = Line(role, loss, seed)
    both = Ends(line)
    await both.start()
    try:
        yield both
    finally:
        await both.our_port.stop()
        await both.their_port.stop()
        await line.close()


@pytest.mark.parametrize("role", ["client", "server"])
async def test_messages_both_ways(role: str) -> None:
    """Empty ones, text, one that needs many packets; the same at the other end."""
    messages = ["", b"", "text ü", b"bytes", bytes(range(256)) * 1000, "after"]
    async with ends(role) as both:
        for message in messages:
            assert both.ours[0].send(message)
            both.theirs[0].send(message)
        await until(lambda: len(both.we_got[0]) == len(both.they_got[0]) == len(messages), "all messages")
        assert both.we_got[0] == both.they_got[0] == messages
        assert not [name for name in both.counts if "refused" in name]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_bad_line(seed: int) -> None:
    """Reliable: all, once, in order. Live and short-lived: at most once, and the line is not stuck afterwards."""
    async with ends("client") as both:
        both.line._random.seed(seed)
        both.line.loss = 0.08
        sent = [number.to_bytes(2) + bytes(900) for number in range(60)]
        for message in sent:
            for stream in (0, 1, 2):
                assert both.ours[stream].send(message)
                both.theirs[stream].send(message)
            await asyncio.sleep(0)
        await until(lambda: len(both.we_got[0]) == len(both.they_got[0]) == len(sent), "all reliable messages")
        assert both.we_got[0] == both.they_got[0] == sent
        both.line.loss = 0.0
        for end, got in ((both.ours, both.they_got), (both.theirs, both.we_got)):
            for stream in (1, 2):
                assert len(set(got[stream])) == len(got[stream]) <= len(sent)
                end[stream].send(b"clean")
                await until(lambda got=got, stream=stream: b"clean" in got[stream], "a message after the loss")  # type: ignore[misc]
        assert "abuse" not in both.counts


async def test_a_channel_closes_and_its_stream_is_used_again() -> None:
    """From either end; numbering begins anew, so the next channel is heard."""
    async with ends("client") as both:
        for close in (lambda: both.ours[0].close(), lambda: both.theirs[0].close()):
            close()
            await until(
                lambda: not both.our_port.takes(0) and both.theirs[0].readyState == "closed", "the reset of both ends"
            )
            both.open(RELIABLE)
            await until(lambda: both.ours[0].is_open, "the new channel")
            for number in range(3):
                both.ours[0].send(bytes([number]))
                both.theirs[0].send(bytes([number]))
            await until(lambda: both.they_got[0][-1:] == both.we_got[0][-1:] == [b"\2"], "messages on the new channel")
            both.they_got[0].clear()
            both.we_got[0].clear()


async def test_their_goodbye_and_ours() -> None:
    async with ends("server") as both:
        await both.their_port.stop()
        await until(lambda: not both.ours[0].is_open, "the end of our channel")
        assert not both.ours[0].send(b"x")
        assert "sctp_closed_by_peer" in both.counts
    async with ends("server") as both:
        await both.our_port.stop()
        await until(lambda: both.theirs[0].readyState == "closed", "the end of their channel")


async def test_their_in_band_opening_is_refused() -> None:
    """DCEP: channels come from signalling only, and the attempt harms nothing."""
    async with ends("client") as both:
        RTCDataChannel(both.their_port, RTCDataChannelParameters(label="sneaky"))
        await until(lambda: "sctp_dcep_refused" in both.counts, "the refusal")
        both.theirs[0].send(b"still here")
        await until(lambda: both.we_got[0], "a message afterwards")
