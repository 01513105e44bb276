"""A server that is to restart: running consults go on, others do not begin, everyone is told. [SE14]"""

from __future__ import annotations

import asyncio

from signaling_hub import Hub, MakeClient

from signaling.core.model import Role
from tests.signaling_kit import until

STOPS_AT_MS = 1_700_000_600_000


def draining(hub: Hub) -> asyncio.Task[None]:
    return asyncio.create_task(hub.gateway.drain(STOPS_AT_MS))


async def test_everyone_is_told_at_once_and_in_every_beat(hub: Hub, make_client: MakeClient) -> None:
    a, b = await make_client(hub, "a"), await make_client(hub, "b", Role.SCREEN)
    drain = draining(hub)
    for client in (a, b):
        await until(lambda client=client: [s for s in client.signals if s.get("stops_at_ms") == STOPS_AT_MS])  # type: ignore[misc]
    assert not drain.done()
    drain.cancel()


async def test_a_running_consult_may_be_joined_until_its_last_person_leaves(hub: Hub, make_client: MakeClient) -> None:
    """A wall display that stays keeps no server running."""
    a = await make_client(hub, "a")
    await make_client(hub, "wall", Role.SCREEN)
    drain = draining(hub)
    b = await make_client(hub, "b")
    await a.ok(type="leave")
    assert hub.gateway.running == 1
    assert not drain.done()
    await b.ok(type="leave")
    async with asyncio.timeout(60):
        await drain


async def test_no_consult_begins(hub: Hub, make_client: MakeClient) -> None:
    drain = draining(hub)
    async with asyncio.timeout(60):
        await drain
    a = await make_client(hub, "a", join=False)
    ack = await a.command(type="join")
    assert ack["refusal"]["code"] == "too_busy"
    assert "about to restart" in ack["refusal"]["en"]
    assert "重启" in ack["refusal"]["zh"]
    await make_client(hub, "wall", Role.SCREEN)
