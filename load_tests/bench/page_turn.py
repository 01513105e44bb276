"""How long a page turn takes to be at every follower, beside the same message in a bare python-socketio room.

One lead turns pages in a consult of a whole server process (`page_process`), with its check of the role, the commit
into the store with its row of the audit chain, and its fan-out; followers are python-socketio clients with msgpack,
spread over processes. A turn's value is the time from the lead's emit until the last follower's handler has it: a page
that one of a hundred does not see yet is not turned. Clocks are one machine's monotonic clock. The alternative is
measured in the same run, by the same clients, with the same payload, in turns with ours.

The clients cost more than either server. So the run says what share of a core the busiest client process took while
pages were turned and how late its loop woke up; above the limits below the figure is not valid. With as many clients
on so few cores the value is an upper bound of what the server needs; ``server_cpu_ms`` is what it took of a core.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import socketio

from load_tests.rig.demo_process import free_port
from load_tests.rig.drive import process_cpu_s
from load_tests.rig.figures import Scalar, emit, note, percentile

TURNS, WARM, EVERY_S = 80, 10, 0.2
FOLLOWERS = (10, 100)
PROCESSES = 4
ROUNDS = 2
BUSY_SHARE = 0.5
"""Of a core, in the busiest client process."""
LATE_MS = 20.0
"""p99 of how late a client process's loop woke up while nothing was for it to do but that."""
WAIT_S = 60.0
CONSULT, PATIENT = "c1", "p1"


@dataclass
class Seen:
    """What one round at one server gave."""

    last_ms: list[float] = field(default_factory=list)
    """Per turn: until the last follower had it."""
    each_ms: list[float] = field(default_factory=list)
    """Per turn and follower."""
    missing: int = 0
    busiest: float = 0.0
    late_ms: float = 0.0
    server_cpu_ms: float = 0.0
    """Of a core, per turn."""


def run() -> None:
    """The suite."""
    asyncio.run(_measure())


async def _measure() -> None:
    with tempfile.TemporaryDirectory() as place, _servers(Path(place)) as (ours, bare):
        for followers in FOLLOWERS:
            seen: dict[str, list[Seen]] = {"ours": [], "bare": []}
            for number in range(ROUNDS):
                for name, server in (("ours", ours), ("bare", bare)):
                    note(f"  {followers} followers, {name}, round {number + 1} of {ROUNDS}")
                    seen[name].append(await _round(server, name, followers))
            _report(followers, seen)


def _report(followers: int, seen: dict[str, list[Seen]]) -> None:
    def all_of(name: str, what: str) -> list[float]:
        return [value for one in seen[name] for value in getattr(one, what)]

    both = [*seen["ours"], *seen["bare"]]
    busiest, late_ms = max(one.busiest for one in both), max(one.late_ms for one in both)
    missing = sum(one.missing for one in both)
    params: dict[str, Scalar] = {
        "followers": followers, "turns": len(all_of("ours", "last_ms")), "client_processes": PROCESSES,
        "missing": missing, "busiest_client_core": round(busiest, 3), "client_late_ms_p99": round(late_ms, 2),
        "server_cpu_ms": round(sum(one.server_cpu_ms for one in seen["ours"]) / ROUNDS, 3),
        "bare_cpu_ms": round(sum(one.server_cpu_ms for one in seen["bare"]) / ROUNDS, 3),
        "valid": missing == 0 and busiest <= BUSY_SHARE and late_ms <= LATE_MS, "cores": os.cpu_count() or 0,
    }  # fmt: skip
    for percent in (50, 99):
        own, other = (percentile(all_of(name, "last_ms"), percent) for name in ("ours", "bare"))
        one = {"each_follower_ms": round(percentile(all_of("ours", "each_ms"), percent), 3)}
        emit(f"page_turn_ms_p{percent}", own, "ms", {**params, **one}, {"bare_socketio_room_ms": other})


# ---------------------------------------------------------------- one round


async def _round(server: Server, name: str, followers: int) -> Seen:
    tokens = server.tokens(followers + 1) if name == "ours" else [""] * (followers + 1)
    lead = await _connect(server.url, tokens[0], lambda _: None)
    crews = [Crew(server.url, tokens[1 + at :: PROCESSES]) for at in range(min(PROCESSES, followers))]
    try:
        for crew in crews:
            await crew.hears("ready")
        turn = await _turner(lead, name)
        for number in range(WARM):
            await turn(f"warm{number}")
        for crew in crews:
            await crew.ask("begin")
        cpu_s, sent = process_cpu_s(server.process.pid), {}
        for number in range(TURNS):
            began = time.monotonic()
            sent[str(number)] = began
            await turn(str(number))
            await asyncio.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))
        cpu_ms = (process_cpu_s(server.process.pid) - cpu_s) * 1000
        return _seen(sent, [await crew.ask("report") for crew in crews], followers, cpu_ms)
    finally:
        for crew in crews:
            crew.end()
        await lead.disconnect()


