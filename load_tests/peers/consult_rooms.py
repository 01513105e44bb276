"""A consult's rooms, filled at our worker or at Janus by the scenarios' own cameras and watchers; see `consults`.

Everybody is brought in before the first picture is sent, nine watchers of a room at once: what is asked of a relay is
what it carries, not how it lets people in while it is full. Cameras then begin one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from load_tests.peers.janus_room import JanusPeer, JanusRooms
from load_tests.plan.behaviour import CAMERAS
from load_tests.plan.line import Line
from load_tests.report.ledger import Ledger
from load_tests.rig.contenders import remote_of
from load_tests.rig.namespaces import GENERATOR_ADDRESS
from load_tests.rig.peer import PeerFailed
from load_tests.rig.poller import Poller
from load_tests.rig.worker_process import Worker
from load_tests.session.engine import Engine, load
from load_tests.session.media import audio_parameters, receivable, video_parameters
from load_tests.session.path import Path
from load_tests.session.rate import LOOK_S
from load_tests.session.swift import SwiftPeer, SwiftReceiver, SwiftSender
from media.core import control

CAMERAS_EACH, WATCHERS_EACH = 3, 9
LAYERS: Final = CAMERAS["720p"]
LARGEST: Final = LAYERS[-1]
APART_S: Final = 0.02
"""From one camera's beginning to the next: their key frames do not come at once."""
NO_SSRC: Final = (0, 0)
"""Layers are known by their rids."""

T = TypeVar("T")


async def together(jobs: Iterable[Awaitable[T]]) -> list[T]:
    """All of them, to their end; then the first failure, if there is one."""
    found: list[T] = []
    for one in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(one, BaseException):
            raise one
        found.append(one)
    return found


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

    async def begin(self) -> None:
        """Every camera sends from now on."""
        for sender in self.senders:
            sender.begin_camera(LAYERS)
            await asyncio.sleep(APART_S)

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
        made = await together(_our_camera(crowd, relay, room, f"r{room}-c{camera}") for camera in range(CAMERAS_EACH))
        producers = [producer for one in made for producer in one]
        await together(
            _our_watcher(crowd, relay, room, f"r{room}-w{watcher}", producers, capabilities)
            for watcher in range(WATCHERS_EACH)
        )


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
        ("video", video_parameters(LAYERS, NO_SSRC)),
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
    feeds = list(range(1, CAMERAS_EACH + 1))
    for room in range(rooms):
        await relay.make_room(room + 1, CAMERAS_EACH)
        await together(_janus_camera(crowd, relay, room, feed) for feed in feeds)
        await together(_janus_watcher(crowd, relay, room, feeds) for _ in range(WATCHERS_EACH))


async def _janus_camera(crowd: Crowd, relay: JanusRooms, room: int, feed: int) -> None:
    peer: JanusPeer = crowd.peer(JanusPeer, room)
    await relay.publish(room + 1, feed, peer, LAYERS)
    crowd.sender(peer).begin_microphone()


async def _janus_watcher(crowd: Crowd, relay: JanusRooms, room: int, feeds: Sequence[int]) -> None:
    viewer: JanusPeer = crowd.peer(JanusPeer, room)
    told = await relay.watch(room + 1, feeds, viewer)
    receiver = crowd.receiver(viewer)
    for made in told:
        receiver.add(made)
