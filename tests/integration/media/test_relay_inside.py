"""What needs a hand on the clock or the socket: the relay in this process, real sockets and real peers around it."""

import asyncio
import socket
from typing import Any

import msgpack

from media.aio.clock import start_clock
from media.aio.counters import Counters
from media.aio.udp import OUTBOX_BYTES, UdpPort
from media.core import rtcp
from media.core.control import WaveformSource
from media.core.twcc import ArrivalRecorder
from tests.integration.media.inside import Blocking, Direct, frame, pair
from tests.integration.media.peer import Peer, until, video_parameters, vp8
from tests.integration.media.test_data import frames

SO_NO_CHECK = 11
NEVER_SEEN = {"role": "client", "fingerprints": [{"algorithm": "sha-256", "value": ":".join(["AB"] * 32)}]}


async def test_consent_by_the_table_of_times(direct: Direct) -> None:
    """ARCHITECTURE section 8: no check for 7 s is unstable, a check recovers, 30 s closes and frees everything."""
    publisher, viewer = await pair(direct)
    with direct.stopped():
        for peer in (publisher, viewer):
            await peer.check(nominate=True)
        direct.notes.clear()

        direct.pass_time(6.9)
        assert direct.states == []
        direct.pass_time(0.2)
        assert direct.states == [(publisher.id, "unstable"), (viewer.id, "unstable")]
        await publisher.check(nominate=True)
        direct.pass_time(0)
        assert direct.states[-1] == (publisher.id, "connected")
        direct.pass_time(6.8)
        direct.pass_time(18)
        assert direct.states[-1] == (viewer.id, "closed")

    assert direct.relay.stats()["consumers_now"] == 0
    assert direct.relay.stats()["producers_now"] == 1
    for peer in (publisher, viewer):
        await peer.close()


async def test_feedback_of_what_was_never_sent_is_counted(direct: Direct) -> None:
    """In the worker's counters, at the latest when its Transport is gone."""
    publisher, viewer = await pair(direct)
    arrivals = ArrivalRecorder()
    for number in range(700, 703):
        arrivals.record(number, number * 1000)
    for packet in arrivals.build(1, 2):
        viewer.send_rtcp(packet)
    await until(lambda: direct.relay.counters.values["transport_cc_received"], "the feedback")
    direct.relay.close_transport(viewer.id)
    assert direct.relay.counters.values["feedback_of_unknown"] == 3
    for peer in (publisher, viewer):
        await peer.close()


async def test_a_transport_nobody_uses_does_not_end(direct: Direct) -> None:
    direct.relay.create_transport("r", "idle", "someone", "recv")
    direct.pass_time(3_600)
    assert direct.relay.stats()["transports_now"] == 1


async def test_what_was_connected_and_never_checked_ends_with_its_producers(direct: Direct) -> None:
    """A publisher whose signalling passes the firewall and whose media do not."""
    with direct.stopped():
        direct.relay.create_transport("r", "walled", "someone", "send")
        direct.relay.connect_transport("walled", NEVER_SEEN)
        direct.relay.produce("walled", "cam", "video", video_parameters(), False)

        direct.pass_time(29)
        assert direct.states == []
        direct.pass_time(1.5)

    assert direct.states == [("walled", "closed")]
    assert [note.producer for note in direct.notes if note.event == "producer_closed"] == ["cam"]
    assert direct.relay.stats()["transports_now"] == 0


async def test_an_address_changes_hands_only_when_its_peer_is_silent(direct: Direct) -> None:
    """A check that claims another peer's address is not believed while that peer is heard; later it is."""
    publisher, viewer = await pair(direct)
    home, publisher._socket = publisher._socket, viewer._socket
    publisher.send_raw(bytes(publisher.check_message(True)))
    await until(lambda: direct.relay.counters.values["stun_address_held"] == 1, "the refusal")
    direct.skipped_us += 8_000_000
    publisher.send_raw(bytes(publisher.check_message(True)))
    await until(lambda: direct.relay.counters.values["ice_moves"] == 2, "the change")

    assert direct.relay.stats()["transports_connected_now"] == 2
    publisher.send_rtp(frame(1, True))
    await until(lambda: direct.relay.counters.values["rtp_received"] == 1, "media of the new owner")
    publisher._socket = home
    for peer in (publisher, viewer):
        await peer.close()


