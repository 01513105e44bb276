"""A session's media: its two Transports, what it sends on one and takes on the other.

Built once after a join and again when the server lost it; everything is asked for by signalling as a browser's client
library would ask, in its order. What should arrive is known from the shared state, so what does not is missing.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Final

from load_tests.plan.behaviour import CAMERAS, Layer
from load_tests.plan.timetable import Planned
from load_tests.report.ledger import Ledger
from load_tests.rig.poller import Poller
from load_tests.session import vitals, waves
from load_tests.session.consult import ConsultView
from load_tests.session.engine import Engine
from load_tests.session.path import Path
from load_tests.session.rate import LOOK_S
from load_tests.session.receiving import FEEDBACK_S, REPORT_S, Receiver
from load_tests.session.sending import AUDIO_PT, RTX_PT, VIDEO_PT, Camera, Microphone, Sender
from load_tests.session.signalling import Refused, Signalling
from load_tests.session.swift import SwiftPeer, SwiftReceiver, SwiftSender
from load_tests.session.transport import SessionPeer, remote_of
from media.core import ortc
from media.core.waveform.vitals import MalformedVital, read_vital

ECG_STREAM, CTL_STREAM, VITALS_STREAM = 0, 1, 2
SILENT_PATH_S: Final = 7.0
"""A browser says `disconnected` after some 5 s without consent and is given 2 s to heal."""
LOST_PATH_S: Final = 20.0
REST_S: Final = 0.5
_LISTENING: Final = frozenset({"ctl", "ecg"})

_VIDEO_FEEDBACK = [
    {"type": "nack", "parameter": ""}, {"type": "nack", "parameter": "pli"}, {"type": "ccm", "parameter": "fir"},
    {"type": "goog-remb", "parameter": ""}, {"type": "transport-cc", "parameter": ""},
]  # fmt: skip


class Media:
    """What one session sends and takes, on the worker of one media epoch."""

    def __init__(
        self, plan: Planned, signalling: Signalling, view: ConsultView, path: Path, poller: Poller, ledger: Ledger,
        *, bind: str, allowed: Collection[str], changed: Callable[[], None],
        gap: waves.OnGap, engine: Engine | None = None, source: waves.Source | None = None,
        viewer: waves.Viewer | None = None,
    ) -> None:  # fmt: skip
        self.plan, self.behaviour, self.signalling, self.view = plan, plan.behaviour, signalling, view
        self.epoch = view.media_epoch
        self.sender: Sender | SwiftSender | None = None
        self.receiver: Receiver | SwiftReceiver | None = None
        self.viewer = viewer
        """What is watched, as `source`."""
        self.source = source
        """The device's stream; one that began on another path goes on here."""
        self.expected: set[str] = set()
        """Producers and waveforms that this session has asked for."""
        self._path, self._poller, self._ledger = path, poller, ledger
        self._bind, self._allowed, self._changed, self._gap = bind, allowed, changed, gap
        self._engine = engine
        self._peers: dict[str, SessionPeer] = {}
        self._transports: dict[str, str] = {}
        self._labels: dict[int, str] = {}
        """What each stream of the receiving Transport carries."""
        self._streams: set[int] = set()
        """Waveforms that were announced in this consult."""
        self._flowing: set[int] = set()
        """Of these, those whose channel is open."""
        self._listens = False
        """Both ways of ``ctl`` are open."""
        self._consuming = asyncio.Lock()
        self._rests: dict[str, float] = {}
        """Until when what could not be had is not asked for again: events of a rebuild come by the dozen."""
        self._counted: set[str] = set()
        """Tracks that are expected, each once, however often it is half taken."""
        self._wave: str | None = None

    async def build(self, capabilities: Mapping[str, Any]) -> None:
        """Make the Transports, send what there is to send, take what is there.

        Raises:
            Refused, Lost, TimeoutError, PeerFailed, TargetNotAllowed: it could not be built.
        """
        wants = self.behaviour
        self._capabilities = receivable(capabilities)
        takes = wants.sees or wants.hears or wants.watches_ecg
        sends = bool(wants.camera or wants.microphone or wants.ecg or wants.watches_ecg)
        directions = [name for name, wanted in (("send", sends), ("recv", takes or wants.ecg)) if wanted]
        await asyncio.gather(*(self._transport(name) for name in directions))
        if "recv" in self._peers:
            self._begin_receiving(self._peers["recv"])
        if wants.watches_ecg:  # before anything can come
            self.viewer = self.viewer or waves.Viewer(self._ledger)
            self.viewer.attach(self._ask_relay, self._changed, self._gap)
        await _all(self._settle_sending(), self.follow())

    async def follow(self) -> bool:
        """Take what is there and was not taken yet; drop what is gone. False: something went while it was asked for.

        That it went is told by an event that may come later than the answer; nothing else is wrong then.
        """
        if self.receiver is None:
            return True
        async with self._consuming:
            work: list[Coroutine[Any, Any, bool]] = []
            there = self.view.producers.keys() | self.view.waves.keys() | self.view.vitals.keys()
            for gone in self.expected - there:
                self.expected.discard(gone)
                self.receiver.forget(gone)
            for producer in list(self.view.producers.values()):
                wanted = self.behaviour.sees if producer["kind"] == "video" else self.behaviour.hears
                if wanted and producer["participant"] != self.view.you and producer["id"] not in self.expected:
                    work.append(self._unless_gone(producer["id"], self._consume(producer["id"])))
            for wave in list(self.view.waves.values()):
                if self.behaviour.watches_ecg and wave["id"] not in self.expected:
                    work.append(self._unless_gone(wave["id"], self._watch(wave["id"], wave["waveform"]["stream_id"])))
            for one in self.view.vitals.keys() - self.expected if self.behaviour.watches_ecg else ():
                work.append(self._unless_gone(one, self._consume_data(one, "vitals")))
            return all(await _all(*work))  # at once, as the web client asks

    async def _unless_gone(self, producer: str, taking: Coroutine[Any, Any, None]) -> bool:
        """Take it; False when it is gone, or the server has no time for it, or had none a moment ago."""
        now_s = time.monotonic()
        if now_s < self._rests.get(producer, 0.0):
            taking.close()
            return False
        try:
            await taking
        except Refused as refusal:
            if refusal.code not in ("not_found", "too_busy"):
                raise
            self._rests[producer] = now_s + REST_S
            if self.receiver is not None:  # half taken is not taken
                self.expected.discard(producer)
                self.receiver.forget(producer)
            return False
        return True

    async def begin_wave(self, seed: str) -> None:
        """The device is bound: send its patient's waveform and numbers, or go on with them on a new path."""
        peer, stream_id = self._peers["send"], self.plan.number + 1
        if self.source is not None and self.source.version != self.view.context_version:
            self.end_wave()
        made = await self.signalling.ask(
            {
                "type": "produce_data", "transport": self._transports["send"], "label": "ecg",
                "sctp_stream_parameters": {"streamId": ECG_STREAM, "ordered": False, "maxRetransmits": 0},
                "waveform": waves.descriptor(stream_id, self.view.patient),
            }
        )  # fmt: skip
        self._wave = made["data_producer"]
        await self.signalling.ask(
            {
                "type": "produce_data", "transport": self._transports["send"], "label": "vitals",
                "sctp_stream_parameters": {"streamId": VITALS_STREAM, "ordered": True},
                "vitals": vitals.descriptor(self.view.patient),
            }
        )  # fmt: skip
        await peer.open_data()

        def send(message: bytes) -> bool:
            return peer.send_message(ECG_STREAM, message, reliable=False)

        def tell(message: bytes) -> bool:
            return peer.send_message(VITALS_STREAM, message, reliable=True)

        if self.source is None:
            self.source = waves.Source(self.plan.consult, stream_id, self.view.context_version, self._ledger, seed)
            self.source.numbers = vitals.VitalSource(self.source.version, self._ledger, stream_id)
        self.source.attach(send)
        if self.source.numbers is not None:
            self.source.numbers.attach(tell)

    def end_wave(self) -> None:
        """The binding is over: end the device's stream; idempotent."""
        if self.source is not None:
            self.source.close()
            self.source = None

    @property
    def complete(self) -> bool:
        """Everything that is to be had now has arrived once."""
        if self.receiver is None:
            return True
        have = {track.producer for track in self.receiver.tracks.values() if track.here}
        wanted = {
            one["id"] for one in self.view.producers.values()
            if one["participant"] != self.view.you and not one["paused"]
            and (self.behaviour.sees if one["kind"] == "video" else self.behaviour.hears)
        }  # fmt: skip
        wave_due = self.behaviour.watches_ecg and bool(self.view.waves)
        return wanted <= have and not (wave_due and self.viewer is not None and not self.viewer.last_s)

    async def gone(self) -> bool:
        """A path has been silent, and the server says that it has no such Transport.

        A browser asks by restarting ICE; here a second connect asks, which changes nothing where there is one.

        Raises:
            Refused, Lost, TimeoutError: it cannot be asked now.
        """
        now_s = time.monotonic()
        for direction, peer in self._peers.items():
            if now_s - peer.heard_s > SILENT_PATH_S:
                fingerprint = {"algorithm": "sha-256", "value": peer.fingerprint}
                dtls = {"role": "client", "fingerprints": [fingerprint]}
                try:
                    await self.signalling.ask(
                        {"type": "connect_transport", "transport": self._transports[direction], "dtls_parameters": dtls}
                    )
                except Refused as refusal:
                    if refusal.code == "not_found" or now_s - peer.heard_s > LOST_PATH_S:
                        return True
        return False

    async def close(self) -> None:
        """Stop sending, count what is missing, release the sockets; idempotent."""
        if self.source is not None:
            self.source.detach()
        if self.sender is not None:
            self.sender.close()
        if self.receiver is not None and self._peers:
            self.receiver.close()
        if self.viewer is not None:
            self.viewer.detach()
        for peer in self._peers.values():
            self._poller.forget(peer)
            await peer.close()
        self._peers.clear()

    # ------------------------------------------------------------- building

    async def _transport(self, direction: str) -> None:
        began = time.monotonic()
        options = await self.signalling.ask({"type": "create_transport", "direction": direction})
        peer = self._peer()
        self._peers[direction] = peer
        self._transports[direction] = options["id"]
        fingerprint = {"algorithm": "sha-256", "value": peer.fingerprint}
        await self.signalling.ask(
            {
                "type": "connect_transport", "transport": options["id"],
                "dtls_parameters": {"role": "client", "fingerprints": [fingerprint]},
            }
        )  # fmt: skip
        self._ledger.add("join_transport_ms", (time.monotonic() - began) * 1000)
        await peer.connect_to(remote_of(options, self._allowed))
        self._ledger.add("join_ice_ms", peer.ice_ms)
        self._ledger.add("join_dtls_ms", peer.dtls_ms)

    def _peer(self) -> SessionPeer:
        if self._engine is None:
            return SessionPeer(self._poller, self._bind, self._path, self._ledger)
        return SwiftPeer(self._engine, self._poller, self._bind, self._path, self._ledger, self.plan.consult)

    def _begin_receiving(self, peer: SessionPeer) -> None:
        timed, consult = self._path.line.perfect, self.plan.consult
        peer.on_message = functools.partial(self._data, peer)
        if isinstance(peer, SwiftPeer):
            self.receiver = SwiftReceiver(peer, self._changed, timed=timed)
            return
        self.receiver = Receiver(peer, self._ledger, self._changed, timed=timed, consult=consult)
        self._poller.every(FEEDBACK_S, self.receiver.feedback, peer)
        self._poller.every(REPORT_S, self.receiver.report, peer)

    async def _settle_sending(self) -> None:
        if "send" in self._peers:
            await self._begin_sending(self._peers["send"])
        if self.behaviour.watches_ecg or self.behaviour.ecg:
            await self._open_control()

    async def _begin_sending(self, peer: SessionPeer) -> None:
        timed, wants = self._path.line.perfect, self.behaviour
        layers = CAMERAS[wants.camera] if wants.camera else ()
        if isinstance(peer, SwiftPeer):
            swift = self.sender = SwiftSender(peer, self.plan.seed, timed=timed)
            if layers:
                await self._produce("video", "camera", video_parameters(layers, swift.begin_camera(layers)))
            if wants.microphone:
                await self._produce("audio", "microphone", audio_parameters(swift.begin_microphone()))
            self._poller.every(LOOK_S, swift.steer, peer)
            return
        sender = self.sender = Sender(peer, self._ledger)
        numbers, ledger, seed, consult = sender.numbers, self._ledger, self.plan.seed, self.plan.consult
        if layers:
            sender.camera = Camera(peer, numbers, ledger, layers, seed, timed=timed, consult=consult)
            stream = sender.camera.streams[0]
            await self._produce("video", "camera", video_parameters(layers, (stream.ssrc, stream.rtx_ssrc)))
        if wants.microphone:
            sender.microphone = Microphone(peer, numbers, ledger, seed, timed=timed, consult=consult)
            await self._produce("audio", "microphone", audio_parameters(sender.microphone.stream.ssrc))
        self._poller.every(REPORT_S, sender.report, peer)
        self._poller.every(LOOK_S, sender.steer, peer)

    async def _produce(self, kind: str, source: str, parameters: dict[str, Any]) -> None:
        await self.signalling.ask(
            {
                "type": "produce", "transport": self._transports["send"], "kind": kind, "source": source,
                "rtp_parameters": parameters,
            }
        )  # fmt: skip

    async def _open_control(self) -> None:
        peer = self._peers["send"]
        await self.signalling.ask(
            {
                "type": "produce_data", "transport": self._transports["send"], "label": "ctl",
                "sctp_stream_parameters": {"streamId": CTL_STREAM, "ordered": True},
            }
        )  # fmt: skip
        await peer.open_data()
        if self.viewer is not None:
            self._poller.every(FEEDBACK_S, self.viewer.chase, peer)
            self._poller.every(waves.PING_S, self.viewer.ping, peer)
        if "recv" in self._peers:
            await self._consume_data("ctl", "ctl")
            self._listens = True
            if self.viewer is not None:
                self.viewer.opened(self._flowing)

    def _ask_relay(self, message: bytes) -> bool:
        peer = self._peers.get("send")
        return peer is not None and peer.send_message(CTL_STREAM, message, reliable=True)

    async def _consume(self, producer: str) -> None:
        assert self.receiver is not None
        asked = {
            "type": "consume", "transport": self._transports["recv"], "producer": producer,
            "rtp_capabilities": self._capabilities,
        }  # fmt: skip
        made = await self.signalling.ask(asked)
        self.expected.add(producer)
        if producer not in self._counted:
            self._counted.add(producer)
            self._ledger.count("tracks_expected")
        track = self.receiver.add(made)
        if track.kind == "video":
            width, height = self.behaviour.view
            await self.signalling.ask(
                {
                    "type": "view_consumer", "consumer": track.consumer, "width": width, "height": height,
                    "rank": self.behaviour.rank,
                }
            )  # fmt: skip
        await self.signalling.ask({"type": "resume_consumer", "consumer": track.consumer})

    async def _watch(self, producer: str, stream_id: int) -> None:
        """Take a waveform, and what was missed of it where it was watched by another path before."""
        self._streams.add(stream_id)
        await self._consume_data(producer, "ecg")
        self._flowing.add(stream_id)
        if self._listens and self.viewer is not None:
            self.viewer.opened([stream_id])

    async def _consume_data(self, producer: str, label: str) -> None:
        self.expected.update({producer} - _LISTENING)
        made = await self.signalling.ask(
            {"type": "consume_data", "transport": self._transports["recv"], "data_producer": producer}
        )
        self._labels[made["sctp_stream_parameters"]["streamId"]] = label
        await self._peers["recv"].open_data()
        await self.signalling.ask({"type": "resume_data_consumer", "data_consumer": made["data_consumer"]})

    def _data(self, peer: SessionPeer, stream: int, message: bytes) -> None:
        label = self._labels.get(stream)
        if label == "ecg" and self.viewer is not None:
            if waves.stream_of(message) not in self._streams:
                self._ledger.count("ecg_foreign")
            self.viewer.message(message, peer.arrived_ns)
        elif label == "vitals":
            self._take_vital(message)
        elif label == "ctl" and self.viewer is not None:
            self.viewer.control(message)
        elif label == "ctl" and self.source is not None:
            self.source.asked(message)

    def _take_vital(self, message: bytes) -> None:
        try:
            read_vital(message)
        except MalformedVital:
            self._ledger.count("ecg_refused")
        else:
            self._ledger.count("vitals_in")


