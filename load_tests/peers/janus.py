"""Janus VideoRoom under the same load: Debian's package, a configuration of our own, its Unix socket API.

Two set-ups are measured: the package's default (each peer its own thread) and
``event_loops=1``, its best on one core. Everything else is as Janus comes: full ICE,
NACK buffer, RTX, transport-wide feedback to the publisher. Each subscriber is a handle
with a PeerConnection of its own.

Janus sometimes does not come up, or hangs when it is told to end: a start has a deadline
and is tried again, a process is killed at the end. It ignores loopback interfaces, so it
runs where ``namespaces`` put it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from load_tests.peers import sdp
from load_tests.rig.contenders import keep_answering, keep_reporting
from load_tests.rig.drive import process_cpu_s
from load_tests.rig.peer import LoadPeer, PeerFailed
from load_tests.rig.poller import Poller
from load_tests.rig.traffic import Publisher, Subscriber

START_TIMEOUT_S = 8.0
STARTS = 3
ANSWER_TIMEOUT_S = 10.0
ROOM = 1
MODULES = ("/usr/lib", "/usr/local/lib")


class JanusFailed(Exception):
    """Janus is not installed, did not come up, or declined something.

    Attributes:
        code: Janus's own of what it declined; 0 for the rest.
    """

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


def modules_folder() -> Path:
    """Where the package keeps its plugins.

    Raises:
        JanusFailed: it is not installed.
    """
    if shutil.which("janus") is not None:
        for root in MODULES:
            for found in Path(root).glob("**/janus/plugins/libjanus_videoroom.so"):
                return found.parent.parent
    raise JanusFailed("janus is not installed")


def write_configuration(folder: Path, event_loops: int | None) -> None:
    """Only the VideoRoom and the Unix socket, nothing from outside the folder."""
    modules = modules_folder()
    for kind, library in (("plugins", "libjanus_videoroom.so"), ("transports", "libjanus_pfunix.so")):
        (folder / kind).mkdir()
        (folder / kind / library).symlink_to(modules / kind / library)
    for empty in ("events", "loggers"):
        (folder / empty).mkdir()
    loops = f"  event_loops = {event_loops}\n" if event_loops else ""
    folders = "".join(
        f'  {kind}_folder = "{folder}/{kind}"\n' for kind in ("plugins", "transports", "events", "loggers")
    )
    (folder / "janus.jcfg").write_text(
        f'general: {{\n  configs_folder = "{folder}"\n{folders}  debug_level = 2\n  session_timeout = 0\n{loops}}}\n'
        "nat: {\n}\nmedia: {\n}\n"
    )
    (folder / "janus.plugin.videoroom.jcfg").write_text("general: {\n}\n")
    (folder / "janus.transport.pfunix.jcfg").write_text(
        f'general: {{\n  enabled = true\n  json = "compact"\n  path = "{folder}/api"\n  type = "SOCK_SEQPACKET"\n}}\n'
    )


class JanusApi:
    """Requests and events over the Unix socket."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = count(1)
        self._reading: asyncio.Task[None] | None = None
        self._session: int | None = None

    async def open(self, path: Path) -> None:
        """Connect and make a session.

        Raises:
            OSError: nobody listens there yet.
        """
        await self._loop.sock_connect(self._socket, str(path))
        self._reading = asyncio.create_task(self._read())
        self._session = (await self.request({"janus": "create"}))["data"]["id"]

    async def close(self) -> None:
        """Drop the connection; idempotent."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        self._socket.close()

    async def attach(self) -> int:
        """A new handle on the VideoRoom."""
        made = await self.request({"janus": "attach", "plugin": "janus.plugin.videoroom"})
        handle: int = made["data"]["id"]
        return handle

    async def message(
        self, handle: int, body: dict[str, Any], jsep: dict[str, str] | None = None
    ) -> tuple[dict[str, Any], str]:
        """Say something to the plugin; its data and its SDP, if it answers with one."""
        said: dict[str, Any] = {"janus": "message", "handle_id": handle, "body": body}
        if jsep is not None:
            said["jsep"] = jsep
        reply = await self.request(said)
        data = reply["plugindata"]["data"]
        if "error" in data:
            raise JanusFailed(f"{data.get('error_code')}: {data['error']}", data.get("error_code", 0))
        return data, reply.get("jsep", {}).get("sdp", "")

    async def request(self, said: dict[str, Any]) -> dict[str, Any]:
        """One request; its final answer (an ``ack`` only says that one will come).

        Raises:
            JanusFailed: refused, or no answer in time.
        """
        transaction = str(next(self._numbers))
        said = {**said, "transaction": transaction}
        if self._session is not None:
            said["session_id"] = self._session
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._waiting[transaction] = answer
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._loop.sock_sendall(self._socket, json.dumps(said).encode())
                reply = await answer
        except TimeoutError:
            raise JanusFailed(f"no answer to {said['janus']}") from None
        finally:
            del self._waiting[transaction]
        if reply["janus"] == "error":
            raise JanusFailed(f"{reply['error']['code']}: {reply['error']['reason']}", reply["error"]["code"])
        return reply

    async def _read(self) -> None:
        while data := await self._loop.sock_recv(self._socket, 1 << 18):
            reply = json.loads(data)
            answer = self._waiting.get(reply.get("transaction", ""))
            if answer is not None and not answer.done() and reply["janus"] != "ack":
                answer.set_result(reply)


class Janus:
    """A Janus process with one room."""

    def __init__(self, poller: Poller, name: str, event_loops: int | None) -> None:
        self.name = name
        self.publisher: Publisher
        self.viewers: list[Subscriber] = []
        self._poller = poller
        self._event_loops = event_loops
        self._bind = ""
        self._api: JanusApi
        self._process: asyncio.subprocess.Process | None = None
        self._peers: list[LoadPeer] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def open(self, bind: str, launch: Sequence[str]) -> None:
        """Start it, make the room and the publisher.

        Raises:
            JanusFailed: not installed, or it did not come up ``STARTS`` times.
        """
        self._bind = bind
        for _ in range(STARTS):
            if await self._start(launch):
                break
            await self._kill()
        else:
            raise JanusFailed("janus did not come up")
        await self._publish()

    async def _start(self, launch: Sequence[str]) -> bool:
        """In a folder of its own: what a start that failed has left behind must not stop the next."""
        self._folder = tempfile.TemporaryDirectory(prefix="consilium-janus-")
        folder = Path(self._folder.name)
        write_configuration(folder, self._event_loops)
        with (folder / "log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *launch,
                *("janus", "--configs-folder", str(folder), "--config", str(folder / "janus.jcfg")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        with contextlib.suppress(TimeoutError, JanusFailed):
            async with asyncio.timeout(START_TIMEOUT_S):
                while self._process.returncode is None:
                    api = JanusApi()
                    try:
                        await api.open(folder / "api")
                    except OSError:
                        await api.close()
                        await asyncio.sleep(0.1)
                    except BaseException:
                        await api.close()
                        raise
                    else:
                        self._api = api
                        return True
        return False

    async def _publish(self) -> None:
        handle = await self._api.attach()
        room = {"request": "create", "room": ROOM, "publishers": 2, "audiocodec": "opus", "videocodec": "vp8"}
        await self._api.message(handle, room)
        await self._api.message(handle, {"request": "join", "ptype": "publisher", "room": ROOM, "id": 1})
        peer = self._peer()
        said = {"type": "offer", "sdp": sdp.offer(peer, "sendonly")}
        _, answered = await self._api.message(handle, {"request": "publish"}, said)
        relay = sdp.parse(answered)
        await peer.connect(relay.remote, dtls_role="server" if relay.setup == "active" else "client")
        self.publisher = Publisher(peer)
        keep_reporting(self._poller, self.publisher)

    async def add_viewers(self, count: int) -> None:
        """Connect more subscribers until there are ``count``."""
        while len(self.viewers) < count:
            handle = await self._api.attach()
            join = {"request": "join", "ptype": "subscriber", "room": ROOM, "streams": [{"feed": 1}]}
            _, offered = await self._api.message(handle, join)
            relay = sdp.parse(offered)
            peer = self._peer()
            said = {"type": "answer", "sdp": sdp.answer(peer, relay)}
            await self._api.message(handle, {"request": "start"}, said)
            # Who offers is the controlling side: Janus nominates.
            await peer.connect(relay.remote, controlling=False)
            viewer = Subscriber(peer, relay.kinds, relay.twcc_id)
            peer.sink = viewer.sink
            self.viewers.append(viewer)
            keep_answering(self._poller, viewer)

    def _peer(self) -> LoadPeer:
        peer = LoadPeer(self._poller, self._bind)
        self._peers.append(peer)
        return peer

    def cpu_s(self) -> float:
        """CPU time of the process so far, all its threads."""
        assert self._process is not None
        return process_cpu_s(self._process.pid)

    async def close(self) -> None:
        """Say goodbye to the peers and kill it: asked to end it may hang. Idempotent."""
        for peer in self._peers:
            with contextlib.suppress(PeerFailed):
                await peer.close()
        self._peers.clear()
        if self._process is not None and hasattr(self, "_api"):
            await self._api.close()
        await self._kill()

    async def _kill(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
