"""The gateway's line and its inlets where a person waits: lanes of the pipe, mistakes of an inlet, redirects."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from server.gateway.core.crossing import Crossing
from server.gateway.core.policy import parse_policy
from server.gateway.delivery import INLET_BROKE, TRIES, Delivery
from server.gateway.identity import only_to
from server.gateway.journal import Journal, JournalLimits
from server.gateway.sealing import load_keys
from server.lock.aio.pipe import Pipe
from server.lock.core.link import Arrived
from server.lock.core.proof import next_mark
from server.lock.core.wire import GENESIS, AnswerPart, Cross, Part, Ping, decode

DEADLINE_S = 20


class Line:
    """A socket whose other end takes one frame for each ticket."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.tickets = asyncio.Semaphore(0)
        self.closed = False

    async def send_bytes(self, data: bytes) -> None:
        await self.tickets.acquire()
        self.sent.append(decode(data))

    async def receive(self) -> Any:
        raise AssertionError("nothing is read")

    async def close(self) -> bool:
        return True


async def test_answers_and_crossings_take_turns_and_what_waits_can_be_called_back() -> None:
    """[LK22] A ping overtakes a long answer, and of an answer that nobody wants any more the rest stays here."""
    line = Line()
    pipe = Pipe(line)

    async def answer(id_: int) -> None:
        for offset in range(4):
            await pipe.answer(AnswerPart(id=id_, offset=offset, data=b"a"))

    async def cross() -> None:
        for offset in range(4):
            await pipe.carry(Part(sequence=1, offset=offset, data=b"c"))

    first, second = asyncio.create_task(answer(1)), asyncio.create_task(cross())
    writer = asyncio.create_task(pipe.write())
    for _ in range(3):
        line.tickets.release()
    async with asyncio.timeout(DEADLINE_S):
        while len(line.sent) < 3:
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        pipe.say(Ping(at_us=1))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        for _ in range(20):
            line.tickets.release()
        await second
        while len(line.sent) < 7:
            await asyncio.sleep(0)
    writer.cancel()
    kinds = [type(one).__name__ for one in line.sent]
    assert kinds[:3] == ["AnswerPart", "Part", "AnswerPart"]
    assert kinds.index("Ping") <= 4, "behind what the socket has taken already, and nothing else"
    assert [one.offset for one in line.sent if isinstance(one, Part)] == [0, 1, 2, 3]
    assert [one.offset for one in line.sent if isinstance(one, AnswerPart)] in ([0, 1], [0, 1, 2])


class Broken:
    """An inlet with a mistake of its own at one message."""

    name = "archive"
    kinds = frozenset({"MDM^T02"})

    def __init__(self) -> None:
        self.tries, self.taken = 0, asyncio.Event()

    async def deliver(self, crossing: Crossing) -> None:
        if crossing.key == "in-1":
            self.tries += 1
            raise KeyError("王芳")
        self.taken.set()


def arrived(number: int, mark: bytes) -> Arrived:
    digest = hashlib.sha256(b"report").digest()
    frame = Cross(
        sequence=number, source="hub", kind="MDM^T02", key=f"in-{number}", patient=(), about=(),
        media_type="application/fhir+json", made_us=0, received_us=0, journaled_us=0, sent_us=0, size=6, digest=digest,
        mark=next_mark(mark, number, "hub", f"in-{number}", digest), body=b"report",
    )  # fmt: skip
    return Arrived(frame=frame, body=b"report", received_us=5)


async def test_an_inlet_that_breaks_ends_neither_the_gateway_nor_what_comes_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """[LK18] Tried again, then refused with its place; what it stumbled over is in no log (G8)."""
    journal = Journal(tmp_path, load_keys(tmp_path / "journal.keys"), JournalLimits(), lambda: 7)
    first = arrived(1, GENESIS)
    await journal.keep_inward(first)
    await journal.keep_inward(arrived(2, first.frame.mark))
    policy, inlet = parse_policy('version = 1\n[[in]]\nkind = "MDM^T02"', b"s"), Broken()

    async def no_pause(_seconds: float) -> None:
        await asyncio.sleep(0)

    running = asyncio.create_task(Delivery(journal, (inlet,), lambda: policy, no_pause).run())
    await asyncio.wait_for(inlet.taken.wait(), DEADLINE_S)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    query = "SELECT code, reason FROM refusal"
    refused = await journal._scribe.run(lambda db: [tuple(row) for row in db.execute(query)])
    await journal.close()
    assert (inlet.tries, [code for code, _reason in refused]) == (TRIES, [INLET_BROKE])
    assert "王芳" not in capsys.readouterr().out + str(refused)


@pytest.fixture
async def elsewhere() -> AsyncIterator[tuple[TestServer, list[str]]]:
    """A server that sends its callers to another one, and what that one heard."""
    heard: list[str] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append(request.path)
        return web.Response()

    other = web.Application()
    other.router.add_route("*", "/{path:.*}", hear)
    away = TestServer(other)
    await away.start_server()

    async def send_away(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(str(away.make_url(request.path)))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", send_away)
    server = TestServer(app)
    await server.start_server()
    yield server, heard
    await server.close()
    await away.close()


async def test_a_redirect_leads_nowhere(elsewhere: tuple[TestServer, list[str]]) -> None:
    """[LK3] TLS was verified for the hub; where the hub points to, nobody has verified anything."""
    server, heard = elsewhere
    origin = str(server.make_url("")).rstrip("/")
    async with aiohttp.ClientSession(middlewares=(only_to(origin),)) as http:
        with pytest.raises(aiohttp.ClientError):
            await http.ws_connect(f"{origin}/ws/lock")
        async with http.get(f"{origin}/x", allow_redirects=False) as answer:
            assert answer.status == 307
    assert heard == []