def _seen(sent: dict[str, float], reports: list[Any], followers: int, cpu_ms: float) -> Seen:
    seen = Seen(server_cpu_ms=cpu_ms / TURNS)
    for item, began in sent.items():
        at = [moment for report in reports for moment in report["arrived"].get(item, [])]
        seen.missing += followers - len(at)
        seen.each_ms += [(moment - began) * 1000 for moment in at]
        if at:
            seen.last_ms.append((max(at) - began) * 1000)
    seen.busiest = max(report["core"] for report in reports)
    seen.late_ms = max(report["late_ms"] for report in reports)
    return seen


async def _turner(lead: socketio.AsyncClient, name: str) -> Any:
    if name == "bare":
        payload = {"type": "page_turned", "revision": 1, "at_ms": 1763760000000, "by": "p_0123456789abcdef"}

        async def emit_to_room(item: str) -> None:
            await lead.call("turn", {**payload, "view": {"page": "labs", "item": item}}, timeout=WAIT_S)

        return emit_to_room
    await _command(lead, {"type": "open_context", "patient": PATIENT})
    joined = await _command(lead, {"type": "sync", "since": 2**52})
    version = joined["snapshot"]["context_version"]
    await _command(lead, {"type": "take_lead"})

    async def turn_page(item: str) -> None:
        await _command(lead, {"type": "turn_page", "context_version": version, "view": {"page": "labs", "item": item}})

    return turn_page


async def _command(client: socketio.AsyncClient, command: dict[str, Any]) -> Any:
    answer = await client.call("command", command, timeout=WAIT_S)
    if not answer["ok"]:
        raise RuntimeError(f"{command['type']} was refused: {answer['refusal']['code']}")
    return answer["result"]


async def _connect(url: str, token: str, turned: Any) -> socketio.AsyncClient:
    client = socketio.AsyncClient(serializer="msgpack", reconnection=False)

    async def event(payload: dict[str, Any]) -> None:
        if payload["type"] == "page_turned":
            turned(payload["view"]["item"])

    client.on("event", event)
    auth = {"token": token, "protocol": 1} if token else None
    await client.connect(url, auth=auth, transports=["websocket"], headers={"Origin": url}, wait_timeout=WAIT_S)
    if token:
        await _command(client, {"type": "join"})
    return client


# ---------------------------------------------------------------- followers, in processes of their own


class Crew:
    """Some of the followers, in one process."""

    def __init__(self, url: str, tokens: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "load_tests.bench.page_turn"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._say(json.dumps({"url": url, "tokens": tokens}))

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    async def hears(self, what: str) -> Any:
        """The next thing it says."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = await asyncio.to_thread(self._process.stdout.readline)
        said = json.loads(line or "{}")
        if what not in said:
            raise RuntimeError(f"the followers' process said no {what}")
        return said[what]

    async def ask(self, what: str) -> Any:
        """Order and answer."""
        self._say(what)
        return await self.hears(what)

    def end(self) -> None:
        """Close its sockets."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        _ended(self._process)


async def _follow() -> None:
    """A crew's own process: connect, note when what arrives, answer."""
    loop = asyncio.get_running_loop()
    order = json.loads(sys.stdin.readline())
    arrived: dict[str, list[float]] = {}
    clients = [
        await _connect(order["url"], token, lambda item: arrived.setdefault(item, []).append(time.monotonic()))
        for token in order["tokens"]
    ]
    late_ms: list[float] = []
    watching = asyncio.create_task(_watch(late_ms))
    print(json.dumps({"ready": True}), flush=True)
    began = cpu_s = 0.0
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if line == "begin":
            arrived.clear()
            late_ms.clear()
            began, cpu_s = time.monotonic(), time.process_time()
            print(json.dumps({"begin": True}), flush=True)
        else:
            core = (time.process_time() - cpu_s) / (time.monotonic() - began)
            told = {"arrived": arrived, "core": core, "late_ms": percentile(late_ms or [0.0], 99)}
            print(json.dumps({"report": told}), flush=True)
    watching.cancel()
    await asyncio.gather(*(client.disconnect() for client in clients), watching, return_exceptions=True)


async def _watch(late_ms: list[float]) -> None:
    while True:
        due = time.monotonic() + 0.05
        await asyncio.sleep(0.05)
        late_ms.append((time.monotonic() - due) * 1000)


# ---------------------------------------------------------------- servers


@dataclass
class Server:
    """A running one."""

    process: subprocess.Popen[str]
    url: str

    def tokens(self, count: int) -> list[str]:
        """For the lead first."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        tokens: list[str] = json.loads(self.process.stdout.readline())
        return tokens


@contextlib.contextmanager
def _servers(place: Path) -> Iterator[tuple[Server, Server]]:
    people = max(FOLLOWERS) + 1
    with (
        _server(place, "ours", str(place / "data"), str(free_port()), str(people)) as ours,
        _server(place, "bare", str(free_port())) as bare,
    ):
        yield ours, bare


@contextlib.contextmanager
def _server(place: Path, *arguments: str) -> Iterator[Server]:
    """Started, and ended with its standard input."""
    environment = os.environ | {"CONSILIUM_MEDIA_ADDRESSES": "127.0.0.1"}
    with (place / f"{arguments[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "load_tests.bench.page_process", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError((place / f"{arguments[0]}.log").read_text()[-4000:])
            yield Server(process, json.loads(line)["url"])
        finally:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            _ended(process)


def _ended(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    asyncio.run(_follow())
