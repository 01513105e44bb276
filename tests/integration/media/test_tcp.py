"""ICE-TCP: media over connections, and connections that are up to no good."""

import asyncio
import contextlib
import os
import socket
from typing import Any

import pytest

from media.aio import tcp
from media.core import ortc, rtcp
from tests.integration.media.inside import Direct, frame
from tests.integration.media.peer import Peer, Rtp, until, video_parameters, vp8


async def tcp_pair(direct: Direct, *, publisher_tcp: bool = True) -> tuple[Peer, Peer]:
    client: Any = direct
    publisher, viewer = Peer(client, "r", "send", tcp=publisher_tcp), Peer(client, "r", "recv", tcp=True)
    await publisher.join()
    await viewer.join()
    direct.relay.produce(publisher.id, "cam", "video", video_parameters(), False)
    direct.relay.consume(viewer.id, "view", "cam", ortc.router_capabilities())
    direct.relay.resume_consumer("view")
    await until(lambda: len(direct.states) == 2, "both connected")
    return publisher, viewer


def is_key(packet: Rtp) -> bool:
    """A VP8 key frame begins here; its picture is numbered as this viewer has seen them."""
    return packet.payload[4] == 0


async def end(*peers: Peer) -> None:
    for peer in peers:
        await peer.close()


async def test_media_both_ways_over_tcp(direct: Direct) -> None:
    """Checks, DTLS, SRTP and RTCP on a connection; a frame of many packets arrives whole and in order."""
    publisher, viewer = await tcp_pair(direct)

    for number in range(1, 200):
        publisher.send_rtp(frame(number, number == 1, 1100))
    await until(lambda: len(viewer.got.rtp) == 199, "all packets")

    assert [packet.payload for packet in viewer.got.rtp] == [vp8(n == 1, n, 1100) for n in range(1, 200)]
    assert direct.relay.stats()["tcp_streams_now"] == 2
    viewer.send_rtcp(rtcp.build_pli(1, next(iter(direct.relay._transports[viewer.id].consumers))))
    await until(lambda: publisher.got.of(rtcp.Pli), "the key frame request, through the relay, back to the publisher")
    await end(publisher, viewer)


async def test_candidates_of_both_protocols_on_one_port(direct: Direct) -> None:
    """RFC 6544: passive, same port number, below every UDP candidate."""
    options = direct.relay.create_transport("r", "t", "someone", "recv")
    udp, over_tcp = options["ice_candidates"]

    assert (udp["protocol"], over_tcp["protocol"], over_tcp["tcpType"]) == ("udp", "tcp", "passive")
    assert udp["port"] == over_tcp["port"]
    assert udp["priority"] > over_tcp["priority"]
    assert "tcpType" not in udp


async def test_a_viewer_that_goes_from_udp_to_tcp_and_back_keeps_its_picture(direct: Direct) -> None:
    """A firewall that begins to drop UDP: same keys, continuous numbers, a key frame asked for at each move."""
    publisher, viewer = await tcp_pair(direct, publisher_tcp=False)
    publisher.send_rtp(frame(1, True))
    await until(lambda: len(viewer.got.rtp) == 1, "over TCP")

    for number, over_tcp in ((2, False), (3, True)):
        viewer.move(tcp=over_tcp)
        publisher.got.reports.clear()
        await viewer.check(nominate=True)
        await until(lambda: publisher.got.of(rtcp.Pli), "a PLI")
        publisher.send_rtp(frame(number, True))
        await until(lambda n=number: len(viewer.got.rtp) == n, "the key frame")  # type: ignore[misc]

    first = viewer.got.rtp[0].seq
    assert [(packet.seq - first) & 0xFFFF for packet in viewer.got.rtp] == [0, 1, 2]
    assert direct.relay.counters.values["dtls_connected"] == 2
    await end(publisher, viewer)


