"""The common alternative to our data channels: one aiohttp server that copies each WebSocket message to a room.

Over TLS, without compression, as a hospital would run it. ``python -m load_tests.peers.ws_hub`` is the server's
process: it prints its port and serves until its input ends. What it costs is its process's CPU time over the copies
it made, at the same messages, rooms and viewers as ours; the clients are this process's and cost it nothing.

How late its copies are is not compared: here nothing is lost, and what a lost segment does to a WebSocket is in the
transport study, not in this figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from load_tests.rig.drive import process_cpu_s

OPEN_S = 60.0


def certificate(folder: Path) -> ssl.SSLContext:
    """A context with a certificate made for the occasion."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    path = folder / "pem"
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def _serve(folder: Path) -> None:
    rooms: dict[str, set[web.WebSocketResponse]] = {}

    async def handle(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        room = rooms.setdefault(request.match_info["room"], set())
        if request.match_info["kind"] == "view":
            room.add(ws)
        async for message in ws:
            for viewer in room:
                await viewer.send_bytes(message.data)
        room.discard(ws)
        return ws

    app = web.Application()
    app.router.add_get("/{kind}/{room}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate(folder))
    await site.start()
    assert site._server is not None
    print(site._server.sockets[0].getsockname()[1], flush=True)  # type: ignore[attr-defined]
    await asyncio.to_thread(sys.stdin.read)


@dataclass
class Rooms:
    """Sources and viewers, connected."""

    pid: int
    sources: list[aiohttp.ClientWebSocketResponse] = field(default_factory=list)
    copies: int = 0

    async def play(self, messages: Sequence[bytes], per_s: float, seconds: float) -> None:
        """Every source sends so often, spread over the interval."""
        began, turn = time.monotonic(), 0
        while (now := time.monotonic()) < began + seconds:
            number, position = divmod(turn, len(self.sources))
            due = began + (number + position / len(self.sources)) / per_s
            if due > now:
                await asyncio.sleep(due - now)
            await self.sources[position].send_bytes(messages[number % len(messages)])
            turn += 1

    async def read(self, viewer: aiohttp.ClientWebSocketResponse) -> None:
        """Count what comes."""
        async for _ in viewer:
            self.copies += 1


@contextlib.asynccontextmanager
async def rooms(streams: int, viewers: int, launch: Sequence[str]) -> AsyncIterator[Rooms]:
    """A server with so many rooms."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as folder:
        command = [*launch, sys.executable, "-m", "load_tests.peers.ws_hub", folder]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert process.stdin is not None
        assert process.stdout is not None
        reading: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(OPEN_S):
                address = f"https://127.0.0.1:{int(await process.stdout.readline())}"
            connector = aiohttp.TCPConnector(limit=0, ssl=trusting)
            async with aiohttp.ClientSession(connector=connector) as session:
                made = Rooms(process.pid)
                for room in range(streams):
                    for _ in range(viewers):
                        viewer = await session.ws_connect(f"{address}/view/{room}", compress=0)
                        reading.append(asyncio.create_task(made.read(viewer)))
                    made.sources.append(await session.ws_connect(f"{address}/send/{room}", compress=0))
                yield made
                for task in reading:
                    task.cancel()
                await asyncio.gather(*reading, return_exceptions=True)
        finally:
            process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def cpu_us_per_copy(
    messages: Sequence[bytes], *, streams: int, viewers: int, per_s: float, seconds: float, launch: Sequence[str] = ()
) -> float:
    """What one copy costs the server's process."""
    async with rooms(streams, viewers, launch) as made:
        await made.play(messages, per_s, 1.0)
        cpu_s, copies = process_cpu_s(made.pid), made.copies
        await made.play(messages, per_s, seconds)
        return (process_cpu_s(made.pid) - cpu_s) * 1e6 / max(1, made.copies - copies)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
