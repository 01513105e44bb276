"""SIGTERM with a consult running: it goes on, its people are told, the next signal forces; SIGHUP renews workers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import socketio
from server_hub import Browser, quiet_port
from server_seed import fill

from media.aio.scheduling import standing
from media.core.precedence import Policy, behind, in_front
from server.app import open_database
from server.exits import Exit
from server.settings import load_settings

pytestmark = pytest.mark.timeout(300)
WAIT_S = 100.0
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("CONSILIUM_")}


@dataclass
class Running:
    """A server as a process, and a doctor in a consult of it."""

    process: asyncio.subprocess.Process
    browser: Browser
    sio: socketio.AsyncClient
    metrics: str
    signals: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    async def logged(self, text: str) -> None:
        await self.until(lambda: any(text in line for line in self.log))

    async def until(self, condition: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_S
        while not condition():
            assert loop.time() < deadline, "".join(self.log)[-4000:]
            await asyncio.sleep(0.02)

    async def told(self, name: str) -> list[str]:
        """The metrics, once this one is among them."""
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while True:
                async with session.get(self.metrics) as answer:
                    lines = (await answer.text()).splitlines()
                if any(line.startswith(name) for line in lines):
                    return lines
                await asyncio.sleep(0.05)

    async def ok(self, **command: Any) -> dict[str, Any]:
        ack = await self.sio.call("command", command, timeout=60)
        assert ack["ok"], ack
        return dict(ack["result"])


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    port, metrics_port = quiet_port(), quiet_port()
    database = await open_database(load_settings({}, data_dir=tmp_path, port=port))
    await fill(database)
    await database.close()
    chosen = {"MEDIA_PORT": "0", "MEDIA_WORKERS": "1", "MEDIA_ADDRESSES": "127.0.0.1", "DRAIN_S": "600"}
    chosen["METRICS_PORT"] = str(metrics_port)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", "serve", "--port", str(port), "--data-dir", str(tmp_path),
        stderr=subprocess.PIPE, env=CLEAN | {f"CONSILIUM_{name}": value for name, value in chosen.items()},
        start_new_session=True,
    )  # fmt: skip
    sio = socketio.AsyncClient(serializer="msgpack", reconnection=False)
    server = Running(process, Browser(f"http://127.0.0.1:{port}"), sio, f"http://127.0.0.1:{metrics_port}/metrics")
    sio.on("signal", server.signals.append)

    async def follow() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            server.log.append(line.decode())

    following = asyncio.create_task(follow())
    try:
        await server.logged("ready")
        await server.until(lambda: process.returncode is not None or "origin=" in "".join(server.log))
        await server.browser.sign_in("d1@hub")
        _, issued = await server.browser.post("/api/consults/c1/token")
        await sio.connect(
            server.browser.origin, auth={"token": issued["token"], "protocol": 1}, transports=["websocket"],
            wait_timeout=60,
        )  # fmt: skip
        await server.ok(type="join")
        yield server
    finally:
        await sio.disconnect()
        await server.browser.http.close()
        if process.returncode is None:
            process.kill()
        await process.wait()
        await following


async def test_a_running_consult_goes_on_after_sigterm_until_it_ends(running: Running) -> None:
    """[SE14]"""
    running.process.send_signal(signal.SIGTERM)
    await running.until(lambda: any(s.get("stops_at_ms") for s in running.signals))
    assert running.process.returncode is None
    async with running.browser.http.get("/readyz") as ready:
        assert ready.status == 503, "a balancer sends nobody here any more"
    assert (await running.ok(type="create_transport", direction="send"))["ice_candidates"], "media too go on"
    await running.ok(type="leave")
    async with asyncio.timeout(WAIT_S):
        assert await running.process.wait() == Exit.OK
    assert "Traceback" not in "".join(running.log)


async def test_a_second_signal_ends_the_wait_with_a_goodbye(running: Running) -> None:
    """[SE9]"""
    running.process.send_signal(signal.SIGTERM)
    await running.until(lambda: any(s.get("stops_at_ms") for s in running.signals))
    assert not any(s["type"] == "goodbye" for s in running.signals)
    running.process.send_signal(signal.SIGTERM)
    await running.until(lambda: any(s["type"] == "goodbye" for s in running.signals))
    async with asyncio.timeout(WAIT_S):
        assert await running.process.wait() == Exit.OK


async def test_sighup_replaces_a_worker_once_its_consults_have_ended(running: Running) -> None:
    running.process.send_signal(signal.SIGHUP)
    await running.logged("replaced as they run empty")
    await running.ok(type="create_transport", direction="send")
    assert "media workers replaced" not in "".join(running.log)
    await running.ok(type="leave")
    await running.logged("media workers replaced")
    assert "ERROR" not in "".join(running.log)

    # Also a worker that comes later goes before the server's threads, of which one starts workers and stays as it was.
    usual, pid = standing(), running.process.pid
    wanted = behind(replace(usual, session_nice=0))
    threads = [standing(int(thread.name)) for thread in Path(f"/proc/{pid}/task").iterdir()]
    assert sorted((thread.policy, thread.nice) for thread in threads) == sorted(
        [(wanted.policy, wanted.nice)] * (len(threads) - 1) + [(usual.policy, usual.nice)]
    )
    worker = standing(int(re.findall(r"media worker ready.* pid=(\d+)", "".join(running.log))[-1]))
    in_turn = in_front(usual) if usual.turn_us else usual
    assert (worker.policy, worker.nice, worker.turn_us) == (in_turn.policy, in_turn.nice, in_turn.turn_us)
    session = Path(f"/proc/{pid}/autogroup")  # not every kernel shares out between sessions
    assert not session.exists() or session.read_text().split()[-1] == str(wanted.session_nice)
    told = await running.told("consilium_media_worker_turn_seconds{")
    assert f'consilium_media_worker_turn_seconds{{worker="0"}} {in_turn.turn_us / 1e6}' in told
    assert f"consilium_media_first {float(wanted.policy is Policy.BATCH)}" in told
