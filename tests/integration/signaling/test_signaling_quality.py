"""What a screen shows goes to the media plane; what its line is like comes back to it alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from signaling.core import messages as m
from signaling.core.ids import ConsumerId, ParticipantId, TransportId
from signaling.core.model import MediaSource, Role
from signaling.core.signals import key_of
from tests.integration.signaling.conftest import QUICK_BEATS
from tests.integration.signaling.signaling_hub import Client, Hub, MakeClient, MakeHub
from tests.signaling_kit import CONSULT, until


def view(width: int = 1280, height: int = 720, **more: Any) -> dict[str, Any]:
    return {"type": "view_consumer", "consumer": "k1", "width": width, "height": height, **more}


def layers(consumer: str = "k1", **more: Any) -> m.ConsumerLayers:
    fields = {"consumer": consumer, "spatial": -1, "temporal": 0, "spatial_layers": 3, "limited_by": "line"}
    return m.ConsumerLayers.model_validate(fields | more)


def line(transport: str = "t1") -> m.LineQuality:
    return m.LineQuality(
        transport=TransportId(transport), estimate_bps=300_000, round_trip_ms=42.5, lost=0.1, protocol="tcp"
    )


async def test_a_view_goes_to_the_media_plane_and_leaves_no_trace(hub: Hub, make_client: MakeClient) -> None:
    """[ME12] Nobody hears of it, nothing is stored."""
    a, b = await make_client(hub, "a"), await make_client(hub, "b", Role.SCREEN)
    before, heard = await hub.state(), len(a.events)

    assert await b.ok(**view(rank="main")) == {}
    assert await b.ok(**view(0, 0)) == {}

    first, second = hub.media.calls[-2:]
    assert first == m.ViewConsumer(consumer=ConsumerId("k1"), width=1280, height=720, rank="main")
    assert second == m.ViewConsumer(consumer=ConsumerId("k1"), width=0, height=0, rank="tile")
    assert await hub.state() == before
    assert len(a.events) == heard


@pytest.mark.parametrize("wrong", [{"width": -1}, {"height": 16_385}, {"width": 1.5}, {"rank": "first"}, {"fps": 5}])
async def test_a_view_that_makes_no_sense_is_malformed(
    hub: Hub, make_client: MakeClient, wrong: dict[str, Any]
) -> None:
    """[ME12] [SE2]"""
    a = await make_client(hub, "a")
    calls = len(hub.media.calls)
    assert await a.refusal(**(view() | wrong)) == "malformed"
    assert len(hub.media.calls) == calls


async def test_a_device_has_nothing_to_look_at(hub: Hub, make_client: MakeClient) -> None:
    """[ME12] Whoever may consume may view."""
    monitor = await make_client(hub, "monitor", Role.DEVICE)
    assert await monitor.refusal(**view()) == "not_allowed"


async def test_views_are_rationed_per_participant(make_hub: MakeHub, make_client: MakeClient) -> None:
    """[ME12] One page that resizes for ever costs the worker a bounded number of calls, and nobody else a view."""
    hub = await make_hub(service=replace(QUICK_BEATS, views_hz=0.001, views_burst=3))
    a, b = await make_client(hub, "a"), await make_client(hub, "b")
    for _ in range(3):
        await a.ok(**view())
    assert await a.refusal(**view()) == "too_busy"
    await b.ok(**view())
    assert sum(call.type == "view_consumer" for call in hub.media.calls) == 4


async def test_news_of_a_line_reach_one_participant_and_no_store(hub: Hub, make_client: MakeClient) -> None:
    """[ME13] [ME14]"""
    a, b = await make_client(hub, "a"), await make_client(hub, "b")
    before = await hub.state()

    await hub.service.news.line_news(CONSULT, ParticipantId("b"), layers())
    await hub.service.news.line_news(CONSULT, ParticipantId("b"), line())
    await hub.service.news.line_news(CONSULT, ParticipantId("nobody"), line())

    await until(lambda: {"consumer_layers", "line_quality"} <= types(b))
    told = next(s for s in b.signals if s["type"] == "consumer_layers")
    assert told == layers().model_dump(mode="json")
    assert next(s for s in b.signals if s["type"] == "line_quality")["round_trip_ms"] == 42.5
    await until(lambda: "beat" in types(a))
    assert not types(a) & {"consumer_layers", "line_quality"}
    assert await hub.state() == before


def types(client: Client) -> set[str]:
    return {signal["type"] for signal in client.signals}


def test_news_of_the_same_thing_replace_each_other_and_no_others() -> None:
    """[ME14] What waits for a slow reader is bounded by what it consumes."""
    assert key_of(layers("k1", spatial=2)) == key_of(layers("k1"))
    assert key_of(line("t1")) == key_of(line("t1"))
    assert len({key_of(news) for news in (layers("k1"), layers("k2"), line("t1"), line("t2"))}) == 4


async def test_the_source_says_what_gives_way(hub: Hub, make_client: MakeClient) -> None:
    """[ME15] The command that reaches the media plane still says what it shows."""
    a = await make_client(hub, "a")
    made = await a.ok(type="create_transport", direction="send")
    produced = {"type": "produce", "transport": made["id"], "kind": "video", "rtp_parameters": {}, "source": "screen"}
    await a.ok(**produced)
    asked = hub.media.calls[-1]
    assert isinstance(asked, m.Produce)
    assert asked.source is MediaSource.SCREEN


async def test_a_transport_names_the_servers_to_fall_back_to(hub: Hub, make_client: MakeClient) -> None:
    """[ME16] None by default; the field is always there."""
    a = await make_client(hub, "a")
    assert (await a.ok(type="create_transport", direction="recv"))["ice_servers"] == []
