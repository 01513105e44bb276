"""What the model needs of single parts of the server, measured alone in a process: event chain, hints, live ring.

``python -m load_tests.modelling.process chain DATABASE_URL``: links a second that processes append to the event chain,
each with so many writers as share one of the product's commits; the chain's head is locked from the first link of a
commit to its end, so that more processes than one wait for each other. ``... hints REDIS_URL``: CPU of a node for each
hint it hears, and of redis for each that is published and delivered. ``... ring REDIS_URL``: of redis for a waveform's
frame. One JSON line each. ``... links DATABASE_URL`` is one of those processes.
"""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
import time
from typing import Any, Final

from redis.asyncio import Redis

from media.core.waveform import Place
from server.app import check_schema
from server.storage import audit
from server.storage.at_once import BATCH
from server.storage.database import Database
from server.waveforms.redis_ring import RedisRing
from server.waveforms.ring import MAX_FRAMES
from signaling.aio.redis_bus import RedisBus
from signaling.core.ids import ConsultId

LINKS_S: Final = 8.0
WARM: Final = 640
PROCESSES: Final = (1, 2, 4)
HINTS: Final = 10_000
NODES: Final = 9
FRAMES: Final = 6_000
SOURCES: Final = 10
FRAME_BYTES: Final = 700
"""Of twelve leads at 500 Hz, a tenth of a second, as coded."""
CHANNEL: Final = "consilium:hints"
WAIT_S: Final = 60.0


async def chain(url: str) -> dict[str, float]:
    """Links a second of one process, of two, of four, and the most of these."""
    found = {f"links_per_s_of_{count}": await _chained(url, count) for count in PROCESSES}
    return {**found, "links_per_s": max(found.values())}


async def _chained(url: str, count: int) -> float:
    """So many processes at a time."""
    running: list[asyncio.subprocess.Process] = []
    try:
        for _ in range(count):
            command = [sys.executable, "-m", "load_tests.modelling.process", "links", url]
            running.append(
                await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*(_line(one) for one in running))  # all are warm
            for one in running:
                assert one.stdin is not None
                one.stdin.close()
            told = await asyncio.gather(*(_line(one) for one in running))
            return float(sum(json.loads(line)["links_per_s"] for line in told))
    finally:
        for one in running:
            if one.returncode is None:
                one.kill()
            await one.wait()


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError("a writer of the chain ended early")
    return line


async def links(url: str) -> dict[str, float]:
    """One process: says when it is warm, appends for `LINKS_S` from the end of its standard input on."""
    database = Database(url)
    appended = 0
    until_s = float("inf")

    async def write() -> None:
        nonlocal appended
        while time.perf_counter() < until_s:
            entry = audit.Entry(kind="load", at_ms=appended, actor="load", consult_id=None, body={"number": appended})
            await database.at_once.write(functools.partial(audit.append_at_once, entries=[entry]))
            appended += 1

    try:
        await check_schema(database)
        writers = [asyncio.create_task(write()) for _ in range(BATCH)]
        while appended < WARM:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        print("warm", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        before, began = appended, time.perf_counter()
        await asyncio.sleep(LINKS_S)
        figures = {"links_per_s": (appended - before) / (time.perf_counter() - began)}
        until_s = 0.0
        await asyncio.gather(*writers)
        return figures
    finally:
        await database.close()


async def hints(url: str) -> dict[str, float]:
    """A node's bus and nothing else while redis-benchmark publishes; redis's CPU with one node and with nine."""
    one, node_us = await _published(url, 1)
    many, _ = await _published(url, NODES)
    delivery = max(0.0, (many - one) / (NODES - 1))
    return {"hint_us": node_us, "publish_us": max(0.0, one - delivery), "delivery_us": delivery}


async def _published(url: str, nodes: int) -> tuple[float, float]:
    """CPU of redis, and of this process for each node, in us a hint."""
    heard = 0
    everything = asyncio.Event()

    async def listen(_consult: ConsultId, _revision: int) -> None:
        nonlocal heard
        heard += 1
        if heard >= HINTS * nodes:
            everything.set()

    buses = [RedisBus(url, limit=HINTS) for _ in range(nodes)]
    client = Redis.from_url(url)
    for bus in buses:
        bus.listen(listen)
        await bus.start()
    try:
        before, began = await _cpu_s(client), time.process_time()
        arguments = ["-u", url, "-n", str(HINTS), "-c", "1", "-q", "PUBLISH", CHANNEL, "5 load-elsewhere"]
        process = await asyncio.create_subprocess_exec("redis-benchmark", *arguments, stdout=subprocess.DEVNULL)
        async with asyncio.timeout(WAIT_S):
            await process.wait()
            await everything.wait()
        mine = (time.process_time() - began) * 1e6 / (HINTS * nodes)
        return (await _cpu_s(client) - before) * 1e6 / HINTS, mine
    finally:
        for bus in buses:
            await bus.stop()
        await client.aclose()


async def ring(url: str) -> dict[str, float]:
    """Frames of ten ECGs into the ring of live waveforms: CPU and memory of redis for each."""
    client, live = Redis.from_url(url), RedisRing(url)
    try:
        memory = int((await client.info("memory"))["used_memory"])
        before = await _cpu_s(client)
        for number in range(FRAMES // SOURCES):
            for source in range(SOURCES):
                await live.append(f"load-{source}", [(Place(1, number), bytes(FRAME_BYTES))], number)
        taken = await _cpu_s(client) - before
        grown = int((await client.info("memory"))["used_memory"]) - memory
        return {"frame_us": taken * 1e6 / FRAMES, "frame_bytes": grown / FRAMES, "frames_kept": float(MAX_FRAMES)}
    finally:
        await live.close()
        await client.aclose()


async def _cpu_s(client: Any) -> float:
    used = await client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


PARTS: Final = {"chain": chain, "links": links, "hints": hints, "ring": ring}

if __name__ == "__main__":
    print(json.dumps(asyncio.run(PARTS[sys.argv[1]](sys.argv[2]))))
