"""One port on several addresses, of both families and protocols; and what the system refuses at the start."""

import socket
import subprocess
import sys
from typing import Any

import pytest

from media.aio import ports, udp
from media.aio.clock import start_clock
from media.aio.counters import Counters
from media.aio.tcp import TcpPort
from media.aio.udp import UdpPort
from media.core import ortc
from tests.integration.media.inside import Direct, frame
from tests.integration.media.peer import Peer, until, video_parameters


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@needs_ipv6
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(
    ("addresses", "bind", "publishes_by", "views_by"),
    [(("::1",), "::1", 0, 0), (("127.0.0.1", "::1"), "::", 0, 1), (("::1", "127.0.0.1"), "::", 0, 1)],
    ids=["ipv6", "from ipv4 to ipv6", "from ipv6 to ipv4"],
)
async def test_media_between_address_families(
    addresses: tuple[str, ...], bind: str, publishes_by: int, views_by: int, tcp: bool
) -> None:
    """One socket serves both; runs leave and arrive whole; a peer is told its address as it knows it."""
    direct = Direct(addresses, bind)
    direct.relay.open_router("r")
    client: Any = direct
    publisher, viewer = Peer(client, "r", "send", tcp=tcp), Peer(client, "r", "recv", tcp=tcp)
    publisher.candidate, viewer.candidate = publishes_by, views_by
    for peer in (publisher, viewer):
        await peer.join()
        answer = await peer.check(nominate=True)
        assert answer.attributes["XOR-MAPPED-ADDRESS"] == peer.address[:2]
        assert peer.remote[0] == addresses[peer.candidate]
    direct.relay.produce(publisher.id, "cam", "video", video_parameters(), False)
    direct.relay.consume(viewer.id, "view", "cam", ortc.router_capabilities())
    direct.relay.resume_consumer("view")
    await until(lambda: len(direct.states) == 2, "both connected")

    for start in range(1, 101, 20):
        for number in range(start, start + 20):
            publisher.send_rtp(frame(number, number == 1, 1100))
        await until(lambda start=start: len(viewer.got.rtp) == start + 19, "every packet")  # type: ignore[misc]

    assert not direct.relay.counters.values["udp_gso_refused"]
    for peer in (publisher, viewer):
        await peer.close()
    await direct.relay.close()


class Both:
    """A UDP and a TCP port, as a relay has them."""

    def __init__(self) -> None:
        clock = start_clock()
        self.counters = Counters()
        self.udp = UdpPort(self.counters, clock, lambda *datagram: None, lambda now: None)
        self.tcp = TcpPort(
            self.counters, clock, self.udp.buffer, lambda *datagram: None, lambda now: None, lambda gone: None
        )

    def open(self, port: int, *protocols: Any) -> int:
        return ports.open_both(self.udp, self.tcp, "127.0.0.1", port, protocols or ("udp", "tcp"))

    def close(self) -> None:
        self.tcp.close()
        self.udp.close()


def can_take(kind: socket.SocketKind, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def test_both_protocols_get_one_number() -> None:
    both = Both()
    port = both.open(0)
    assert not can_take(socket.SOCK_DGRAM, port)
    assert not can_take(socket.SOCK_STREAM, port)
    both.close()
    assert both.open(port) == port, "a replaced worker gets it again"
    both.close()


@pytest.mark.parametrize(("protocol", "free"), [("udp", socket.SOCK_STREAM), ("tcp", socket.SOCK_DGRAM)])
async def test_only_what_is_asked_for_is_listened_on(protocol: str, free: socket.SocketKind) -> None:
    both = Both()
    for _ in range(20):  # another program, or a connection that has ended, may have the same number there
        if taken := can_take(free, both.open(0, protocol)):
            break
        both.close()
    assert taken
    both.close()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
async def test_a_number_half_taken_is_refused_and_the_other_half_let_go(kind: socket.SocketKind) -> None:
    both = Both()
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            both.open(port)
    assert both.open(port) == port
    both.close()


async def test_a_free_number_is_looked_for_until_both_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Both()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        taken = other.getsockname()[1]
        real, tried = both.tcp.open, []

        def open_tcp(bind: str, port: int) -> int:
            tried.append(port)
            return real(bind, taken if len(tried) == 1 else port)

        monkeypatch.setattr(both.tcp, "open", open_tcp)
        assert both.open(0) != taken
    assert len(tried) >= 2
    assert set(tried) == {0}
    both.close()


async def test_a_kernel_that_knows_no_gro(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option is refused for real: packets are read one by one."""
    monkeypatch.setattr(udp, "UDP_GRO", 9_999)
    direct = Direct()
    direct.relay.open_router("r")
    assert direct.relay.counters.values["udp_gro_refused"] == 1
    client: Any = direct
    peer = Peer(client, "r", "send")
    await peer.join()
    await peer.close()
    await direct.relay.close()


def test_a_worker_takes_the_descriptors_it_may_have() -> None:
    code = (
        "import resource; from media.aio import ports;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 100)); ports.allow_descriptors();"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["100", "100"]
