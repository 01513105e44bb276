"""TURN for real: coturn as we configure it, media through it by UDP, TCP and TLS, and what it must not do."""

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aioice import stun
from turn_kit import HOST, Coturn, TurnedPeer, allocate, coturn, installed

from media.aio.supervisor import WorkerSettings
from media.core import ortc
from server.doctor import examine
from server.media_plane import WorkerMediaPlane
from server.network import TurnFailed, try_turn
from server.turn import turn_servers
from signaling.core import messages as m
from signaling.core.ids import ConsultId, ParticipantId
from tests.integration.media.inside import Direct, frame
from tests.integration.media.peer import until, video_parameters

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),  # coturn is started in the first
    pytest.mark.skipif(not installed(), reason="Debian's coturn package is not installed"),
]

WAYS = ("udp", "tcp", "tls")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Coturn]:
    async with coturn(tmp_path_factory.mktemp("turn")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def relay() -> AsyncIterator[Direct]:
    inside = Direct()
    inside.relay.open_router("r")
    yield inside
    await inside.relay.close()


@pytest.mark.parametrize("way", WAYS)
async def test_media_through_turn(server: Coturn, relay: Direct, way: str) -> None:
    """Both directions, checks and DTLS included; the relay sees coturn's address, never the participant's."""
    client: Any = relay
    publisher, viewer = TurnedPeer(client, "r", "send"), TurnedPeer(client, "r", "recv")
    for peer in (publisher, viewer):
        await peer.go_through(server, way)
        await peer.join()
    relay.relay.produce(publisher.id, "cam", "video", video_parameters(), False)
    relay.relay.consume(viewer.id, "view", "cam", ortc.router_capabilities())
    relay.relay.resume_consumer("view")
    await until(lambda: len(relay.states) == 2, "both connected")

    number = 0
    async with asyncio.timeout(60):
        while len(viewer.got.rtp) < 30:  # coturn may drop what comes in bursts
            number += 1
            publisher.send_rtp(frame(number, True, 1100))
            await asyncio.sleep(0.005)

    assert relay.relay._transports[viewer.id].leg.address == viewer.allocation.get_extra_info("sockname")
    for peer in (publisher, viewer):
        await peer.close()


async def test_credentials_end(server: Coturn) -> None:
    with pytest.raises(stun.TransactionFailed) as refused:
        await allocate(server, "udp", server.credentials(expires_s=1_000_000_000))
    assert refused.value.response.attributes["ERROR-CODE"][0] == 401


async def test_credentials_are_for_one_participant_and_moment(server: Coturn) -> None:
    """Neither the name nor the time can be changed without the secret."""
    username, password = server.credentials()
    expiry, _, name = username.partition(":")
    for forged in (f"{int(expiry) + 1}:{name}", f"{expiry}:somebody-else", name):
        with pytest.raises(stun.TransactionFailed):
            await allocate(server, "tcp", (forged, password))


@pytest.mark.parametrize("peer", ["127.0.0.2", "10.0.0.1", "192.168.1.1", "169.254.169.254", "224.0.0.1", "8.8.8.8"])
async def test_nothing_but_the_media_addresses_is_reached(server: Coturn, peer: str) -> None:
    """Otherwise TURN would be a door into the hospital's network. Nothing is sent: coturn refuses the permission."""
    allocation, inbox = await allocate(server, "tcp", server.credentials())

    allocation.sendto(b"hello", (peer, 9))
    await until(lambda: inbox.errors, "the refusal")

    (error,) = inbox.errors
    assert isinstance(error, stun.TransactionFailed)
    assert error.response.attributes["ERROR-CODE"][0] == 403
    allocation.close()
    await asyncio.sleep(0)


async def test_strangers_get_no_answer_to_reflect(server: Coturn) -> None:
    """Plain STUN is off: a forged source makes us send nobody anything but the 401 of an allocation without a name."""
    port = int(server.urls["udp"].rpartition(":")[2])
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((HOST, port))
        sock.send(bytes(stun.Message(stun.Method.BINDING, stun.Class.REQUEST)))
        asked = stun.Message(stun.Method.ALLOCATE, stun.Class.REQUEST)
        asked.attributes["REQUESTED-TRANSPORT"] = 0x11000000
        sock.send(bytes(asked))
        async with asyncio.timeout(20):
            answer = stun.parse_message(await loop.sock_recv(sock, 2048))
    assert answer.transaction_id == asked.transaction_id, "the first answer is to the second question"
    assert answer.attributes["ERROR-CODE"][0] == 401
    assert "SOFTWARE" not in answer.attributes


async def test_a_participant_is_told_its_servers_and_again_at_an_ice_restart(server: Coturn) -> None:
    """[ME16] What signalling hands out is what coturn takes; a restart brings credentials that last longer."""
    now_ms = int(time.time() * 1000)
    clock = itertools.count(now_ms, 60_000)
    plane = WorkerMediaPlane(WorkerSettings(bind=HOST), ice_servers=turn_servers(server.settings, lambda: next(clock)))
    await plane.start()
    try:
        consult, participant = ConsultId("c"), ParticipantId("p1")
        await plane.open(consult)
        made = await plane.call(consult, participant, m.CreateTransport(direction="recv"))
        assert isinstance(made, m.TransportOptions)
        again = await plane.call(consult, participant, m.RestartIce(transport=made.id))
        assert isinstance(again, m.IceRestarted)
    finally:
        await plane.stop()

    for given in (made.ice_servers, again.ice_servers):
        (one,) = given
        assert one.urls == server.settings.turn_urls
        allocation, _ = await allocate(server, "udp", (one.username, one.credential))
        allocation.close()
        await asyncio.sleep(0)
    assert made.ice_servers[0].username.endswith(":p1")
    assert made.ice_servers != again.ice_servers


async def test_doctor_tries_every_way(server: Coturn) -> None:
    findings = {finding.name: finding for finding in await examine(server.settings)}

    assert findings["TURN"].ok, findings["TURN"]
    plain, tls = (server.urls[way].partition("?")[0].rpartition(":")[2] for way in ("tcp", "tls"))
    assert findings["TURN"].text == f"an allocation by UDP {plain}, TCP {plain}, TLS over TCP {tls}"


async def test_doctor_says_which_way_is_closed(server: Coturn, tmp_path: Path) -> None:
    """The URL, and what is wrong, in words; never the secret."""
    other = server.settings.model_copy(update={"data_dir": tmp_path})
    with pytest.raises(TurnFailed, match=r"127\.0\.0\.1.*another secret"):
        await try_turn(other, 2_000_000_000)

    closed = server.settings.model_copy(update={"turn_urls": ("turn:127.0.0.1:9?transport=tcp",)})
    with pytest.raises(TurnFailed, match="refused"):
        await try_turn(closed, 2_000_000_000)

    (tmp_path / "turn-secret").write_bytes((server.settings.data_dir / "turn-secret").read_bytes())
    strange = server.settings.model_copy(update={"data_dir": tmp_path, "turn_urls": (server.urls["tls"],)})
    with pytest.raises(TurnFailed, match="certificate is not believed"):
        await try_turn(strange, 2_000_000_000)
