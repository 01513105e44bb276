"""The relay with real peers, fed with what a hostile one could send: through DTLS, with valid SRTP keys, from nowhere.

The law is one for all: whatever comes, none of our own errors is met, and the session beside it forwards as
before. Inputs go over loopback in batches, so a crash is blamed on a batch; it is saved whole, one input a line in hex.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable
from typing import Any

from media.aio.aiortc_port import DtlsFailed
from media.core import ortc
from tests.fuzz.engine import CORPUS, Found
from tests.fuzz.mutate import Mutator
from tests.integration.media.inside import Direct, frame, pair
from tests.integration.media.peer import Peer

BATCH = 50
OWN_ERRORS = ("datagram_errors", "flush_errors", "tick_errors", "bugs")


class Arena:
    """One session that must not notice, and the peers that try."""

    def __init__(self) -> None:
        self.direct = Direct()
        self.number = 0

    async def open(self) -> None:
        self.direct.relay.open_router("r")
        self.publisher, self.viewer = await pair(self.direct)
        client: Any = self.direct
        self.hostile = Peer(client, "r", "recv")
        await self.hostile.join()
        self.direct.relay.consume(self.hostile.id, "hostile", "cam", ortc.router_capabilities())
        self.direct.relay.resume_consumer("hostile")
        await self.still_works()

    async def close(self) -> None:
        await self.direct.relay.close()
        for peer in (self.publisher, self.viewer, self.hostile):
            await peer.close()

    async def still_works(self) -> None:
        """A frame sent now arrives, and nothing of ours broke."""
        before = len(self.viewer.got.rtp)
        last = 0.0
        async with asyncio.timeout(30):
            while len(self.viewer.got.rtp) == before:
                if time.monotonic() - last > 0.2:  # a datagram may be lost in a full socket buffer
                    last = time.monotonic()
                    self.number = (self.number + 1) & 0xFFFF
                    self.publisher.send_rtp(frame(self.number, True))
                await asyncio.sleep(0.002)
        broken = {name: count for name, count in self.direct.relay.stats().items() if name in OWN_ERRORS and count}
        assert not broken, broken
        for peer in (self.viewer, self.hostile):
            peer.got.rtp.clear()
            peer.got.raw.clear()

    async def drained(self) -> None:
        """The relay has read what was sent: it answers a check that came behind it."""
        for peer in (self.publisher, self.viewer):
            await peer.check(nominate=True)


Feed = Callable[[bytes], None]


def _dtls(arena: Arena) -> Feed:
    """Records to a transport whose handshake is over, from its own address."""
    return lambda data: arena.publisher.send_raw(bytes((20 + data[:1][0] % 44,)) + data[1:] if data else b"\x16")


def _udp(arena: Arena) -> Feed:
    """Anything at all from a learnt address."""
    return lambda data: arena.viewer.send_raw(data[:1_600])


def _rtp(arena: Arena) -> Feed:
    """A publisher's packets with valid keys and nonsense behind them; what libsrtp will not seal cannot be sent."""

    def feed(data: bytes) -> None:
        packet = bytearray(data[:1_300].ljust(12, b"\0"))
        packet[0] = 0x80 | packet[0] & 0x3F
        packet[1] = packet[1] if not 192 <= packet[1] <= 223 else 96
        try:
            arena.publisher.send_rtp(bytes(packet))
        except Exception:  # the sealing side refuses: nothing to send
            return

    return feed


def _rtcp(arena: Arena) -> Feed:
    """Reports of another viewer, with valid keys: it may spoil its own picture, and nobody else's."""

    def feed(data: bytes) -> None:
        packet = bytearray(data[:1_300].ljust(8, b"\0"))
        packet[0] = 0x80 | packet[0] & 0x3F
        packet[1] = 192 + packet[1] % 32
        try:
            arena.hostile.send_rtcp(bytes(packet))
        except Exception:  # the sealing side refuses: nothing to send
            return

    return feed


LIVE: dict[str, tuple[Callable[[Arena], Feed], str]] = {
    "dtls": (_dtls, "dtls"),
    "udp": (_udp, "stranger"),
    "srtp": (_rtp, "rtp"),
    "srtcp": (_rtcp, "rtcp"),
}
"""By name: how an input is sent, and whose corpus it comes from. ``handshake`` is in `explore_handshakes`."""


def _saved(name: str) -> list[bytes]:
    """Inputs of batches that once broke the law."""
    files = sorted((CORPUS / name).glob("crash-*.batch"))
    return [bytes.fromhex(line) for file in files for line in file.read_text().split()]


async def explore_live(name: str, seconds: float, seed: int, inputs: int = 1 << 62) -> Found:
    """Feed mutations for so long, at most so many."""
    make, folder = LIVE[name]
    corpus = [file.read_bytes() for file in sorted((CORPUS / folder).iterdir()) if not file.suffix]
    mutator, found, arena = Mutator(seed), Found(), Arena()
    await arena.open()
    feed, queue = make(arena), corpus + _saved(name)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and found.inputs < inputs:
            batch = [queue.pop() if queue else mutator.next(corpus) for _ in range(BATCH)]
            found.inputs += len(batch)
            try:
                for data in batch:
                    feed(data)
                await arena.drained()
                await arena.still_works()
            except (AssertionError, TimeoutError) as error:
                text = "\n".join(data.hex() for data in batch)
                file = CORPUS / name / f"crash-{hashlib.sha256(text.encode()).hexdigest()[:16]}.batch"
                file.parent.mkdir(exist_ok=True)
                file.write_text(text)
                found.crashes[file.name] = f"{type(error).__name__}: {error}"
                return found
    finally:
        await arena.close()
    return found


class Meddled(Peer):
    """A client with somebody on its path who sends spoilt copies of its handshake ahead of it."""

    def __init__(self, *arguments: Any, mutator: Mutator, copies: int) -> None:
        self._mutator, self._copies, self.spoilt = mutator, copies, 0
        super().__init__(*arguments)

    def send_raw(self, datagram: bytes) -> None:
        if 20 <= datagram[0] < 64:
            for _ in range(self._copies):
                spoilt = self._mutator.next([datagram])
                super().send_raw(bytes((datagram[0],)) + spoilt[1:1_400])
                self.spoilt += 1
        super().send_raw(datagram)


async def explore_handshakes(rounds: int, seed: int, patience_s: float) -> int:
    """Spoilt records during handshakes. Some end a handshake, as forged plain ones may; nothing else may end.

    Returns:
        How many spoilt records were sent.
    """
    mutator, arena, spoilt = Mutator(seed), Arena(), 0
    await arena.open()
    client: Any = arena.direct
    try:
        for number in range(rounds):
            role = ("client", "server")[number % 2]
            peer = Meddled(client, "r", "send", mutator=mutator, copies=5)
            with contextlib.suppress(TimeoutError, DtlsFailed):
                await asyncio.wait_for(peer.join(dtls_role=role), patience_s)
            spoilt += peer.spoilt
            await peer.close()
            await arena.still_works()
        clean = Peer(client, "r", "send")
        await clean.join()
        await clean.close()
    finally:
        await arena.close()
    return spoilt
