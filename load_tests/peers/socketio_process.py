"""A bare python-socketio server on aiohttp that does what ``node_peer/server.mjs`` does; alone in a process.

It lets in by token, puts each socket into its token's room, and sends what one member says to all of the room, with an
acknowledgement to who said it. Nothing is kept. Its address is a line of JSON; it ends with its standard input.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import sys
import time
from collections import Counter
from typing import Any

import socketio
from aiohttp import web
from socketio.exceptions import ConnectionRefusedError as SocketRefused

KEY_VARIABLE = "SIGNALLING_PEER_KEY"


def seal(key: bytes, room: str, member: str) -> str:
    """The token of a member."""
    named = f"{room}:{member}"
    return f"{named}:{hmac.new(key, named.encode(), hashlib.sha256).hexdigest()}"


def admitted(key: bytes, token: object) -> tuple[str, str] | None:
    """Room and member of a token; None when it is not ours."""
    room, _, rest = str(token).partition(":")
    member, _, _ = rest.partition(":")
    return (room, member) if hmac.compare_digest(seal(key, room, member).encode(), str(token).encode()) else None


async def serve(key: bytes) -> None:
    """Until standard input ends."""
    hub = socketio.AsyncServer(
        async_mode="aiohttp", serializer="msgpack", transports=["websocket"], ping_interval=5, ping_timeout=5
    )
    people: dict[str, tuple[str, str]] = {}
    revisions: Counter[str] = Counter()

    async def connect(sid: str, _environ: Any, auth: Any = None) -> None:
        who = admitted(key, (auth or {}).get("token"))
        if who is None:
            raise SocketRefused("token_invalid")
        people[sid] = who
        await hub.enter_room(sid, who[0])

    async def command(sid: str, asked: dict[str, Any]) -> dict[str, Any]:
        room, member = people[sid]
        if asked["type"] == "turn_page":
            revisions[room] += 1
            turned = {
                "type": "page_turned", "revision": revisions[room], "at_ms": int(time.time() * 1000), "by": member,
                "view": asked["view"],
            }  # fmt: skip
            await hub.emit("event", turned, room=room)
        return {"ok": True, "result": {}}

    async def disconnect(sid: str, _reason: Any = None) -> None:
        people.pop(sid, None)

    hub.on("connect", connect)
    hub.on("command", command)
    hub.on("disconnect", disconnect)
    app = web.Application()
    hub.attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}"}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(bytes.fromhex(os.environ[KEY_VARIABLE])))