async def _all(*works: Coroutine[Any, Any, Any]) -> list[Any]:
    """What all of them give; each is tried to its end before the first failure is told."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def receivable(capabilities: Mapping[str, Any]) -> dict[str, Any]:
    """What a Chromium that was loaded with a router's capabilities offers to receive: no NACK for sound."""
    mine = copy.deepcopy(dict(capabilities))
    for codec in mine["codecs"]:
        if codec["kind"] == "audio":
            codec["rtcpFeedback"] = [one for one in codec["rtcpFeedback"] if one["type"] != "nack"]
    return mine


def video_parameters(layers: Sequence[Layer], ssrcs: tuple[int, int]) -> dict[str, Any]:
    """As mediasoup-client says them: layers by rid, a single one by its SSRCs, of media and repairs."""
    extensions = [ortc.MID_URI, ortc.TRANSPORT_CC_URI]
    if layers[0].rid:
        extensions += [ortc.RID_URI, ortc.REPAIRED_RID_URI]
        encodings: list[dict[str, Any]] = [{"rid": layer.rid} for layer in layers]
    else:
        encodings = [{"ssrc": ssrcs[0], "rtx": {"ssrc": ssrcs[1]}}]
    return {
        "mid": "0",
        "codecs": [
            {"mimeType": "video/VP8", "payloadType": VIDEO_PT, "clockRate": 90_000, "parameters": {},
             "rtcpFeedback": _VIDEO_FEEDBACK},
            {"mimeType": "video/rtx", "payloadType": RTX_PT, "clockRate": 90_000, "parameters": {"apt": VIDEO_PT},
             "rtcpFeedback": []},
        ],
        "headerExtensions": _numbered(extensions),
        "encodings": encodings,
        "rtcp": {"cname": "load", "reducedSize": True},
    }  # fmt: skip


def audio_parameters(ssrc: int) -> dict[str, Any]:
    """Of the microphone."""
    return {
        "mid": "1",
        "codecs": [
            {"mimeType": "audio/opus", "payloadType": AUDIO_PT, "clockRate": 48_000, "channels": 2,
             "parameters": {"minptime": 10, "useinbandfec": 1},
             "rtcpFeedback": [{"type": "transport-cc", "parameter": ""}]},
        ],
        "headerExtensions": _numbered([ortc.MID_URI, ortc.TRANSPORT_CC_URI, ortc.AUDIO_LEVEL_URI]),
        "encodings": [{"ssrc": ssrc}],
        "rtcp": {"cname": "load", "reducedSize": True},
    }  # fmt: skip


def _numbered(uris: list[str]) -> list[dict[str, Any]]:
    return [{"uri": uri, "id": ortc.EXTENSION_IDS[uri]} for uri in uris]