async def test_a_connection_that_ends_is_a_path_that_ends(direct: Direct) -> None:
    """Nothing is sent into the void; the next check brings the picture back."""
    publisher, viewer = await tcp_pair(direct)
    publisher.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "over the first connection")
    transport = direct.relay._transports[viewer.id]

    viewer._socket.shutdown(socket.SHUT_RDWR)
    await until(lambda: direct.relay.stats()["tcp_streams_now"] == 1, "the end")
    assert transport.leg.address is None
    assert transport.leg.stream is None
    publisher.send_rtp(frame(2, False))
    await until(lambda: direct.relay.counters.values["rtp_received"] == 2, "a packet for nobody")

    viewer.move(tcp=True)
    await viewer.check(nominate=True)
    publisher.send_rtp(frame(3, True))
    await until(lambda: len(viewer.got.rtp) == 2, "over the second")
    assert is_key(viewer.got.rtp[1])
    await end(publisher, viewer)


async def test_consent_on_a_connection_is_checks_too(direct: Direct) -> None:
    """An open connection is no consent: 7 s without a check is unstable, 30 s closes Transport and connection."""
    publisher, viewer = await tcp_pair(direct)
    with direct.stopped():
        direct.notes.clear()

        direct.pass_time(7.1)
        assert direct.states == [(publisher.id, "unstable"), (viewer.id, "unstable")]
        await viewer.check(nominate=True)
        direct.pass_time(0)
        direct.pass_time(23)
    assert (publisher.id, "closed") in direct.states
    assert (viewer.id, "connected") in direct.states
    await until(lambda: publisher.hung_up, "the relay hangs up")
    assert direct.relay.stats()["tcp_streams_now"] == 1
    await end(publisher, viewer)


async def test_a_viewer_that_never_reads_costs_a_bounded_outbox(direct: Direct) -> None:
    """What it does not read is dropped at a bound, it skips to a key frame, and nobody else notices."""
    publisher, viewer = await tcp_pair(direct)
    publisher.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "the first packet")
    stream: Any = direct.relay._transports[viewer.id].leg.stream
    asyncio.get_running_loop().remove_reader(viewer._socket.fileno())

    number = 1
    async with asyncio.timeout(60):
        while not direct.relay.counters.values["consumers_skipped_to_keyframe"]:
            for _ in range(50):
                number += 1
                publisher.send_rtp(frame(number, False, 1100))
            await asyncio.sleep(0)
    assert direct.relay.counters.values["tcp_outbox_full"] >= 1
    assert len(stream._outbox) <= tcp.OUTBOX_BYTES + tcp.CONTROL_BYTES

    asyncio.get_running_loop().add_reader(viewer._socket.fileno(), viewer._readable, viewer._socket)
    await until(lambda: not stream._outbox, "it reads again")
    publisher.send_rtp(frame(number + 1, True))
    await until(lambda: is_key(viewer.got.rtp[-1]), "the key frame")
    first = viewer.got.rtp[0].seq
    assert [(p.seq - first) & 0xFFFF for p in viewer.got.rtp] == list(range(len(viewer.got.rtp)))
    await end(publisher, viewer)


async def test_checks_are_answered_while_media_are_backed_up(direct: Direct) -> None:
    """A slow path is not a dead one."""
    publisher, viewer = await tcp_pair(direct)
    stream: Any = direct.relay._transports[viewer.id].leg.stream
    stream._outbox = bytearray(tcp.OUTBOX_BYTES - 2)

    assert not stream.send_run(memoryview(bytes(100)), 100)
    assert stream.send(bytes(100))
    assert len(stream._outbox) == tcp.OUTBOX_BYTES + 100
    await end(publisher, viewer)


# ---------------------------------------------------------------- strangers


