"""What breaks around a relay or is thrown at it by those it knows: bounded loss for who did it, none for others."""

import asyncio
import itertools
import random
import shutil
import socket
import subprocess
import sys
from struct import pack
from typing import Any

import pytest

from media.aio.ingress import MAX_HEARD_SSRCS, MAX_STREAMS_PER_TRANSPORT
from media.aio.objects import RESENDS_PER_INTERVAL
from media.aio.udp import UDP_GRO
from media.core import ortc, rtcp
from media.core.keyframes import MIN_INTERVAL_MS
from tests.integration.media.inside import Direct, frame, pair
from tests.integration.media.peer import (
    VIDEO_PT,
    VIDEO_SSRC,
    Peer,
    build_rtp,
    until,
    vp8,
)

OWN_ERRORS = ("datagram_errors", "flush_errors", "tick_errors")


async def more_viewers(direct: Direct, count: int) -> list[Peer]:
    viewers = []
    for number in range(count):
        client: Any = direct
        viewer = Peer(client, "r", "recv")
        await viewer.join()
        direct.relay.consume(viewer.id, f"view{number}", "cam", ortc.router_capabilities())
        direct.relay.resume_consumer(f"view{number}")
        viewers.append(viewer)
    return viewers


async def send(direct: Direct, publisher: Peer, viewer: Peer, first: int, count: int) -> None:
    """Frames from ``first`` on, each batch seen by the viewer before the next."""
    for number in range(first, first + count):
        before = len(viewer.got.rtp)
        publisher.send_rtp(frame(number, number % 25 == first % 25))
        await until(lambda before=before: len(viewer.got.rtp) > before, f"frame {number}")  # type: ignore[misc]


def unbroken(viewer: Peer) -> bool:
    """No hole in a viewer's numbers."""
    seqs = [packet.seq for packet in viewer.got.rtp]
    return all((b - a) & 0xFFFF == 1 for a, b in itertools.pairwise(seqs))


def own_errors(direct: Direct) -> dict[str, int]:
    return {name: count for name, count in direct.relay.stats().items() if name in OWN_ERRORS and count}


async def close(*peers: Peer) -> None:
    for peer in peers:
        await peer.close()


async def test_clock_steps(direct: Direct) -> None:
    """The relay's clock jumps ahead by what consent bears, back, and far ahead: pictures go on, or end by the rule."""
    publisher, viewer = await pair(direct)
    await send(direct, publisher, viewer, 1, 5)
    for number, step_s in enumerate((6.0, -4.0, 5.0, -6.0), 1):
        direct.pass_time(step_s)
        for peer in (publisher, viewer):
            await peer.check(nominate=True)
        await send(direct, publisher, viewer, number * 10, 5)
    assert own_errors(direct) == {}
    reports = len(viewer.got.of(rtcp.SenderReport))
    direct.pass_time(6.0)
    await until(lambda: len(viewer.got.of(rtcp.SenderReport)) > reports, "reports go on")
    direct.pass_time(31.0)
    await until(lambda: {state for _, state in direct.states[-2:]} == {"closed"}, "no consent for so long ends it")
    await close(publisher, viewer)


async def test_no_datagram_for_25_seconds_and_back(direct: Direct) -> None:
    """Total loss shorter than consent: nothing is closed, the picture goes on where it stood."""
    publisher, viewer = await pair(direct)
    await send(direct, publisher, viewer, 1, 5)
    with direct.stopped():
        for peer in (publisher, viewer):
            await peer.check(nominate=True)
        for _ in range(5):
            direct.pass_time(5.0)
        assert {state for _, state in direct.states[-2:]} == {"unstable"}
        for peer in (publisher, viewer):
            await peer.check(nominate=True)
    await send(direct, publisher, viewer, 6, 5)
    assert unbroken(viewer)
    direct.pass_time(0.0)
    assert {state for _, state in direct.states[-2:]} == {"connected"}
    assert own_errors(direct) == {}
    await close(publisher, viewer)


