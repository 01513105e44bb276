"""A real coturn with the configuration the product writes, and peers that reach the relay through it only."""

import asyncio
import contextlib
import datetime
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aioice import turn

from load_tests.rig.demo_process import free_port
from server.network import trusting
from server.settings import Settings, load_settings
from server.tls import make_authority
from server.turn import make_credentials, turn_secret
from server.turn_urls import parse_turn_url
from tests.integration.media.peer import WAIT_S, Peer

HOST = "127.0.0.1"
START_S = 90.0
"""Our command loads the whole server first, which takes long on a machine that does much else."""


@dataclass
class Coturn:
    """A running TURN server and the settings it was made from."""

    settings: Settings
    process: asyncio.subprocess.Process

    @property
    def urls(self) -> dict[str, str]:
        """By the way in: udp, tcp, tls."""
        return dict(zip(("udp", "tcp", "tls"), self.settings.turn_urls, strict=True))

    def credentials(self, expires_s: int | None = None) -> tuple[str, str]:
        soon = int(datetime.datetime.now(datetime.UTC).timestamp()) + 600
        return make_credentials(turn_secret(self.settings), "someone", soon if expires_s is None else expires_s)


@contextlib.asynccontextmanager
async def coturn(
    folder: Path, host: str = HOST, ports: tuple[int, int] | None = None, launch: Sequence[str] = ()
) -> AsyncIterator[Coturn]:
    """Start one, on loopback and free ports unless told otherwise.

    Args:
        ports: plain and TLS.
        launch: command in front of coturn's, for another network.
    """
    plain, tls = ports or (free_port(), free_port())
    files = make_authority(folder / "tls", (host,), datetime.datetime.now(datetime.UTC))
    environment = {
        "CONSILIUM_TURN_URLS": f"turn:{host}:{plain},turn:{host}:{plain}?transport=tcp,"
        f"turns:{host}:{tls}?transport=tcp",
        "CONSILIUM_MEDIA_ADDRESSES": host,
        "CONSILIUM_TLS_CERT_FILE": str(files.cert),
        "CONSILIUM_TLS_KEY_FILE": str(files.key),
    }
    settings = load_settings(environment, data_dir=folder)
    command = [sys.executable, "-m", "server", "turn", "run", "--data-dir", str(folder), "--listen", host]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CONSILIUM_")}
    with (folder / "turn.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *launch, *command, stdout=log, stderr=asyncio.subprocess.STDOUT, env=clean | environment
        )
    try:
        async with asyncio.timeout(START_S):
            for port in (plain, tls):
                while not listening(process.pid, port):
                    assert process.returncode is None, (folder / "turn.log").read_text()
                    await asyncio.sleep(0.02)
        yield Coturn(settings, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def listening(pid: int, port: int) -> bool:
    """Somebody in the network of a process takes TCP connections on the port."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                return True
    return False


def installed() -> bool:
    return shutil.which("turnserver") is not None


class Inbox(asyncio.DatagramProtocol):
    """What comes out of an allocation."""

    def __init__(self) -> None:
        self.take: Any = lambda data: None
        self.heard: list[bytes] = []
        self.errors: list[Exception] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard.append(data)
        self.take(data)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)


async def allocate(server: Coturn, way: str, credentials: tuple[str, str]) -> tuple[Any, Inbox]:
    """An allocation by one of the three ways.

    Raises:
        aioice.stun.TransactionFailed: coturn said no.
    """
    url = parse_turn_url(server.urls[way])
    async with asyncio.timeout(WAIT_S):
        return await turn.create_turn_endpoint(
            Inbox,
            (url.host, url.port),
            *credentials,
            ssl=trusting(server.settings) if url.secure else None,
            transport=url.transport,
        )


class TurnedPeer(Peer):
    """A peer whose every datagram goes through an allocation."""

    allocation: Any

    async def go_through(self, server: Coturn, way: str) -> None:
        self.allocation, inbox = await allocate(server, way, server.credentials())
        inbox.take = self._datagram

    def send_raw(self, datagram: bytes) -> None:
        self.allocation.sendto(datagram, self.remote)

    async def close(self) -> None:
        await super().close()
        self.allocation.close()
        await asyncio.sleep(0)
