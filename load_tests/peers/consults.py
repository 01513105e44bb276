"""Our media worker beside Janus VideoRoom with a consult's own cameras and viewers, in one run.

The room is a consult's: three cameras (720p simulcast in three layers, Opus) and nine watchers who take all three at
their largest. Senders and receivers are those of the scenarios (`load_tests.session.swift`): true sizes and pacing,
a browser's feedback, latency from what packets end with to the kernel's arrival stamp. Towards our worker they are
agreed on by its control connection, as the server does it, towards Janus by `janus_room`; no server of ours takes part.

Relays stand in a network namespace on one core, one at a time; the generator in another, on the others (`namespaces`).
Rooms are added, ours and Janus in turns at each number, until forward p99 passes ``BOUND_MS``, more than ``LOSS`` of
the packets never come, or a picture does not come at all. Where the generator itself used more than
``GENERATOR_SHARE`` of its cores the point says nothing, and the run ends there.

What each does: Janus repairs from a buffer, and is told to send viewers what publishers send. Ours also estimates each
viewer's line, paces, and chooses layers by it. Packets are not equal, so cost is told for a packet, with the bitrate.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from load_tests.bench.options import own_core
from load_tests.peers.janus import JanusFailed
from load_tests.peers.janus_room import JanusPeer, JanusRooms
from load_tests.plan.behaviour import CAMERAS
from load_tests.plan.line import Line
from load_tests.report.ledger import Ledger
from load_tests.rig import namespaces
from load_tests.rig.contenders import remote_of
from load_tests.rig.figures import Scalar, emit, note
from load_tests.rig.namespaces import GENERATOR_ADDRESS, RELAY_ADDRESS, RelaySide
from load_tests.rig.peer import PeerFailed
from load_tests.rig.poller import Poller
from load_tests.rig.worker_process import Worker, WorkerFailed, worker
from load_tests.session.engine import Engine, load
from load_tests.session.media import audio_parameters, receivable, video_parameters
from load_tests.session.path import Path
from load_tests.session.rate import LOOK_S
from load_tests.session.swift import SwiftPeer, SwiftReceiver, SwiftSender
from media.core import control

CAMERAS_EACH, WATCHERS_EACH = 3, 9
ROOMS: Final = (1, 2, 4, 8, 12, 16, 20, 24, 32)
SETTLE_S, WINDOW_S = 8.0, 5.0
BOUND_MS, LOSS, GENERATOR_SHARE = 50.0, 0.001, 0.9
LAYERS: Final = CAMERAS["720p"]
LARGEST: Final = LAYERS[-1]
FAILURES: Final = (JanusFailed, PeerFailed, WorkerFailed, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class Point:
    """One relay with so many rooms."""

    rooms: int
    forward_p50_ms: float
    forward_p99_ms: float
    lost_share: float
    packets_per_s: float
    viewer_kbps: float
    us_per_packet: float
    core_share: float
    generator_share: float
    here: int
    """Tracks of which something whole has come,"""
    wanted: int
    """of so many."""

    @property
    def held(self) -> bool:
        """Everything came, in time."""
        return self.forward_p99_ms <= BOUND_MS and self.lost_share <= LOSS and self.here == self.wanted

    @property
    def valid(self) -> bool:
        """The generator was not what gave out."""
        return self.generator_share <= GENERATOR_SHARE


@dataclass
class Crowd:
    """All peers of one relay, in one engine."""

    engine: Engine
    poller: Poller
    ledger: Ledger = field(default_factory=Ledger)
    peers: list[SwiftPeer] = field(default_factory=list)
    receivers: list[SwiftReceiver] = field(default_factory=list)
    senders: list[SwiftSender] = field(default_factory=list)

    def peer(self, kind: type[SwiftPeer], room: int) -> Any:
        """A new one."""
        seed = f"{room}-{len(self.peers)}"
        path = Path(Line(), seed, self.ledger)
        made = kind(self.engine, self.poller, GENERATOR_ADDRESS, path, self.ledger, room)
        self.peers.append(made)
        return made

    def sender(self, peer: SwiftPeer) -> SwiftSender:
        """For a connected peer."""
        made = SwiftSender(peer, f"seed-{len(self.senders)}", timed=True)
        self.senders.append(made)
        self.poller.every(LOOK_S, made.steer, peer)
        return made

    def receiver(self, peer: SwiftPeer) -> SwiftReceiver:
        """For a peer that is about to be sent something."""
        made = SwiftReceiver(peer, lambda: None, timed=True)
        self.receivers.append(made)
        return made

    async def close(self) -> None:
        """All of them."""
        for sender in self.senders:
            sender.close()
        for peer in self.peers:
            self.poller.forget(peer)
            with contextlib.suppress(PeerFailed):
                await peer.close()
        self.engine.close()
        await self.poller.close()


@contextlib.asynccontextmanager
async def crowd() -> AsyncIterator[Crowd]:
    """With an engine of its own, so that its figures are of this relay alone."""
    found = load()
    if found is None:
        raise PeerFailed("the generator's C side is not built")
    made = Crowd(Engine(*found), Poller())
    made.engine.start()
    try:
        yield made
    finally:
        await made.close()


# ---------------------------------------------------------------- ours


async def fill_ours(crowd: Crowd, relay: Worker, rooms: int) -> None:
    """Rooms of our worker."""
    for room in range(rooms):
        opened = await relay.call(control.OpenRouter(router=f"r{room}"))
        capabilities = receivable(opened["rtp_capabilities"])
        producers: list[str] = []
        for camera in range(CAMERAS_EACH):
            producers += await _our_camera(crowd, relay, room, f"r{room}-c{camera}")
        for watcher in range(WATCHERS_EACH):
            await _our_watcher(crowd, relay, room, f"r{room}-w{watcher}", producers, capabilities)


async def _our_transport(
    crowd: Crowd, relay: Worker, room: int, name: str, direction: Literal["send", "recv"]
) -> SwiftPeer:
    made = control.CreateTransport(router=f"r{room}", transport=name, owner=name, direction=direction)
    options = await relay.call(made)
    peer: SwiftPeer = crowd.peer(SwiftPeer, room)
    fingerprint = {"algorithm": "sha-256", "value": peer.fingerprint}
    shown = {"role": "client", "fingerprints": [fingerprint]}
    await relay.call(control.ConnectTransport(transport=name, dtls_parameters=shown))
    await peer.connect_to(remote_of(options))
    return peer


async def _our_camera(crowd: Crowd, relay: Worker, room: int, name: str) -> list[str]:
    peer = await _our_transport(crowd, relay, room, name, "send")
    sender = crowd.sender(peer)
    said: list[tuple[Literal["audio", "video"], dict[str, Any]]] = [
        ("video", video_parameters(LAYERS, sender.begin_camera(LAYERS))),
        ("audio", audio_parameters(sender.begin_microphone())),
    ]
    for kind, parameters in said:
        await relay.call(
            control.Produce(transport=name, producer=f"{name}-{kind}", kind=kind, rtp_parameters=parameters)
        )
    return [f"{name}-{kind}" for kind, _ in said]


async def _our_watcher(
    crowd: Crowd, relay: Worker, room: int, name: str, producers: Sequence[str], capabilities: dict[str, Any]
) -> None:
    peer = await _our_transport(crowd, relay, room, name, "recv")
    receiver = crowd.receiver(peer)
    for producer in producers:
        consumer = f"{name}-{producer}"
        made = await relay.call(
            control.Consume(transport=name, consumer=consumer, producer=producer, rtp_capabilities=capabilities)
        )
        receiver.add({**made, "consumer": consumer, "producer": producer})
        if producer.endswith("video"):
            await relay.call(
                control.ViewConsumer(consumer=consumer, width=LARGEST.width, height=LARGEST.height, rank="main")
            )
        await relay.call(control.ResumeConsumer(consumer=consumer))


# ---------------------------------------------------------------- Janus


async def fill_janus(crowd: Crowd, relay: JanusRooms, rooms: int) -> None:
    """Rooms of Janus."""
    for room in range(rooms):
        feeds = list(range(1, CAMERAS_EACH + 1))
        await relay.make_room(room + 1, CAMERAS_EACH)
        for feed in feeds:
            peer: JanusPeer = crowd.peer(JanusPeer, room)
            await relay.publish(room + 1, feed, peer, LAYERS)
            sender = crowd.sender(peer)
            sender.begin_camera(LAYERS)
            sender.begin_microphone()
        for _ in range(WATCHERS_EACH):
            viewer: JanusPeer = crowd.peer(JanusPeer, room)
            told = await relay.watch(room + 1, feeds, viewer)
            receiver = crowd.receiver(viewer)
            for made in told:
                receiver.add(made)


# ---------------------------------------------------------------- measuring


async def measure(crowd: Crowd, cpu_s: Any, rooms: int) -> Point:
    """One window."""
    await asyncio.sleep(SETTLE_S)
    crowd.engine.settle(Ledger())
    ledger = Ledger()
    relay_s, own_s, began = cpu_s(), time.process_time(), time.monotonic()
    await asyncio.sleep(WINDOW_S)
    crowd.engine.settle(ledger)
    elapsed_s = time.monotonic() - began
    spent_s, own_s = cpu_s() - relay_s, time.process_time() - own_s
    packets, lost = ledger.counts["rtp_in"], ledger.counts["rtp_lost"]
    forward = ledger.distributions.get("forward_ms")
    tracks = [track for receiver in crowd.receivers for track in receiver.tracks.values()]
    return Point(
        rooms=rooms,
        forward_p50_ms=_or_never(forward.percentile(50) if forward else None),
        forward_p99_ms=_or_never(forward.percentile(99) if forward else None),
        lost_share=lost / max(1, lost + packets),
        packets_per_s=packets / elapsed_s,
        viewer_kbps=ledger.counts["rtp_in_bytes"] * 8 / elapsed_s / 1000 / max(1, len(crowd.receivers)),
        us_per_packet=spent_s * 1e6 / max(1, packets),
        core_share=spent_s / elapsed_s,
        generator_share=own_s / elapsed_s / len(os.sched_getaffinity(0)),
        here=sum(track.here for track in tracks),
        wanted=rooms * WATCHERS_EACH * CAMERAS_EACH * 2,
    )


def _or_never(value: float | None) -> float:
    return float("inf") if value is None else value


async def one_point(name: str, side: RelaySide, rooms: int) -> Point:
    """A relay, its rooms, a window, and the end of all of it."""
    async with contextlib.AsyncExitStack() as stack:
        if name == "consilium":
            ours = await stack.enter_async_context(worker(RELAY_ADDRESS, launch=side.launch, forward="c"))
            people = await stack.enter_async_context(crowd())
            await fill_ours(people, ours, rooms)
            return await measure(people, ours.cpu_s, rooms)
        people = await stack.enter_async_context(crowd())
        janus = JanusRooms(people.poller, name, 1 if name == "janus_best" else None)
        stack.push_async_callback(janus.close)
        await janus.open(GENERATOR_ADDRESS, side.launch)
        await fill_janus(people, janus, rooms)
        return await measure(people, janus.cpu_s, rooms)


async def compare(core: int, rooms: Sequence[int]) -> None:
    """All points, inside the generator's namespace."""
    best: dict[str, int] = {}
    with namespaces.relay_side(core) as side:
        trying = ["consilium", "janus_best", "janus_default"]
        for count in rooms:
            points: dict[str, Point] = {}
            for name in list(trying):
                try:
                    point = points[name] = await one_point(name, side, count)
                except FAILURES as problem:
                    note(f"consult_peers: {name} left out from {count} rooms on: {problem}")
                    trying.remove(name)
                    continue
                note(f"  {count} rooms, {name}: {point}")
                if not point.valid:
                    note("consult_peers: the generator is full; what comes says nothing")
                    trying.clear()
                    break
                if point.held:
                    best[name] = count
                else:
                    trying.remove(name)
            report(points)
            if not trying:
                break
    if "consilium" in best:
        params: dict[str, Scalar] = {"bound_ms": BOUND_MS, "loss": LOSS, "cameras": CAMERAS_EACH}
        others = {name: float(count) for name, count in best.items() if name != "consilium"}
        emit("consult_rooms_on_a_core", best["consilium"], "rooms", {**params, "watchers": WATCHERS_EACH}, others)