def _garbage(rng: random.Random, number: int) -> bytes:
    """Well-sealed nonsense of one publisher: never its own stream's next packet."""
    kind = number % 6
    if kind == 0:  # payload of noise on an SSRC nobody announced
        return build_rtp(VIDEO_PT, rng.randrange(65_536), 0, rng.randrange(1 << 32), rng.randbytes(300))
    if kind == 1:  # another payload type, CSRCs that are not there
        return pack("!BBHII", 0x8F, rng.randrange(64), number & 0xFFFF, 0, 0xBAD) + rng.randbytes(20)
    if kind == 2:  # extension blocks of any profile and length
        head = pack("!BBHII", 0x90, VIDEO_PT, number & 0xFFFF, 0, 0xBAD)
        return head + pack("!HH", rng.choice((0xBEDE, 0x1000, 0x100F, 0x1234)), rng.randrange(80)) + rng.randbytes(200)
    if kind == 3:  # padding longer than the packet
        return pack("!BBHII", 0xA0, VIDEO_PT, number & 0xFFFF, 0, 0xBAD) + b"x" + bytes((rng.randrange(2, 256),))
    if kind == 4:  # mid and rid of somebody else, in a stream of its own
        return build_rtp(
            VIDEO_PT, number & 0xFFFF, 0, rng.randrange(1 << 32), rng.randbytes(40), extensions={4: b"9", 10: b"r7"}
        )
    return build_rtp(VIDEO_PT, rng.randrange(65_536), rng.randrange(1 << 32), 0xBAD, b"")


async def test_a_publisher_that_sends_garbage_in_valid_srtp(direct: Direct) -> None:
    """3000 packets of it between his own frames: his picture and another's stay whole, tables stay bounded."""
    publisher, viewer = await pair(direct)
    rng = random.Random(7)
    sealing_refused = 0
    for number in range(1, 101):
        for index in range(30):
            try:
                publisher.send_rtp(_garbage(rng, number * 30 + index))
            except Exception:  # a packet so broken that it cannot even be sealed
                sealing_refused += 1
        await send(direct, publisher, viewer, number, 1)
    assert sealing_refused < 1_500
    assert own_errors(direct) == {}
    assert unbroken(viewer)
    transport = direct.relay._transports[publisher.id]
    assert len(transport.heard) <= MAX_HEARD_SSRCS
    assert len(transport.streams) <= MAX_STREAMS_PER_TRANSPORT
    await close(publisher, viewer)


async def test_noise_as_payload_and_jumps_in_the_numbering(direct: Direct) -> None:
    """The announced stream itself goes mad: noise, a version that is none, jumps of its sequence. Then it is sane."""
    publisher, viewer = await pair(direct)
    rng = random.Random(11)
    await send(direct, publisher, viewer, 1, 3)
    seq = 100
    for number in range(1_000):
        seq = (seq + rng.choice((1, 1, 1, 2, 500, 3_000, 20_000))) & 0xFFFF
        packet = bytearray(build_rtp(VIDEO_PT, seq, number, VIDEO_SSRC, rng.randbytes(rng.randrange(1, 600))))
        publisher.send_rtp(bytes(packet))
        if number % 50 == 49:
            await publisher.check(nominate=True)
    assert own_errors(direct) == {}
    before = len(viewer.got.rtp)
    sane = (seq + 30_000) & 0xFFFF

    async def again() -> bool:
        nonlocal sane
        sane = (sane + 1) & 0xFFFF
        publisher.send_rtp(build_rtp(VIDEO_PT, sane, sane, VIDEO_SSRC, vp8(True, 77, 777)))
        await asyncio.sleep(0.01)
        return any(len(packet.payload) == 782 for packet in viewer.got.rtp[before:])

    async with asyncio.timeout(60):
        while not await again():
            pass
    assert own_errors(direct) == {}
    await close(publisher, viewer)


async def test_a_viewer_that_never_reads(direct: Direct) -> None:
    """Its socket is full: the kernel drops what is for it, the others get everything (over TCP: ``test_tcp``)."""
    publisher, viewer = await pair(direct)
    (deaf,) = await more_viewers(direct, 1)
    asyncio.get_running_loop().remove_reader(deaf._socket.fileno())
    deaf._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    await send(direct, publisher, viewer, 1, 300)
    assert len(viewer.got.rtp) == 300
    assert unbroken(viewer)
    assert direct.relay.stats().get("udp_outbox_full", 0) == 0
    assert own_errors(direct) == {}
    await close(publisher, viewer, deaf)


