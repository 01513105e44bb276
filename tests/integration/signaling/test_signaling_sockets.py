"""What a socket costs, and when it is given up."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from types import FrameType
from typing import Any

import aiohttp
from signaling_elsewhere import MakeService, join
from signaling_hub import Hub, MakeClient, MakeHub, MakeRaw, Raw

from signaling.aio.gateway import GatewaySettings
from signaling.aio.memory import MemoryStore
from signaling.aio.service import ServiceSettings
from signaling.core.model import Connection
from tests.signaling_kit import admission, consult, until

STILL = GatewaySettings(ping_interval_s=600, ping_timeout_s=600, lag_look_s=600)
"""Nothing happens by itself."""


class Steps:
    """Instructions that the interpreter carries out in code of ours: time would tell the machine's mood, calls would
    not tell a walk."""

    def __init__(self) -> None:
        self.count = 0

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "call":
            if "/signaling/" not in frame.f_code.co_filename or "/tests/" in frame.f_code.co_filename:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            self.count += 1
        return self._trace

    def __enter__(self) -> Steps:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)


async def test_a_join_costs_the_same_whoever_else_is_connected(
    make_hub: MakeHub, make_client: MakeClient, make_raw: MakeRaw
) -> None:
    hub = await make_hub(gateway=STILL, service=ServiceSettings(beat_s=600))
    counted: list[int] = []
    for others in (10, 90):
        while hub.gateway.sessions < others:
            await make_raw(hub, f"other{hub.gateway.sessions}")
        gc.collect()
        with Steps() as steps:
            newcomer = await make_client(hub, f"new{others}")
        counted.append(steps.count)
        await newcomer.sio.disconnect()
        await until(lambda others=others: hub.gateway.sessions == others)  # type: ignore[misc]
    few, many = counted
    assert few > 1_000, "what a join does was seen"
    assert many <= few + 80, (few, many)


async def test_a_socket_costs_no_task_beyond_those_of_its_connection(make_hub: MakeHub, make_raw: MakeRaw) -> None:
    """Two are the HTTP server's: its connection and the request that became a socket."""
    hub = await make_hub(gateway=STILL, service=ServiceSettings(beat_s=600))
    here = asyncio.all_tasks()
    raws = [await make_raw(hub, f"p{number}") for number in range(5)]
    readers = {raw._reader for raw in raws}

    def more() -> int:
        return len(asyncio.all_tasks() - here - readers)

    await until(lambda: more() <= 2 * len(raws))


async def test_a_socket_that_answers_stays_and_one_that_does_not_is_lost(
    make_hub: MakeHub, make_client: MakeClient, make_raw: MakeRaw
) -> None:
    """[SE3] The line stands, so nothing but the missing answer tells."""
    hub = await make_hub(gateway=GatewaySettings(ping_interval_s=0.2, ping_timeout_s=2.0))
    watcher = await make_client(hub, "watcher")
    mute = await make_raw(hub, None)
    async with aiohttp.ClientSession() as http:
        dead = await http.ws_connect(f"{hub.url}/socket.io/?EIO=4&transport=websocket")
        await _join_unread(hub, mute, dead)
        event = await watcher.heard("connection_changed")
        assert (event["participant"], event["connection"]) == ("dead", "reconnecting")
        await dead.close()
    await until(lambda: hub.gateway.sessions == 1)
    assert not watcher.disconnected.is_set()


async def test_a_connection_that_ends_leaves_nothing_behind(make_hub: MakeHub, make_raw: MakeRaw) -> None:
    hub = await make_hub(gateway=STILL)
    raws = [await make_raw(hub, f"p{number}") for number in range(4)]
    raws[0].ws._response.close()  # cut
    await raws[1].close()
    await raws[2].ws.send_str("1")  # the engine's goodbye
    await raws[3].packet(1)  # Socket.IO's
    await until(lambda: not hub.gateway._connections and not hub.gateway._sio.eio.sockets)
    assert not hub.gateway._open
    assert not hub.gateway._sio.environ


class Slow(MemoryStore):
    """Commits when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may, self.commits = asyncio.Event(), 0
        self.may.set()

    async def commit(self, *arguments: Any) -> None:
        await self.may.wait()
        self.commits += 1
        await super().commit(*arguments)


async def test_who_is_lost_in_the_same_moment_shares_a_commit(make_service: MakeService) -> None:
    """[SE3] After a cut; whoever is back before its loss was stored stays, and is lost again when it is lost again."""

    store = Slow()
    service = await make_service(store, sole_node=True, beat_s=600)
    watcher = await join(service, "watcher")
    lost = [await join(service, f"p{number}") for number in range(20)]
    store.may.clear()
    before = store.commits
    losing = [asyncio.create_task(service.detach(peer)) for peer in lost]
    await asyncio.sleep(0)  # each has begun
    back = asyncio.create_task(join(service, "p19"))
    store.may.set()
    await asyncio.gather(*losing)
    again = await back
    assert store.commits - before == 3, "the first alone, all others together, and who came back"

    def connections() -> Counter[Connection]:
        return Counter(one.connection for one in watcher.present().participants.values())

    assert connections() == {Connection.CONNECTED: 2, Connection.RECONNECTING: 19}
    await service.detach(again)
    assert connections() == {Connection.CONNECTED: 1, Connection.RECONNECTING: 20}
    state = await store.load(consult().id)
    assert state is not None
    assert state.participants == watcher.present().participants


async def test_whose_grace_time_ends_in_the_same_moment_share_a_commit(make_service: MakeService) -> None:
    """[SE4] Thousands at once would keep everybody's beats waiting; who comes back meanwhile stays."""
    store = Slow()
    service = await make_service(store, sole_node=True, beat_s=600, grace_s=0.5)
    watcher = await join(service, "watcher")
    lost = [await join(service, f"p{number}") for number in range(20)]
    await asyncio.gather(*(service.detach(peer) for peer in lost))
    store.may.clear()
    before = store.commits
    audience = service._here.audiences[consult().id]
    await until(lambda: len(audience.overdue) == 20)
    back = asyncio.create_task(join(service, "p19"))
    store.may.set()
    await back
    await until(lambda: not audience.removing)
    assert set(watcher.present().participants) == {"watcher", "p19"}
    assert store.commits - before <= 4, (
        "the first, all others, and who came back, as one that was away or as a newcomer"
    )
    state = await store.load(consult().id)
    assert state is not None
    assert state.participants == watcher.present().participants


async def _join_unread(hub: Hub, other: Raw, dead: aiohttp.ClientWebSocketResponse) -> None:
    """Join on a socket that is then left alone; ``other`` is a stranger that answers."""
    await dead.receive(timeout=60)
    packets = Raw(dead)
    await packets.packet(0, {"token": hub.token(admission("dead")), "protocol": 1})
    await packets.answer(0)
    await packets.packet(2, ["command", {"type": "join"}], 1)
    assert (await packets.ack(1))["ok"]
    packets._reader.cancel()
    assert not other.closed.is_set()