def report(points: dict[str, Point]) -> None:
    """The figures of one number of rooms."""
    ours = points.get("consilium")
    if ours is None or not all(one.valid for one in points.values()):
        return
    params: dict[str, Scalar] = {
        "rooms": ours.rooms, "cameras": CAMERAS_EACH, "watchers": WATCHERS_EACH, "window_s": WINDOW_S, "link": "veth",
    }  # fmt: skip
    for name, one in points.items():
        params |= {
            f"{name}_viewer_kbps": round(one.viewer_kbps), f"{name}_core": round(one.core_share, 3),
            f"{name}_lost_share": round(one.lost_share, 6), f"{name}_tracks": f"{one.here}/{one.wanted}",
            f"{name}_generator": round(one.generator_share, 2), f"{name}_packets_per_s": round(one.packets_per_s),
        }  # fmt: skip
    for figure, field_name, unit in (
        ("consult_forward_ms_p50", "forward_p50_ms", "ms"), ("consult_forward_ms_p99", "forward_p99_ms", "ms"),
        ("consult_us_per_packet", "us_per_packet", "us"),
    ):  # fmt: skip
        others = {name: round(getattr(one, field_name), 4) for name, one in points.items() if name != "consilium"}
        emit(figure, getattr(ours, field_name), unit, params, others)


def run(rooms: Sequence[int] = ROOMS) -> None:
    """The comparison, in namespaces of its own; left out with a note where they cannot be had."""
    reason = namespaces.why_not()
    if reason is not None:
        note(f"consult_peers: left out, no network namespaces here: {reason}")
        return
    code = namespaces.run_inside("load_tests.peers.consults", ["--rooms", ",".join(map(str, rooms))])
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The inside of the comparison with Janus; see `run`.")
    parser.add_argument("--rooms", required=True, help="how many rooms, as 1,2,4")
    parser.add_argument("--nice", type=int, default=-20, help="priority of generator and relays")
    chosen = parser.parse_args()
    with own_core(chosen.nice) as relay_core:
        asyncio.run(compare(relay_core, [int(word) for word in chosen.rooms.split(",")]))
    sys.exit(0)
