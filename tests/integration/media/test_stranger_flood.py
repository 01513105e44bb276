"""A stranger's flood beside a running session: nothing of it is answered, little of it costs, none of it is felt.

On a real worker process. The stranger sits on another loopback address, since a source is a host.
"""

import asyncio
import itertools
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from aioice import stun

from media.core import ortc
from media.core.strangers import BURST
from tests.integration.media.conftest import RunningWorker
from tests.integration.media.inside import frame
from tests.integration.media.peer import Peer, until, video_parameters

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUNDS, STRANGERS_EACH, FRAMES_EACH = 100, 150, 5
MAX_COST_RATIO = 0.5
"""CPU of a stranger's datagram to that of a forwarded packet; it is about a twentieth."""


class Session:
    """A publisher and its viewer on the worker."""

    def __init__(self, worker: RunningWorker) -> None:
        self.worker = worker
        self.publisher, self.viewer = Peer(worker.client, "s", "send"), Peer(worker.client, "s", "recv")
        self.sent = 0

    async def open(self) -> None:
        await self.worker.client.open_router("s")
        await self.publisher.join()
        await self.viewer.join()
        await self.worker.client.produce(self.publisher.id, "cam", "video", video_parameters())
        await self.worker.client.consume(self.viewer.id, "view", "cam", ortc.router_capabilities())
        await self.worker.client.resume_consumer("view")
        await self.run(1)

    async def run(self, frames: int) -> None:
        """Frames go through, every one of them."""
        for _ in range(frames):
            self.sent += 1
            self.publisher.send_rtp(frame(self.sent, self.sent % 50 == 1))
        await until(lambda: len(self.viewer.got.rtp) == self.sent, "every packet of the session")

    async def close(self) -> None:
        await self.worker.client.close_router("s")
        await self.publisher.close()
        await self.viewer.close()

    def cpu_s(self) -> float:
        """CPU time of the worker process (clock ids of other processes: CPUCLOCK_SCHED of clock_getcpuclockid)."""
        pid = self.worker.supervisor.pid
        assert pid is not None
        return time.clock_gettime((~pid << 3) | 2)


@pytest_asyncio.fixture(loop_scope="module")
async def session(worker: RunningWorker) -> AsyncIterator[Session]:
    running = Session(worker)
    await running.open()
    yield running
    await running.close()


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.2", 0))
        sock.setblocking(False)
        yield sock


def request(username: str, password: str = "p" * 22) -> bytes:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = username
    message.attributes["PRIORITY"] = 1
    message.attributes["USE-CANDIDATE"] = None
    message.add_message_integrity(password.encode())
    return bytes(message)


HELLO = b"\x16\xfe\xff\0\0\0\0\0\0\0\0\0\x61\x01\0\0\x55\0\0\0\0\0\0\0\x55\xfe\xfd" + bytes(83)
KINDS: dict[str, Callable[[Session], bytes]] = {
    "noise": lambda _: os.urandom(200),
    "media": lambda _: b"\x80\x60" + os.urandom(1_100),
    "hello": lambda _: HELLO,
    "binding": lambda _: b"\0\1\0\0\x21\x12\xa4\x42" + os.urandom(12),
    "unknown": lambda _: request("nobody00:x"),
    "forged": lambda session: request(f"{session.viewer.ice['usernameFragment']}:x"),
}


def heard(sock: socket.socket) -> bytes:
    try:
        return sock.recv(2_000)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_is_not_answered_not_felt_and_cheap(session: Session, stranger: socket.socket, kind: str) -> None:
    """Strangers' datagrams between the session's own, faster than the worker reads at times."""
    flood = [KINDS[kind](session) for _ in range(16)]
    before = session.cpu_s()
    for _ in range(ROUNDS):
        await session.run(FRAMES_EACH)
    alone = session.cpu_s() - before

    before = session.cpu_s()
    endless: Iterator[bytes] = itertools.cycle(flood)
    for _ in range(ROUNDS):
        for datagram in itertools.islice(endless, STRANGERS_EACH):
            stranger.sendto(datagram, session.publisher.remote)
        await session.run(FRAMES_EACH)
    both = session.cpu_s() - before
    await session.publisher.check(nominate=True)

    assert heard(stranger) == b"", "no byte goes back"
    per_packet = alone / (ROUNDS * FRAMES_EACH)
    per_stranger = max(0.0, both - alone) / (ROUNDS * STRANGERS_EACH)
    assert per_stranger < MAX_COST_RATIO * per_packet, (per_stranger, per_packet)
    stats = await session.worker.client.stats()
    assert stats.get("datagram_errors", 0) == 0
    assert stats["transports_now"] == stats["transports_connected_now"] == 2


async def test_forged_checks_are_limited_per_source_and_keep_nobody_else_out(
    session: Session, stranger: socket.socket
) -> None:
    """Who knows a ufrag, but no password, costs a bounded number of HMACs; another host joins meanwhile."""
    forged = request(f"{session.viewer.ice['usernameFragment']}:x")
    for _ in range(20 * BURST):
        stranger.sendto(forged, session.publisher.remote)
    newcomer = Peer(session.worker.client, "s", "recv")
    await newcomer.join()
    await session.worker.until_count("stun_limited", BURST)
    assert await session.worker.count("stun_bad_integrity") < 10 * BURST
    assert heard(stranger) == b""
    await session.run(5)
    await session.worker.client.close_transport(newcomer.id)
    await newcomer.close()


async def test_an_answer_is_no_longer_than_its_question(session: Session) -> None:
    """Even to who may ask: nobody's forged source address gets more than was sent."""
    answers: list[int] = []
    parse = stun.parse_message
    question = session.viewer.check_message(True)
    receive: Any = session.viewer._readable

    def measured(data: bytes, *arguments: Any) -> Any:
        answers.append(len(data))
        return parse(data, *arguments)

    assert receive is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stun, "parse_message", measured)
        await session.viewer.check(nominate=True)
    assert answers
    assert max(answers) <= len(bytes(question))


async def test_bytes_of_a_stranger_on_tcp_are_not_answered(session: Session) -> None:
    """Frames of every kind, and what is no frame at all; the session beside it goes on."""
    rng = random.Random(1)
    for kind in (*KINDS, "stream"):
        with socket.socket() as sock:
            sock.settimeout(20)
            sock.connect(session.publisher.remote)
            data = rng.randbytes(5_000)
            if kind in KINDS:
                frames = [KINDS[kind](session) for _ in range(40)]
                data = b"".join(len(one).to_bytes(2, "big") + one for one in frames)
            try:
                sock.sendall(data)
                await session.run(2)
                answer = await _read_all(sock)
            except (ConnectionError, BrokenPipeError):
                answer = b""
        assert answer == b"", kind


async def _read_all(sock: socket.socket) -> bytes:
    """Until the worker closes the connection, as it must."""
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    collected = b""
    async with asyncio.timeout(30):
        while data := await loop.sock_recv(sock, 4_096):
            collected += data
    return collected
