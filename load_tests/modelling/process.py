"""What the model needs of single parts of the server, measured alone in a process: event chain, hints, live ring.

``python -m load_tests.modelling.process chain DATABASE_URL``: links a second that one writer appends to the event
chain, each in a transaction of its own; the chain's head is locked from the first statement to the commit, so that no
number of writers appends faster than this. ``... hints REDIS_URL``: CPU of a node for each hint it hears, and of
redis for each that is published and delivered. ``... ring REDIS_URL``: of redis for a waveform's frame. One JSON line
each.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any, Final

from redis.asyncio import Redis

from media.core.waveform import Place
from server.app import check_schema
from server.storage import audit
from server.storage.database import Database
from server.waveforms.redis_ring import RedisRing
from server.waveforms.ring import MAX_FRAMES
from signaling.aio.redis_bus import RedisBus
from signaling.core.ids import ConsultId

LINKS: Final = 600
WARM: Final = 50
HINTS: Final = 10_000
NODES: Final = 9
FRAMES: Final = 6_000
SOURCES: Final = 10
FRAME_BYTES: Final = 700
"""Of twelve leads at 500 Hz, a tenth of a second, as coded."""
CHANNEL: Final = "consilium:hints"
WAIT_S: Final = 60.0


async def chain(url: str) -> dict[str, float]:
    """One writer."""
    database = Database(url)
    try:
        await check_schema(database)
        began = 0.0
        for number in range(WARM + LINKS):
            if number == WARM:
                began = time.perf_counter()
            entry = audit.Entry(kind="load", at_ms=number, actor="load", consult_id=None, body={"number": number})
            async with database.write() as session:
                await audit.append(session, [entry])
        return {"links_per_s": LINKS / (time.perf_counter() - began)}
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


PARTS: Final = {"chain": chain, "hints": hints, "ring": ring}

if __name__ == "__main__":
    print(json.dumps(asyncio.run(PARTS[sys.argv[1]](sys.argv[2]))))
