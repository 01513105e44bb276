"""What the model needs of single parts of the server, measured alone in a process: the event chain and foreign hints.

``python -m load_tests.model_process chain DATABASE_URL``: links a second that one writer appends to the event chain,
each in a transaction of its own; the chain's head is locked from the first statement to the commit, so that no number
of writers appends faster than this. ``... hints REDIS_URL``: CPU of a node for each hint it hears. One JSON line each.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from typing import Final

from server.app import check_schema
from server.storage import audit
from server.storage.database import Database
from signaling.aio.redis_bus import RedisBus
from signaling.core.ids import ConsultId

LINKS: Final = 600
WARM: Final = 50
HINTS: Final = 20_000
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
    """A node's bus and nothing else; redis-benchmark publishes."""
    bus, heard = RedisBus(url), 0
    everything = asyncio.Event()

    async def listen(_consult: ConsultId, _revision: int) -> None:
        nonlocal heard
        heard += 1
        if heard + bus.lost_hints >= HINTS:
            everything.set()

    bus.listen(listen)
    await bus.start()
    try:
        binary = shutil.which("redis-benchmark")
        if binary is None:
            return {}
        began = time.process_time()
        arguments = ["-u", url, "-n", str(HINTS), "-c", "1", "-q", "PUBLISH", CHANNEL, "5 load-elsewhere"]
        process = await asyncio.create_subprocess_exec(binary, *arguments, stdout=subprocess.DEVNULL)
        async with asyncio.timeout(WAIT_S):
            await process.wait()
            await everything.wait()
        return {"hint_us": (time.process_time() - began) * 1e6 / max(1, heard + bus.lost_hints), "heard": float(heard)}
    finally:
        await bus.stop()


if __name__ == "__main__":
    print(json.dumps(asyncio.run({"chain": chain, "hints": hints}[sys.argv[1]](sys.argv[2]))))