async def test_a_source_that_cannot_be_asked_keeps_nobody_awake(direct: Direct) -> None:
    """A hole is asked for on ``ctl`` [WF18]; who does not listen there is not waited for fifty times a second."""
    client: Any = direct
    source, ears = Peer(client, "r", "send", owner="device"), Peer(client, "r", "recv", owner="device")
    for peer in (source, ears):
        await peer.join()
    unreliable = {"streamId": 0, "ordered": False, "maxRetransmits": 0}
    direct.relay.produce_data(source.id, "lead", "ecg", "", unreliable, WaveformSource(stream_id=7, simulated=True))
    up = await source.channel(unreliable, "ecg")
    await until(lambda: up.is_open, "the channel")
    messages, data = frames(stream_id=7, count=12), direct.relay._routers["r"].data
    for message in (messages[0], messages[5]):
        up.send(message)
    await until(lambda: data.hub.counters["frames"] == 2, "frames with a hole")
    assert data.hub.awaits_source(7)
    assert not data.backlogged

    direct.relay.consume_data(ears.id, "answers", "ctl")
    told = await ears.channel({"streamId": 0, "ordered": True}, "ctl")
    await until(lambda: told.is_open, "its ears")
    direct.relay.resume_data_consumer("answers")
    up.send(messages[6])
    await until(lambda: ears.got.messages, "the question")
    assert msgpack.unpackb(ears.got.messages[0]) == {"t": "nack", "stream": 7, "first": 1, "last": 3}
    assert data.backlogged
    for peer in (source, ears):
        await peer.close()


async def test_a_full_outbox_skips_to_the_next_key_frame(direct: Direct) -> None:
    """What cannot be sent is dropped whole; the viewer goes on at a key frame that is asked for, without a hole."""
    publisher, viewer = await pair(direct)
    publisher.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "the first packet")
    udp: Any = direct.relay._udp
    blocked = udp._socket = Blocking(udp._socket)
    udp._direct = -1  # C would not meet what stands in for the socket
    udp._queue.__self__._outbox_bytes = OUTBOX_BYTES  # as after megabytes of packets that did not leave
    blocked.full = True
    publisher.send_rtp(frame(2, False))
    await until(lambda: direct.relay.counters.values["consumers_skipped_to_keyframe"] == 1, "the skip")
    blocked.full = False
    udp._outbox_bytes = 0

    publisher.send_rtp(frame(3, False))
    await until(lambda: publisher.got.of(rtcp.Pli), "a PLI")
    publisher.send_rtp(frame(4, True))
    await until(lambda: len(viewer.got.rtp) == 2, "the key frame")

    first, second = viewer.got.rtp
    assert second.payload == vp8(True, 2)  # pictures are counted as the viewer has seen them
    assert (second.seq - first.seq) & 0xFFFF == 1
    for peer in (publisher, viewer):
        await peer.close()


class Sink:
    """A UDP port and what it heard."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.counters = Counters()
        self.port = UdpPort(self.counters, start_clock(), self._take, lambda now: None)
        self.address = ("127.0.0.1", self.port.open("127.0.0.1", 0))

    def _take(self, offset: int, size: int, address: Any, now_us: int) -> None:
        self.heard.append(bytes(self.port.buffer.view[offset : offset + size]))


async def test_a_run_leaves_and_arrives_as_single_datagrams() -> None:
    """UDP_SEGMENT out, UDP_GRO in: the receiver sees the same datagrams either way."""
    sender, sink = Sink(), Sink()
    run = b"".join(bytes((n,)) * 100 for n in range(7)) + b"tail"

    assert sender.port.send_run(memoryview(run), 100, sink.address)
    await until(lambda: len(sink.heard) == 8, "eight datagrams")

    assert sink.heard == [bytes((n,)) * 100 for n in range(7)] + [b"tail"]
    sender.port.close()
    sink.port.close()


async def test_without_gso_the_same_datagrams_arrive() -> None:
    """The kernel refuses UDP_SEGMENT on a socket without checksums: fall back for good, lose nothing."""
    sender, sink = Sink(), Sink()
    assert sender.port._socket is not None
    sender.port._socket.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)

    for _ in range(2):
        assert sender.port.send_run(memoryview(bytes(250)), 100, sink.address)
    await until(lambda: len(sink.heard) == 6, "six datagrams")

    assert [len(datagram) for datagram in sink.heard] == [100, 100, 50] * 2
    assert sender.counters.values["udp_gso_refused"] == 1
    sender.port.close()
    sink.port.close()


async def test_what_waits_leaves_in_order_when_there_is_room() -> None:
    sender, sink = Sink(), Sink()
    port: Any = sender.port
    blocked = port._socket = Blocking(port._socket)
    blocked.full = True
    assert all(sender.port.send(bytes((n,)), sink.address) for n in range(20))
    assert sink.heard == []
    blocked.full = False
    await until(lambda: len(sink.heard) == 20, "what waited")

    assert sink.heard == [bytes((n,)) for n in range(20)]
    sender.port.close()
    sink.port.close()


async def test_a_port_that_closed_sends_nothing() -> None:
    sink = Sink()
    sink.port.close()
    sink.port.close()
    assert not sink.port.send(b"x", sink.address)
    await asyncio.sleep(0)