async def test_ten_thousand_nacks(direct: Direct) -> None:
    """Each for 17 packets: what is sent again is bounded by time, not by what is asked; the other viewer is fine."""
    publisher, viewer = await pair(direct)
    (greedy,) = await more_viewers(direct, 1)
    for number in range(1, 21):
        await send(direct, publisher, viewer, number, 1)
    await until(lambda: len(greedy.got.rtp) >= 2, "the greedy one has its picture")
    consumer = direct.relay._transports[greedy.id].consumers
    ssrc = next(iter(consumer))
    asked = [packet.seq for packet in greedy.got.rtp if packet.ssrc == ssrc][:17]
    wanted = rtcp.build_nack(1, ssrc, asked)
    began_us = direct.relay._clock()
    greedy.got.rtp.clear()
    for number in range(10_000):
        greedy.send_rtcp(wanted)
        if number % 100 == 99:
            await publisher.check(nominate=True)
        if number % 1_000 == 999:
            await send(direct, publisher, viewer, 21 + number // 1_000, 1)
    intervals = (direct.relay._clock() - began_us) / 100_000 + 2
    stats = direct.relay.stats()
    assert stats["nacks_received"] >= 100_000, "most of them were read"
    assert stats["rtx_sent"] <= RESENDS_PER_INTERVAL * intervals
    assert stats["nacks_over_budget"] > 0
    assert unbroken(viewer)
    assert own_errors(direct) == {}
    await close(publisher, viewer, greedy)


async def test_a_flood_of_plis_from_many_viewers_is_one_question(direct: Direct) -> None:
    """Twenty viewers, 200 PLIs each: the publisher hears at most one in 300 ms."""
    publisher, viewer = await pair(direct)
    viewers = [viewer, *await more_viewers(direct, 20)]
    await send(direct, publisher, viewer, 1, 1)
    began_us = direct.relay._clock()
    before = len(publisher.got.of(rtcp.Pli))
    for _ in range(200):
        for one in viewers:
            one.send_rtcp(rtcp.build_pli(1, next(iter(direct.relay._transports[one.id].consumers))))
        await publisher.check(nominate=True)
    heard = len(publisher.got.of(rtcp.Pli)) - before
    intervals = (direct.relay._clock() - began_us) / 1_000 / MIN_INTERVAL_MS
    assert direct.relay.stats()["plis_received"] >= 2_000
    assert heard <= intervals + 2
    await send(direct, publisher, viewer, 25, 3)
    assert own_errors(direct) == {}
    await close(publisher, *viewers)


async def test_a_kernel_without_gso_and_gro(direct: Direct) -> None:
    """Both forced off: the same packets arrive, a datagram a call."""
    udp: Any = direct.relay._udp
    udp._gso = udp._gro = False
    udp._socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 0)
    publisher, viewer = await pair(direct)
    for start in range(1, 101, 10):
        for number in range(start, start + 10):
            publisher.send_rtp(frame(number, number == 1))
        await until(lambda start=start: len(viewer.got.rtp) == start + 9, "every packet")  # type: ignore[misc]
    assert unbroken(viewer)
    assert own_errors(direct) == {}
    await close(publisher, viewer)


SMALL_MTU = """
import asyncio
from tests.integration.media.inside import Direct, frame, pair
from tests.integration.media.peer import until

async def main():
    direct = Direct()
    direct.relay.open_router("r")
    publisher, viewer = await pair(direct)
    for start in range(1, 61, 10):
        for number in range(start, start + 10):
            publisher.send_rtp(frame(number, number == 1, size=1_300 if number % 2 else 900))
        await until(lambda: len(viewer.got.rtp) == start + 9, "every packet")
    stats = direct.relay.stats()
    assert not stats.get("datagram_errors"), stats
    assert not stats.get("flush_errors"), stats
    await publisher.close()
    await viewer.close()
    await direct.relay.close()
    print("all arrived")

asyncio.run(main())
"""


def test_a_path_of_1280_bytes() -> None:
    """In a network namespace of its own whose loopback carries no more: packets longer than that are fragmented,
    runs of them leave one by one, and none is lost."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip")
    set_up = "ip link set lo mtu 1280 && ip link set lo up"
    command = ["unshare", "--net", "--map-root-user", "sh", "-c", f'{set_up} && exec "$0" -c "$1"', sys.executable]
    probe = subprocess.run([*command[:5], set_up], capture_output=True, text=True, timeout=60)
    if probe.returncode != 0:
        pytest.skip(f"no network namespace may be made here: {probe.stderr.strip()}")
    done = subprocess.run([*command, SMALL_MTU], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip().endswith("all arrived"), done.stderr
