"""Fan-out of signalling beside Node's socket.io server and a bare python-socketio one: same clients, one run.

The job: sockets that showed a token are in rooms; one member of each room says something, every member is told, the
one who said it has an answer. 300 sockets in rooms of 10, 30, 100 or 300, all of this process (`fan_client`); the three
servers stand side by side, each alone in a process, and are measured in turns at the same rates, rising until one
fails twice: the last of a room hears it later than ``BOUND_MS`` in one case of a hundred, somebody never, or somebody
is refused. Between the last rate that held and the first that did not, a few more are tried.

The jobs are not the same size. Ours (`bench.page_process`) is the whole server and the event is a page turn: it checks
the role, the lead and the version of the context, commits the turn to the database with its row of the audit chain
before anybody hears of it, numbers it so that who missed it can ask again, and vouches for the state with a beat every
2 s. The peers (``node_peer/server.mjs``, `socketio_process`) check the token at the handshake and forward: a peer that
dies has forgotten everything. So the ratio says what those duties cost, not that one library is better.

``server_us_per_delivery`` is CPU of the server's process over the messages that members had; it does not depend on the
clients. Rates do: where this process was what gave out (``client_limited``), a server's rate is only a lower bound.
Ours takes 50 commands a second from one session, a hundred at once: a lead who says more is ``refused``, whatever the
server could carry, and in a room of 300 there is one lead.

``--idle N``: so many sockets that only listen; memory and CPU of each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from load_tests.peers.fan_client import FanClient, FanLost
from load_tests.peers.fan_servers import Server, servers
from load_tests.rig.figures import Scalar, emit, note, percentile
from load_tests.run.limits import raise_descriptors

SOCKETS: Final = 300
SIZES: Final = (10, 30, 100, 300)
FIRST_DELIVERIES: Final = 1_500
"""A second, over all rooms: where every server is measured at the same rate."""
MOST_DELIVERIES: Final = 200_000
FINER: Final = 2
SHORTEST_S, LONGEST_S, EVENTS = 2.5, 6.0, 60
"""A window lasts until it has so many events, in these limits."""
LATEST_S: Final = 3.0
"""What has not come so long after the window never comes."""
BOUND_MS: Final = 200.0
CLIENT_CORE, CLIENT_LATE_MS = 0.85, 20.0
AT_ONCE: Final = 32
"""Connections that are being made: ours takes 64 strangers from one address."""
PROBE_S: Final = 0.02
IDLE: Final = 2_000
IDLE_WINDOW_S: Final = 10.0
PROTOCOL: Final = 1
PATIENT: Final = "p1"


class Turner(Protocol):
    """Says a page turn in one room."""

    async def __call__(self, item: str) -> None:
        """Until it is acknowledged."""


@dataclass
class Step:
    """One rate at one server."""

    rate: float
    """Events a second, over all rooms."""
    size: int
    window_s: float
    sent: int = 0
    refused: int = 0
    missing: int = 0
    last_ms: list[float] = field(default_factory=list)
    """Of each event: until the last member had it."""
    ack_ms: list[float] = field(default_factory=list)
    server_cpu_s: float = 0.0
    elapsed_s: float = 1.0
    client_core: float = 0.0
    client_late_ms: float = 0.0

    @property
    def passed(self) -> list[str]:
        """Bounds that were."""
        looked_at = {
            "unsaid": self.sent < 0.9 * self.rate * self.window_s,
            "refused": self.refused > 0,
            "missing": self.missing > 0,
            "late": percentile(self.last_ms, 99) > BOUND_MS,
        }
        return [name for name, is_passed in looked_at.items() if is_passed]

    @property
    def held(self) -> bool:
        """Everybody was told, in time."""
        return not self.passed

    @property
    def client_limited(self) -> bool:
        """This process was as full as it may be, or late itself."""
        return self.client_core > CLIENT_CORE or self.client_late_ms > CLIENT_LATE_MS

    @property
    def us_per_delivery(self) -> float:
        """CPU of the server."""
        return self.server_cpu_s * 1e6 / max(1, self.sent * self.size - self.missing)


class Audience:
    """All rooms of one server: who is in them, and what they have heard."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.rooms = self.size = 0
        self.clients: list[FanClient] = []
        self.turners: list[Turner] = []
        self.heard: dict[str, list[float]] = {}
        """By item: how many heard it, and when the last of them did."""

    async def fill(self, rooms: int, size: int) -> None:
        """Connect everybody, and make the first of each room its lead.

        Raises:
            FanLost, OSError, TimeoutError: somebody does not come in.
        """
        self.rooms, self.size = rooms, size
        gate = asyncio.Semaphore(AT_ONCE)
        for room in range(rooms):
            tokens = await asyncio.to_thread(self.server.tokens, size, room)
            members = await asyncio.gather(*(self._enter(gate, token) for token in tokens))
            self.clients += members
            self.turners.append(await _turner(members[0], ours=not self.server.key))

    async def _enter(self, gate: asyncio.Semaphore, token: str) -> FanClient:
        async with gate:
            client = await FanClient.open(self.server.url, {"token": token, "protocol": PROTOCOL}, self._told)
            await client.ask({"type": "join"})
            return client

    def _told(self, event: Mapping[str, Any], now_s: float) -> None:
        if event["type"] == "page_turned":
            seen = self.heard.get(event["view"]["item"])
            if seen is not None:
                seen[0] += 1
                seen[1] = now_s

    async def mend(self) -> None:
        """Where somebody was lost all come again: what a server carries is not measured with fewer members.

        Raises:
            FanLost, OSError, TimeoutError: somebody does not come in.
        """
        if any(client.lost for client in self.clients):
            self.close()
            self.turners.clear()
            await self.fill(self.rooms, self.size)

    async def step(self, rate: float, size: int) -> Step:
        """Say so many things a second, evenly over time and rooms."""
        window_s = min(LONGEST_S, max(SHORTEST_S, EVENTS / rate))
        step, loop = Step(rate, size, window_s), asyncio.get_running_loop()
        self.heard.clear()
        late_ms: list[float] = []
        probing = asyncio.create_task(_probe(late_ms))
        said: dict[str, float] = {}
        asking: set[asyncio.Task[None]] = set()
        server_cpu_s, cpu_s, began = self.server.cpu_s, time.process_time(), time.monotonic()
        for number in range(round(rate * window_s)):
            wait_s = began + number / rate - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            elif wait_s < -window_s / 2:
                break  # too many for this process: what was said shows it
            item = f"i{number}"
            self.heard[item], said[item] = [0, 0.0], time.monotonic()
            asking.add(loop.create_task(self._say(self.turners[number % len(self.turners)], item, step)))
        step.sent = len(said)
        deadline = time.monotonic() + LATEST_S
        # Looked at, not told of by an event: that would cost each delivery.
        while time.monotonic() < deadline and any(seen[0] < size for seen in self.heard.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        step.elapsed_s = time.monotonic() - began
        step.server_cpu_s = self.server.cpu_s - server_cpu_s
        step.client_core = (time.process_time() - cpu_s) / step.elapsed_s
        step.client_late_ms = percentile(late_ms or [0.0], 99)
        probing.cancel()
        await asyncio.gather(*asking, probing, return_exceptions=True)
        for item, (count, at_s) in self.heard.items():
            step.missing += size - int(count)
            step.last_ms.append((at_s - said[item]) * 1000 if count == size else float("inf"))
        return step

    async def _say(self, turner: Turner, item: str, step: Step) -> None:
        began = time.monotonic()
        try:
            await turner(item)
            step.ack_ms.append((time.monotonic() - began) * 1000)
        except (FanLost, TimeoutError):
            step.refused += 1

    def close(self) -> None:
        """Everybody leaves."""
        for client in self.clients:
            client.close()
        self.clients.clear()


async def _turner(client: FanClient, *, ours: bool) -> Turner:
    version = 0
    if ours:
        await client.ask({"type": "open_context", "patient": PATIENT})
        version = (await client.ask({"type": "sync", "since": 2**52}))["snapshot"]["context_version"]
        await client.ask({"type": "take_lead"})

    async def turn(item: str) -> None:
        await client.ask({"type": "turn_page", "context_version": version, "view": {"page": "labs", "item": item}})

    return turn


async def _probe(late_ms: list[float]) -> None:
    """How late this process's timers fire."""
    while True:
        due = time.monotonic() + PROBE_S
        await asyncio.sleep(PROBE_S)
        late_ms.append((time.monotonic() - due) * 1000)


# ---------------------------------------------------------------- rates


@dataclass
class Search:
    """Where one server gives out."""

    audience: Audience
    size: int
    first: Step | None = None
    """At the rate that all have in common."""
    best: Step | None = None
    """The highest rate that held."""
    failed: Step | None = None
    """The lowest that did not."""
    doubted: Step | None = None
    """Failed once: on a shared machine that may have been somebody else's doing."""
    tries_left: int = FINER

    def next_rate(self) -> float | None:
        """What to try next; None at the end."""
        if self.doubted is not None:
            return self.doubted.rate
        if self.first is None:
            return FIRST_DELIVERIES / self.size
        if self.failed is None:
            best = self.best
            assert best is not None
            return 2 * best.rate if 2 * best.rate * self.size <= MOST_DELIVERIES else None
        if self.best is None or not self.tries_left:
            return None
        self.tries_left -= 1
        return (self.best.rate + self.failed.rate) / 2

    def take(self, step: Step) -> None:
        """What was tried."""
        is_second = self.doubted is not None
        self.doubted = None if step.held or is_second else step
        if self.first is None or (is_second and self.first.rate == step.rate):
            self.first = step
        if step.held:
            if self.best is None or step.rate > self.best.rate:
                self.best = step
        elif is_second and (self.failed is None or step.rate < self.failed.rate):
            self.failed = step


async def measure_rooms(size: int, place: Path) -> None:
    """All servers with rooms of one size."""
    rooms = max(1, SOCKETS // size)
    with contextlib.ExitStack() as stack:
        audiences = []
        for server in servers(stack, place, rooms, size):
            audience = Audience(server)
            stack.callback(audience.close)
            await audience.fill(rooms, size)
            audiences.append(audience)
        searches = [Search(audience, size) for audience in audiences]
        gc.collect()
        gc.freeze()
        for audience in audiences:
            await audience.step(FIRST_DELIVERIES / size, size)  # warm
        trying = list(searches)
        while trying:
            for search in list(trying):
                rate = search.next_rate()
                if rate is None:
                    trying.remove(search)
                    continue
                await search.audience.mend()
                step = await search.audience.step(rate, size)
                search.take(step)
                note(
                    f"  rooms of {size}, {search.audience.server.name}: {rate:.0f} events/s, last member p99 "
                    f"{percentile(step.last_ms, 99):.0f} ms, {step.missing} missing, {step.refused} refused, "
                    f"{step.us_per_delivery:.1f} us a delivery, client {step.client_core:.0%} {' '.join(step.passed)}"
                )
        report(size, rooms, searches)


def report(size: int, rooms: int, searches: Sequence[Search]) -> None:
    """The figures of one size of room."""
    by_name = {search.audience.server.name: search for search in searches}
    first = {name: one.first for name, one in by_name.items() if one.first is not None and one.first.held}
    params: dict[str, Scalar] = {"room": size, "rooms": rooms, "cores": os.cpu_count() or 0}
    if "consilium" not in first:
        note(f"signalling_peers: ours did not hold {FIRST_DELIVERIES} deliveries a second in rooms of {size}")
        return
    common = {**params, "deliveries_per_s": FIRST_DELIVERIES, "events": first["consilium"].sent}
    for percent in (50, 99):
        _emit(f"fanout_last_ms_p{percent}", "ms", common, {n: percentile(s.last_ms, percent) for n, s in first.items()})
    _emit("fanout_ack_ms_p50", "ms", common, {n: percentile(s.ack_ms, 50) for n, s in first.items()})
    _emit("fanout_server_us_per_delivery", "us", common, {n: s.us_per_delivery for n, s in first.items()})
    best = {name: one.best for name, one in by_name.items() if one.best is not None}
    for name, step in best.items():
        failed = by_name[name].failed
        limited = failed is None or failed.client_limited or step.client_limited
        params[f"{name}_core"] = round(step.server_cpu_s / step.window_s, 2)
        params[f"{name}_client_limited"] = limited
        params[f"{name}_ended_by"] = " ".join(failed.passed) if failed is not None else "most"
        params[f"{name}_p99_ms"] = round(percentile(step.last_ms, 99), 1)
        params[f"{name}_us_per_delivery"] = round(step.us_per_delivery, 2)
    _emit("fanout_events_per_s", "1/s", {**params, "bound_ms": BOUND_MS}, {n: s.rate for n, s in best.items()})


def _emit(figure: str, unit: str, params: Mapping[str, Scalar], values: Mapping[str, float]) -> None:
    emit(figure, values["consilium"], unit, params, {n: round(v, 4) for n, v in values.items() if n != "consilium"})


# ---------------------------------------------------------------- idle


async def measure_idle(sockets: int, place: Path) -> None:
    """What sockets cost that only listen; the servers one after the other."""
    size = 10
    rooms = sockets // size
    memory: dict[str, float] = {}
    cpu: dict[str, float] = {}
    for name in ("consilium", "node_socketio", "python_socketio"):
        with contextlib.ExitStack() as stack:
            found = [one for one in servers(stack, place, rooms, size, only=name) if one.name == name]
            if not found:
                continue
            audience = Audience(found[0])
            stack.callback(audience.close)
            before_kb = found[0].resident_kb
            await audience.fill(rooms, size)
            await asyncio.sleep(2.0)
            memory[name] = (found[0].resident_kb - before_kb) / sockets
            cpu_s = found[0].cpu_s
            await asyncio.sleep(IDLE_WINDOW_S)
            cpu[name] = (found[0].cpu_s - cpu_s) / IDLE_WINDOW_S / sockets * 1e6
            lost = sum(bool(client.lost) for client in audience.clients)
            note(f"  {sockets} idle, {name}: {memory[name]:.1f} kB each, {cpu[name]:.1f} us/s each, {lost} lost")
    params: dict[str, Scalar] = {"sockets": sockets, "rooms_of": size, "ping_s": 5}
    if "consilium" in memory:
        _emit("socket_memory_kb", "kB", params, memory)
        _emit("socket_idle_us_per_s", "us/s", params, cpu)


def run(sizes: Sequence[int] = SIZES, idle: int = IDLE) -> None:
    """The suite."""
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as place:
        for size in sizes:
            asyncio.run(measure_rooms(size, Path(place)))
        if idle:
            raise_descriptors(idle + 256)  # before the servers start: they inherit it
            asyncio.run(measure_idle(idle, Path(place)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Signalling fan-out beside Node's socket.io and a bare python-socketio."
    )
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="members of a room, as 10,30; empty: none")
    parser.add_argument("--idle", type=int, default=IDLE, help="sockets that only listen; 0: none")
    chosen = parser.parse_args()
    run([int(word) for word in chosen.sizes.split(",") if word], chosen.idle)