class Stranger:
    """A connection of somebody without credentials."""

    def __init__(self, direct: Direct) -> None:
        self.socket = socket.create_connection(("127.0.0.1", direct.relay._port), timeout=60)
        self.socket.setblocking(False)

    def send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.send(data)

    @property
    def hung_up(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


@pytest.mark.parametrize(
    ("data", "counted"),
    [
        (b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n", "tcp_malformed"),
        (b"\x16\x03\x01\x02\x00" + bytes(600), "tcp_malformed"),
        (b"\xff\xff" + bytes(60_000), "tcp_malformed"),
        (b"\x00\x01\x16" * (tcp.MAX_STRANGER_FRAMES + 1), "tcp_strangers_refused"),
        ((b"\x00\x64" + bytes(100)) * (tcp.MAX_STRANGER_FRAMES + 1), "tcp_strangers_refused"),
    ],
    ids=["http", "tls", "long", "not a check", "not a valid check"],
)
async def test_what_is_no_check_ends_the_connection(direct: Direct, data: bytes, counted: str) -> None:
    stranger = Stranger(direct)

    stranger.send(data)
    await until(lambda: stranger.hung_up, "the end")

    assert direct.relay.counters.values[counted] == 1
    assert direct.relay.stats()["tcp_streams_now"] == 0
    assert not direct.relay.counters.values["datagram_errors"]


async def test_a_stranger_that_says_nothing_is_sent_away(direct: Direct) -> None:
    """Also one that sends a byte now and then: the time runs from the start."""
    stranger = Stranger(direct)
    await until(lambda: direct.relay.stats()["tcp_streams_now"] == 1, "the connection")
    stranger.send(b"\x00")
    direct.skipped_us += tcp.STRANGER_US
    direct.relay._tcp.sweep(direct.relay._clock())

    await until(lambda: stranger.hung_up, "the end")


async def test_one_host_cannot_take_all_places(direct: Direct, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a host's strangers are refused; participants of the same host are not counted."""
    monkeypatch.setattr(tcp, "MAX_STRANGERS_PER_HOST", 3)
    publisher, viewer = await tcp_pair(direct)
    strangers = [Stranger(direct) for _ in range(5)]

    await until(lambda: direct.relay.counters.values["tcp_refused"] == 2, "two refusals")
    assert direct.relay.stats()["tcp_streams_now"] == 5
    assert sum(stranger.hung_up for stranger in strangers) == 2
    publisher.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "media")
    await end(publisher, viewer)


async def test_the_oldest_stranger_gives_way(direct: Direct, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fills all places cannot keep a participant out."""
    monkeypatch.setattr(tcp, "MAX_STRANGERS", 3)
    strangers = [Stranger(direct) for _ in range(3)]
    await until(lambda: direct.relay.stats()["tcp_streams_now"] == 3, "a full house")

    publisher, viewer = await tcp_pair(direct)

    assert [stranger.hung_up for stranger in strangers] == [True, False, False], "one left, and our two are known"
    await end(publisher, viewer)


async def test_garbage_on_a_trusted_connection_ends_only_that(direct: Direct) -> None:
    publisher, viewer = await tcp_pair(direct)
    for first in range(256):
        publisher.send_raw(bytes((first,)) + os.urandom(40))
    publisher.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "media after garbage")

    publisher._socket.send(b"\xff\xff")
    await until(lambda: publisher.hung_up, "the end of a stream without a beginning")
    publisher.move(tcp=True)
    await publisher.check(nominate=True)
    publisher.send_rtp(frame(2, False))
    await until(lambda: len(viewer.got.rtp) == 2, "media on the next connection")
    assert not direct.relay.counters.values["datagram_errors"]
    await end(publisher, viewer)


async def test_no_descriptor_left_is_waited_out(direct: Direct, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections wait in the backlog meanwhile; what is there goes on."""
    monkeypatch.setattr(tcp, "PAUSE_S", 0.05)
    port: Any = direct.relay._tcp
    inner = port._socket

    class Starved:
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def accept(self) -> Any:
            port._socket = inner
            raise OSError(24, "Too many open files")

    port._socket = Starved()
    stranger = Stranger(direct)

    await until(lambda: direct.relay.stats()["tcp_streams_now"] == 1, "taken after the pause")
    assert direct.relay.counters.values["tcp_no_descriptors"] == 1
    stranger.socket.close()
    await until(lambda: direct.relay.stats()["tcp_streams_now"] == 0, "gone")


def test_hosts_of_ipv6_are_networks() -> None:
    assert tcp.network_of("2001:db8:1:2::9") == tcp.network_of("2001:db8:1:2:ffff::1")
    assert tcp.network_of("2001:db8:1:2::9") != tcp.network_of("2001:db8:1:3::9")
    assert tcp.network_of("::ffff:192.0.2.1") == tcp.network_of("192.0.2.1") == "192.0.2.1"
