"""Which way media is sent on, and what fills a line besides media."""

from typing import Any

import pytest

from media.aio import fanout, forward
from media.core import ortc
from media.core.congestion.pacer import Pacer
from media.core.router import Flow, Packet
from tests.integration.media.inside import Direct, frame, pair
from tests.integration.media.peer import until, vp8

WIDE_ID = ortc.EXTENSION_IDS[ortc.TRANSPORT_CC_URI]


@pytest.fixture
async def direct() -> Any:
    made = Direct()
    made.relay.open_router("r")
    yield made
    await made.relay.close()


async def test_padding_is_numbered_with_the_media_and_repeats_it_first(direct: Direct) -> None:
    """A probe sends recent packets again, then padding; all take the leg's transport-wide numbers in turn."""
    publisher, viewer = await pair(direct)
    for number in range(1, 4):
        publisher.send_rtp(frame(number, number == 1))
        await until(lambda number=number: len(viewer.got.rtp) == number, "the picture")  # type: ignore[misc]
    consumer = direct.relay._consumers["view"]

    left_bytes = direct.relay._forwarder.send_padding(consumer, 2_000, 7, direct.relay._clock())
    assert left_bytes >= 2_000
    await until(lambda: len(viewer.got.rtp) >= 3 + 3 + 2, "repairs and padding")

    added = viewer.got.rtp[3:]
    assert {packet.ssrc for packet in added} == {consumer.rtx_ssrc}
    assert [packet.payload[2:] for packet in added[:3]] == [packet.payload for packet in viewer.got.rtp[2::-1]]
    numbers = [int.from_bytes(packet.extensions[WIDE_ID], "big") for packet in viewer.got.rtp]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    for peer in (publisher, viewer):
        await peer.close()


async def test_a_viewer_whose_packets_wait_is_not_probed(direct: Direct) -> None:
    publisher, viewer = await pair(direct)
    publisher.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "the picture")
    consumer = direct.relay._consumers["view"]
    consumer.held = True

    assert direct.relay._forwarder.send_padding(consumer, 2_000, 7, direct.relay._clock()) == 0
    for peer in (publisher, viewer):
        await peer.close()


async def test_a_burst_in_parts_that_is_too_much_for_a_line_uses_no_number_twice(
    direct: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[RW2] What waits is dropped in the first part: the second must not be numbered as if it had been sent."""
    publisher, viewer = await pair(direct)
    publisher.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "the picture")
    relay, consumer = direct.relay, direct.relay._consumers["view"]
    lane = consumer.lane
    assert lane is not None
    assert lane.source is not None
    monkeypatch.setattr(forward, "MAX_ROWS", 64)
    consumer.leg.pacer = Pacer(500_000, relay._clock())
    first = lane.source.highest + 1
    burst = [Packet(first + i, 90_000, 0, [], i.to_bytes(2, "big") * 500) for i in range(64 + 20)]
    lane.burst = list(burst)
    for lost in relay._forwarder.flush(lane, consumer.producer.payload_type, relay._clock()):
        relay._steering.lost(lost, relay._clock())
    assert consumer.flow is Flow.WAITING, "too much waited"

    publisher.send_rtp(frame(1000, True))
    await until(lambda: viewer.got.rtp[-1].payload[4:] == vp8(True, 1000)[4:], "the next key frame")
    await until(lambda: not relay._forwarder._pacing.holds, "what waited to leave")
    for number in range(1001, 1101):
        publisher.send_rtp(frame(number, False))
    await until(lambda: len(viewer.got.raw) >= 100, "what follows")
    # On the wire, before the viewer's own replay check hides it.
    numbers = [(datagram[8:12], datagram[2:4]) for datagram in viewer.got.raw if not 192 <= datagram[1] <= 223]
    assert len(set(numbers)) == len(numbers)
    for peer in (publisher, viewer):
        await peer.close()


def test_the_path_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown names and a C function that is asked for but was not built are refused; auto goes on in Python."""
    monkeypatch.delenv(fanout.VARIABLE, raising=False)
    assert fanout.asked_path() == "auto"
    monkeypatch.setenv(fanout.VARIABLE, "fast")
    with pytest.raises(fanout.ForwardUnavailable, match="auto, c or python, not fast"):
        fanout.asked_path()

    def missing(name: str) -> None:
        raise ImportError(name)

    assert fanout.load("python") is None
    monkeypatch.setattr(fanout.importlib, "import_module", missing)
    assert fanout.load("auto") is None
    assert fanout.describe("auto").startswith("pure Python: the C function was not built")
    with pytest.raises(fanout.ForwardUnavailable, match="not built"):
        fanout.load("c")


async def test_statistics_name_the_path(direct: Direct) -> None:
    assert direct.relay.stats()["forward_path_c"] == int(fanout.load("auto") is not None)
