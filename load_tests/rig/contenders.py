"""What is measured: a relay process with one publisher and a growing number of subscribers.

Every contender has the same face, so that one loop measures them in turns: subscribers
are added and never taken away (points go from few to many), and what does not differ
between relays, the packets and how a browser answers, is ``traffic``. This module has our
own worker; ``peers.janus`` and ``peers.aiortc_hub`` have the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from load_tests.rig.peer import LoadPeer, Remote
from load_tests.rig.poller import Poller
from load_tests.rig.traffic import (
    AUDIO_PT,
    AUDIO_SSRC,
    FEEDBACK_INTERVAL_S,
    REPORT_INTERVAL_S,
    RTX_PT,
    TWCC_ID,
    TWCC_URI,
    VIDEO_PT,
    VIDEO_RTX_SSRC,
    VIDEO_SSRC,
    Kind,
    Publisher,
    Subscriber,
)
from load_tests.rig.worker_process import MODULE, Worker, WorkerFailed, worker
from media.core import control

VIDEO_PARAMETERS: dict[str, Any] = {
    "mid": "0",
    "codecs": [
        {
            "mimeType": "video/VP8",
            "payloadType": VIDEO_PT,
            "clockRate": 90_000,
            "parameters": {},
            "rtcpFeedback": [
                {"type": "nack"},
                {"type": "nack", "parameter": "pli"},
                {"type": "transport-cc"},
            ],
        },
        {"mimeType": "video/rtx", "payloadType": RTX_PT, "clockRate": 90_000, "parameters": {"apt": VIDEO_PT}},
    ],
    "headerExtensions": [{"uri": TWCC_URI, "id": TWCC_ID}],
    "encodings": [{"ssrc": VIDEO_SSRC, "rtx": {"ssrc": VIDEO_RTX_SSRC}}],
    "rtcp": {"cname": "load", "reducedSize": True},
}
AUDIO_PARAMETERS: dict[str, Any] = {
    "mid": "1",
    "codecs": [
        {
            "mimeType": "audio/opus",
            "payloadType": AUDIO_PT,
            "clockRate": 48_000,
            "channels": 2,
            "parameters": {},
            "rtcpFeedback": [{"type": "transport-cc"}],
        }
    ],
    "headerExtensions": [{"uri": TWCC_URI, "id": TWCC_ID}],
    "encodings": [{"ssrc": AUDIO_SSRC}],
    "rtcp": {"cname": "load", "reducedSize": True},
}


class Contender(Protocol):
    """A relay under load."""

    @property
    def name(self) -> str:
        """How figures call it."""

    @property
    def publisher(self) -> Publisher:
        """Who sends."""

    @property
    def viewers(self) -> list[Subscriber]:
        """Who receive."""

    async def add_viewers(self, count: int) -> None:
        """Connect more subscribers until there are ``count``."""

    def cpu_s(self) -> float:
        """CPU time of the relay so far."""

    async def close(self) -> None:
        """Say goodbye and end the relay; idempotent."""


def keep_reporting(poller: Poller, publisher: Publisher) -> None:
    """Sender reports, as long as the peer lives."""
    poller.every(REPORT_INTERVAL_S, publisher.report, publisher.peer)


def keep_answering(poller: Poller, viewer: Subscriber) -> None:
    """Reports and feedback of a subscriber, as long as its peer lives."""
    poller.every(REPORT_INTERVAL_S, viewer.report, viewer.peer)
    if viewer.twcc_id:
        poller.every(FEEDBACK_INTERVAL_S, viewer.feedback, viewer.peer)


def remote_of(options: Mapping[str, Any]) -> Remote:
    """The worker's end of a transport, from ``create_transport``'s result."""
    candidate = options["ice_candidates"][0]
    return Remote(
        (candidate["address"], candidate["port"]),
        options["ice_parameters"]["usernameFragment"],
        options["ice_parameters"]["password"],
        next(f["value"] for f in options["dtls_parameters"]["fingerprints"] if f["algorithm"] == "sha-256"),
    )


class Session:
    """One router of a worker with its peers.

    Args:
        reporting: peers send reports and feedback; without, they only keep their consent fresh.
    """

    def __init__(self, poller: Poller, relay: Worker, bind: str, router: str, *, reporting: bool = True) -> None:
        self.publisher: Publisher
        self.viewers: list[Subscriber] = []
        self._poller = poller
        self._relay = relay
        self._bind = bind
        self._router = router
        self._reporting = reporting
        self._capabilities: Any = None
        self._peers: list[LoadPeer] = []

    async def open(self) -> None:
        """Make the router and its publisher."""
        opened = await self._relay.call(control.OpenRouter(router=self._router))
        self._capabilities = opened["rtp_capabilities"]
        name = f"{self._router}-pub"
        self.publisher = Publisher(await self.transport(name, "send"))
        for producer, kind, parameters in (("v", "video", VIDEO_PARAMETERS), ("a", "audio", AUDIO_PARAMETERS)):
            await self._relay.call(
                control.Produce.model_validate(
                    {
                        "transport": name,
                        "producer": f"{self._router}-{producer}",
                        "kind": kind,
                        "rtp_parameters": parameters,
                    }
                )
            )
        if self._reporting:
            keep_reporting(self._poller, self.publisher)

    async def transport(self, name: str, direction: Literal["send", "recv"], owner: str | None = None) -> LoadPeer:
        """A connected transport."""
        options = await self._relay.call(
            control.CreateTransport(router=self._router, transport=name, owner=owner or name, direction=direction)
        )
        peer = LoadPeer(self._poller, self._bind)
        self._peers.append(peer)
        fingerprint = {"algorithm": "sha-256", "value": peer.fingerprint}
        await self._relay.call(
            control.ConnectTransport(transport=name, dtls_parameters={"role": "client", "fingerprints": [fingerprint]})
        )
        await peer.connect(remote_of(options))
        return peer

    async def add_viewers(self, count: int) -> None:
        """Connect more subscribers until there are ``count``; each consumes video and audio."""
        while len(self.viewers) < count:
            name = f"{self._router}-sub{len(self.viewers)}"
            peer = await self.transport(name, "recv")
            agreed = [await self._consume(name, producer) for producer in "va"]
            viewer = Subscriber(peer, kinds_of(agreed), twcc_id_of(agreed))
            peer.sink = viewer.sink
            self.viewers.append(viewer)
            if self._reporting:
                keep_answering(self._poller, viewer)
            for producer in "va":
                await self._relay.call(control.ResumeConsumer(consumer=f"{name}-{producer}"))

    async def _consume(self, name: str, producer: str) -> dict[str, Any]:
        made = await self._relay.call(
            control.Consume(
                transport=name,
                consumer=f"{name}-{producer}",
                producer=f"{self._router}-{producer}",
                rtp_capabilities=self._capabilities,
            )
        )
        parameters: dict[str, Any] = made["rtp_parameters"]
        return parameters

    async def close(self) -> None:
        """Close the peers and the router."""
        for peer in self._peers:
            await peer.close()
        self._peers.clear()
        await self._relay.call(control.CloseRouter(router=self._router))


@contextlib.asynccontextmanager
async def session(
    poller: Poller, relay: Worker, bind: str, viewers: int, router: str = "bench"
) -> AsyncIterator[Session]:
    """A router with its publisher and so many viewers, for as long as the block runs."""
    made = Session(poller, relay, bind, router)
    try:
        await made.open()
        await made.add_viewers(viewers)
        yield made
    finally:
        await made.close()


def kinds_of(agreed: Sequence[Mapping[str, Any]]) -> dict[int, Kind]:
    """Meaning of payload types, from rtpParameters."""
    kinds: dict[int, Kind] = {}
    for parameters in agreed:
        for codec in parameters["codecs"]:
            name = codec["mimeType"].lower()
            kind: Kind = "rtx" if name.endswith("/rtx") else "video" if name.startswith("video/") else "audio"
            kinds[codec["payloadType"]] = kind
    return kinds


def twcc_id_of(agreed: Sequence[Mapping[str, Any]]) -> int:
    """Extension id of transport-wide numbers, 0 when the relay does not number its packets."""
    for parameters in agreed:
        for extension in parameters["headerExtensions"]:
            if extension["uri"] == TWCC_URI:
                return int(extension["id"])
    return 0


class OurWorker:
    """Consilium's media worker on one of its two ways out."""

    def __init__(self, poller: Poller, forward: Literal["c", "python"]) -> None:
        self.name = f"consilium_{forward}"
        self.path = "python"
        self.relay: Worker
        self._poller = poller
        self._forward = forward
        self._session: Session
        self._stack = contextlib.AsyncExitStack()

    async def open(self, bind: str, address: str, launch: Sequence[str] = (), module: Sequence[str] = MODULE) -> None:
        """Start it and its publisher.

        Raises:
            WorkerFailed: it did not start, or not on the path asked for.
        """
        self.relay = await self._stack.enter_async_context(
            worker(address, launch=launch, forward=self._forward, module=module)
        )
        self.path = await self.relay.path()
        if self.path != self._forward:
            raise WorkerFailed(f"it takes the {self.path} path")
        self._session = Session(self._poller, self.relay, bind, "bench")
        self._stack.push_async_callback(self._session.close)
        await self._session.open()

    @property
    def publisher(self) -> Publisher:
        """Who sends."""
        return self._session.publisher

    @property
    def viewers(self) -> list[Subscriber]:
        """Who receive."""
        return self._session.viewers

    async def add_viewers(self, count: int) -> None:
        """Connect more subscribers until there are ``count``."""
        await self._session.add_viewers(count)

    def cpu_s(self) -> float:
        """CPU time of the worker so far."""
        return self.relay.cpu_s()

    async def close(self) -> None:
        """End it; idempotent."""
        await self._stack.aclose()
