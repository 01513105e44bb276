"""Real Chromium behind a firewall that lets less and less through: UDP, TCP, TURN."""

import asyncio
import base64
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from media.aio.client import WorkerClient
from tests.integration.media.narrow import (
    HERE,
    WAIT_S,
    Network,
    bundle,
    chromium_in,
    enter,
    network,
    why_not_here,
    worker_in,
)
from tests.integration.server.turn_kit import Coturn, coturn, installed

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),  # what all of them share is started in the first
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif((reason := why_not_here()) is not None, reason=reason or ""),
]


@dataclass
class Scene:
    place: Network
    browser: Any
    worker: WorkerClient
    script: str
    turn: Coturn | None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("narrow")
    async with contextlib.AsyncExitStack() as stack:
        place = stack.enter_context(network())
        worker = await stack.enter_async_context(worker_in(place, folder, HERE))
        turn = None
        flags = []
        if installed():
            turn = await stack.enter_async_context(coturn(folder, HERE, (3478, 443), place.beyond))
            flags.append(trust_flag(folder / "tls" / "server.crt"))
        browser = await stack.enter_async_context(chromium_in(place, folder, *flags))
        yield Scene(place, browser, worker, bundle(folder), turn)


@pytest_asyncio.fixture(loop_scope="module")
async def scene(shared: Scene) -> AsyncIterator[Scene]:
    yield shared
    shared.place.open()


def trust_flag(certificate: Path) -> str:
    """Chromium trusts exactly this key; everything else stays checked."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return f"--ignore-certificate-errors-spki-list={base64.b64encode(digest).decode()}"


def servers(turn: Coturn, *ways: str) -> list[dict[str, Any]]:
    username, credential = turn.credentials()
    return [{"urls": [turn.urls[way] for way in ways], "username": username, "credential": credential}]


def tell(what: str, milliseconds: float) -> None:
    """Figures for whoever asks (`CONSILIUM_FIGURES=1 pytest -s`); never asserted."""
    if os.environ.get("CONSILIUM_FIGURES"):
        print(f"\n{what}: first picture after {milliseconds:.0f} ms")


async def test_udp_where_it_is_open(scene: Scene) -> None:
    page = await enter(scene.browser, scene.script, scene.worker)
    tell("udp", await page.open())
    await page.new_pictures()
    assert await page.ways() == {"send": "udp", "recv": "udp"}
    await page.page.close()


async def test_tcp_where_udp_is_blocked(scene: Scene) -> None:
    """RFC 6544: Chromium finds the passive candidate by itself, and sends and sees its picture over connections."""
    scene.place.block("meta l4proto udp")
    page = await enter(scene.browser, scene.script, scene.worker)

    tell("tcp, udp blocked", await page.open())
    await page.new_pictures()

    assert await page.ways() == {"send": "tcp", "recv": "tcp"}
    assert (await scene.worker.stats())["tcp_streams_now"] >= 2
    await page.page.close()


async def test_a_call_goes_on_over_tcp_when_udp_dies(scene: Scene) -> None:
    """Same Transports, Producer and Consumer; an ICE restart as the product asks for it; the picture goes on."""
    page = await enter(scene.browser, scene.script, scene.worker)
    await page.open()
    assert await page.ways() == {"send": "udp", "recv": "udp"}
    before = await scene.worker.stats()
    began = time.monotonic()

    scene.place.block("meta l4proto udp")
    async with asyncio.timeout(WAIT_S):
        while set((await page.states()).values()) != {"disconnected"}:
            if await page.ways() == {"send": "tcp", "recv": "tcp"}:
                break  # Chromium had kept the connections and changed over by itself
            await asyncio.sleep(0.1)
    await page.restart_ice()
    await page.new_pictures()
    tell("from udp to tcp", (time.monotonic() - began) * 1e3)

    assert await page.ways() == {"send": "tcp", "recv": "tcp"}
    after = await scene.worker.stats()
    assert after["dtls_connected"] == before["dtls_connected"]
    await page.page.close()


@pytest.mark.skipif(not installed(), reason="Debian's coturn package is not installed")
@pytest.mark.parametrize("way", ["udp", "tcp", "tls"])
async def test_turn_by_every_way(scene: Scene, way: str) -> None:
    assert scene.turn is not None
    page = await enter(scene.browser, scene.script, scene.worker)

    tell(f"turn {way}", await page.open(iceServers=servers(scene.turn, way), iceTransportPolicy="relay"))
    await page.new_pictures()

    assert await page.ways() == {"send": f"relay/{way}", "recv": f"relay/{way}"}
    await page.page.close()


@pytest.mark.skipif(not installed(), reason="Debian's coturn package is not installed")
async def test_only_443_is_open(scene: Scene) -> None:
    """The strictest firewall that still lets people read web pages: the browser finds TURN over TLS by itself."""
    assert scene.turn is not None
    scene.place.block("meta l4proto udp")
    scene.place.block("tcp dport != 443")
    page = await enter(scene.browser, scene.script, scene.worker)

    tell("only 443 open", await page.open(iceServers=servers(scene.turn, "udp", "tcp", "tls")))
    await page.new_pictures()

    assert await page.ways() == {"send": "relay/tls", "recv": "relay/tls"}
    await page.page.close()
