"""One hub of two server processes on a real redis: a gateway at one of them, its hospital asked at the other."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from lock_kit import (
    Answerer,
    Hub,
    Inbound,
    Running,
    add_known_patient,
    fill_hub,
    new_gateway_folder,
    quiet_port,
    result,
    running,
    until,
    wall_us,
)
from redis.asyncio import Redis

from server.gateway.config import Folder
from server.gateway.inside import Inside
from server.gateway.link import Timing

OBSERVATION = {"resourceType": "Observation", "id": "k1", "status": "final", "code": {"text": "Potassium"}}
TEXT = "Potassium"


@pytest.fixture
def redis_url() -> Iterator[str]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (Debian package redis-server)")
    port = quiet_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"redis://127.0.0.1:{port}/0"
    process.kill()
    process.wait()


@pytest.fixture
def first(tmp_path: Path, redis_url: str) -> Iterator[Hub]:
    """The hub's first process: forked, before this one has an event loop; ended by its id."""
    hub = Hub(data_dir=fill_hub(tmp_path / "hub"), port=quiet_port(), redis_url=redis_url)
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(_serve(hub))
        finally:
            os._exit(1)
    yield hub
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


async def _serve(hub: Hub) -> None:
    await _redis_is_up(hub.redis_url)
    await hub.start()
    await asyncio.Event().wait()


async def _redis_is_up(url: str) -> None:
    client = Redis.from_url(url)

    async def is_up() -> bool:
        try:
            return bool(await client.ping())
        except OSError:
            return False
        except Exception as problem:
            if type(problem).__name__ == "ConnectionError":
                return False
            raise

    await until(is_up)
    await client.aclose()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def _second(first: Hub) -> AsyncIterator[Hub]:
    await until(lambda: _listens(first.port))
    hub = Hub(data_dir=first.data_dir, port=quiet_port(), redis_url=first.redis_url)
    await hub.start()
    await add_known_patient(hub)
    yield hub
    await hub.stop()


def _at(folder: Folder, former: Hub, other: Hub) -> None:
    folder.identity.write_text(folder.identity.read_text().replace(former.origin, other.origin))


def test_a_gateway_at_one_process_is_the_hubs_gateway_everywhere(first: Hub, tmp_path: Path) -> None:
    """[LK17] [LK19] [LK20] [LK22] Asked, cancelled, sent to, defended against its clone, and revoked from the other."""
    asyncio.run(_everywhere(first, tmp_path))


async def _everywhere(first: Hub, tmp_path: Path) -> None:
    inside, inlet = Answerer(resources=(OBSERVATION,)), Inbound()
    async with _second(first) as second:
        folder = await new_gateway_folder(second, tmp_path / "g")
        _at(folder, second, first)
        assert second.lock is not None
        desk = second.lock.desk
        async with running(folder, Inside(inlets=(inlet,), responder=inside)) as one:
            await one.connected()
            gateway = one.gateway.identity.gateway
            await until(lambda: desk.connected(gateway))
            assert desk.here() == {}, "it is the other process that has the connection"
            heard = await _spied(first.redis_url, lambda: _asks(second, inside))
            assert heard
            assert not any(TEXT.encode() in data for data in heard), "redis carries nothing that can be read"
            await second.send(gateway, replace(result(7), kind="MDM^T02", key="in-1"))
            await one.until(lambda: inlet.taken)
            await _clone_is_refused(one, folder, first, second, tmp_path)
            async with second.admin() as admin:
                assert (await admin.send("DELETE", f"/api/gateways/{gateway}"))[0] == 204
            await one.until(lambda: one.gateway.link.state.code == "revoked")
        await until(lambda: not desk.connected(gateway))
        assert await second.audit_is_whole()


async def _asks(second: Hub, inside: Answerer) -> None:
    """An answer, a refusal, and a question that ends with its consult."""
    doctor, version = await second.doctor(), await second.open_patient()
    path = f"/api/consults/c1/lock/Observation?version={version}"
    status, bundle = await doctor.get(path)
    assert (status, bundle["entry"][0]["resource"]["code"]) == (200, {"text": TEXT})
    status, answer = await doctor.get(f"{path}&_include=x")
    assert (status, answer["error"]["code"]) == (403, "hospital_refused")
    inside.gate = asyncio.Event()
    inside.began.clear()
    slow = asyncio.create_task(doctor.get(path))
    await asyncio.wait_for(inside.began.wait(), 60)
    await second.open_patient(ended=True)
    assert (await slow)[1]["error"]["code"] == "consult_ended"
    await asyncio.wait_for(inside.cancelled.wait(), 60)
    await doctor.http.close()


async def _spied(url: str, work: Callable[[], object]) -> list[bytes]:
    """What goes over redis meanwhile."""
    client, heard = Redis.from_url(url), list[bytes]()
    async with client.pubsub() as subscription:
        await subscription.psubscribe("*")

        async def listen() -> None:
            async for message in subscription.listen():
                if message["type"] == "pmessage":
                    heard.append(message["data"])

        listening = asyncio.create_task(listen())
        await work()  # type: ignore[misc]
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    await client.aclose()
    return heard


async def _clone_is_refused(one: Running, folder: Folder, first: Hub, second: Hub, tmp_path: Path) -> None:
    """[LK17] Also at the other process, as long as the first answers; the same program may move there."""
    shutil.copytree(folder.path, tmp_path / "clone")
    clone = Folder(tmp_path / "clone")
    _at(clone, first, second)
    async with running(clone, timing=Timing(now_us=wall_us, sleep=_long)) as other:
        await other.until(lambda: other.gateway.link.state.code == "already_connected")
        assert one.gateway.link.state.connected
    assert [event["code"] for event in await second.events("lock_alarm")] == ["already_connected"]


async def _long(seconds: float) -> None:
    await asyncio.sleep(seconds)
