"""All Routers of one worker: what signalling may make, change and close.

Each public method is one call of the control protocol. It checks everything first and changes
nothing when it refuses. Closing takes objects out of every table at once, so that no packet meets a
half-closed one; only the goodbyes (SCTP abort, DTLS close_notify) are awaited afterwards, by tasks this
object owns. Close order: Consumers and DataConsumers, Producers and DataProducers, SCTP, DTLS.

The packet path itself is ``mux`` -> ``ingress`` -> ``forward``, with ``feedback`` beside it.

Long on purpose: one short method for each control call, and the read loop and tick that share their tables.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from media.aio import ports
from media.aio.aiortc_port import Certificate
from media.aio.clock import Clock, on_grid
from media.aio.counters import Counters
from media.aio.data import CTL, ECG, VITALS, DataConsumer, DataPlane, DataProducer, VitalsGate
from media.aio.fanout import ForwardPath, load
from media.aio.feedback import Feedback
from media.aio.forward import Forwarder
from media.aio.ingress import Ingress
from media.aio.intake import Intake
from media.aio.lanes import Lanes
from media.aio.lines import Lines
from media.aio.loop import MediaLoop, Wait
from media.aio.maps import TimeMaps
from media.aio.mux import Mux
from media.aio.objects import Consumer, Layer, Producer
from media.aio.pipe import Pipes, PipeTransport
from media.aio.steering import Steering
from media.aio.tcp import TcpPort
from media.aio.transport import Direction, Transport
from media.aio.turns import Turns
from media.aio.udp import UdpPort
from media.core import control, ortc, ortc_transport
from media.core.codecs import Codec
from media.core.control import JsonObject, MediaError, MediaErrorCode
from media.core.ice import Consent, Credentials
from media.core.layers import View
from media.core.loudest import LoudestVoices
from media.core.ortc_fields import OrtcError
from media.core.rewriter import ViewerNumbers
from media.core.router import ExtensionPlan
from media.core.sctp import MAX_STREAMS
from media.core.speaker import SpeakerDetector

log = logging.getLogger(__name__)

TICK_S = 0.02
"""Between looks at what is due while something is asked for again or waits to leave."""
CALM_TICK_S = 0.1
"""The same while nothing does: each look wakes the process up, at ten viewers a tenth of its CPU."""
SPEAKER_INTERVAL_US = 200_000
CONSENT_INTERVAL_US = 500_000
MAX_TRANSPORTS = 4096
"""Per worker; far above what one core can serve, it only bounds a caller's mistake."""
MAX_PER_TRANSPORT = 256
"""Producers, Consumers, DataProducers or DataConsumers of one client."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Router:
    """One consult's share of the worker."""

    id: str
    data: DataPlane
    speakers: SpeakerDetector[str] = field(default_factory=SpeakerDetector)
    voices: LoudestVoices[str] = field(default_factory=LoudestVoices)
    transports: dict[str, Transport] = field(default_factory=dict)


class Relay:
    """The state of one worker.

    Args:
        notify: called with what the worker says unasked; must not block.
        addresses: IP addresses announced to clients, most preferred first.
        protocols: what is listened on and announced.
        forward: how media is sent on.

    Raises:
        ForwardUnavailable: not in this way.
    """

    def __init__(
        self,
        clock: Clock,
        notify: Callable[[control.AnyNotification], None],
        addresses: Sequence[str],
        protocols: Sequence[ortc_transport.Protocol] = ortc_transport.PROTOCOLS,
        forward: ForwardPath = "auto",
    ) -> None:
        self.counters = Counters()
        self._clock = clock
        self._notify = notify
        self._addresses = list(addresses)
        self._protocols = list(protocols)
        self._certificate = Certificate()
        self._turns = Turns(self.counters.broke)
        self._mux = Mux(self.counters)
        self._udp = UdpPort(self.counters, clock, self._datagram, self._batch_end)
        self._fan = load(forward)
        self._forwarder = Forwarder(self._udp, self.counters, self._fan)
        self._feedback = Feedback(self.counters, self._forwarder, self._hurry)
        self._steering = Steering(self.counters, self._feedback, notify)
        self._lanes = Lanes(self._forwarder, self.counters, self._steering)
        self._lines = Lines(self.counters, self._forwarder, self._steering, notify)
        self._feedback.attach(self._lines)
        self._ingress = Ingress(self._udp.buffer, self.counters, self._feedback, self._lanes)
        self._mux.attach(self._udp, self._ingress)
        self._tcp = TcpPort(self.counters, clock, self._udp.buffer, self._datagram, self._batch_end, self._mux.closed)
        self.pipes = Pipes(self._udp.buffer, self.counters, clock, self._ingress, self._feedback, self._piped_data)
        self._routers: dict[str, Router] = {}
        self._transports: dict[str, Transport] = {}
        self._producers: dict[str, Producer] = {}
        self._consumers: dict[str, Consumer] = {}
        self._data_producers: dict[str, DataProducer] = {}
        self._data_consumers: dict[str, DataConsumer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._calm = False
        self._speakers_due_us = self._consent_due_us = 0
        self._maps = TimeMaps(self.counters, self._routers, self._transports, self._feedback.round_trip_us)
        self._lanes.on_enter = self._maps.entered
        self._feedback.on_jump = self._maps.jumped
        self._port = 0

    def open(self, bind: str, port: int) -> int:
        """Take the port, of UDP and TCP, and begin; returns the port.

        Raises:
            OSError: it cannot be had.
        """
        wait: Wait | None = None
        if self._fan is not None and isinstance(asyncio.get_running_loop(), MediaLoop):
            intake = Intake(
                self._fan,
                self._udp,
                self.counters,
                self._clock,
                self._ingress,
                self._lanes,
                self._datagram,
                self._batch_end,
            )
            self._mux.watch = self._lanes.intake = intake
            wait = intake.wait
        self._port = ports.open_both(self._udp, self._tcp, bind, port, self._protocols, wait)
        self._schedule()
        return self._port

    async def close(self) -> None:
        """Close every Router and release the port; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for router in list(self._routers):
            self.close_router(router)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self.pipes.close()
        self._tcp.close()
        self._forwarder.close()
        self._udp.close()

    # ------------------------------------------------------------- routers and transports

    def open_router(self, router: str) -> JsonObject:
        """Make a Router; its RTP capabilities. The same id again is refused."""
        _refuse_existing(self._routers, router)
        self._routers[router] = Router(router, DataPlane(self.counters, self._clock))
        return ortc.router_capabilities()

    def close_router(self, router: str) -> None:
        """Close a Router with its Transports; idempotent."""
        found = self._routers.get(router)
        if found is not None:
            for transport in list(found.transports.values()):
                self._drop_transport(transport)
            found.data.end_tap()
            del self._routers[router]
            for name, count in found.data.hub.counters.items():
                self.counters.add(f"waveform_{name}", count)

    def create_transport(self, router: str, transport: str, owner: str, direction: Direction) -> JsonObject:
        """Make a Transport; what the client needs to reach it."""
        found = _get(self._routers, router, "router")
        _refuse_existing(self._transports, transport)
        if len(self._transports) >= MAX_TRANSPORTS:
            raise MediaError(MediaErrorCode.LIMIT, "this worker has no room for another transport")
        made = Transport(
            transport_id=transport,
            router_id=router,
            owner=owner,
            direction=direction,
            credentials=self._new_credentials(),
            certificate=self._certificate,
            send=self._mux.send,
            spawn=self._spawn,
            counters=self.counters,
            events=self,
            turns=self._turns,
        )
        self._transports[transport] = found.transports[transport] = made
        self._mux.add(made, made.ice.current.ufrag)
        return ortc_transport.transport_options(
            transport,
            made.ice.current.ufrag,
            made.ice.current.password,
            ortc_transport.ice_candidates(self._addresses, self._port, self._protocols),
            self._certificate.sha256_fingerprint(),
        )

    def connect_transport(self, transport: str, dtls_parameters: JsonObject) -> None:
        """Give the client's fingerprint and role."""
        found = _get(self._transports, transport, "transport")
        found.connect(_ortc(ortc_transport.parse_dtls, dtls_parameters), self._clock() // 1000)

    def restart_ice(self, transport: str) -> JsonObject:
        """Add a generation of credentials; the client's new iceParameters."""
        found = _get(self._transports, transport, "transport")
        credentials = self._new_credentials()
        self._mux.retire(found.ice.restart(credentials))
        self._mux.add(found, credentials.ufrag)
        return ortc_transport.ice_parameters(credentials.ufrag, credentials.password)

    def close_transport(self, transport: str) -> None:
        """Close a Transport and all it carries; idempotent."""
        found = self._transports.get(transport)
        if found is not None:
            self._drop_transport(found)

    def accept_pipe(self, router: str, transport: str, owner: str, key: str) -> None:
        """Make a Transport for a publisher on another worker."""
        found = _get(self._routers, router, "router")
        _refuse_existing(self._transports, transport)
        made = PipeTransport(
            transport_id=transport,
            router_id=router,
            owner=owner,
            certificate=self._certificate,
            spawn=self._spawn,
            counters=self.counters,
            events=self,
        )
        self.pipes.expect(key, made)
        self._transports[transport] = found.transports[transport] = made

    def open_pipe(self, transport: str, path: str, key: str) -> None:
        """Copy what a publisher sends to the worker that expects this key."""
        self.pipes.connect(self._sending(transport, "send"), Path(path), key)

    # ------------------------------------------------------------- media

    def produce(
        self,
        transport: str,
        producer: str,
        kind: Literal["audio", "video"],
        rtp_parameters: JsonObject,
        paused: bool,
        content: Literal["camera", "screen"] = "camera",
    ) -> None:
        """Register a media source."""
        found = self._sending(transport, "send")
        _refuse_existing(self._producers, producer)
        _limit(found.producers)
        parameters = _ortc(ortc.parse_producer, kind, rtp_parameters)
        self._refuse_clash(found, parameters)
        ids = parameters.extension_ids
        sent = ortc.SENT_EXTENSIONS[kind]
        audio = kind == "audio"
        level_id = ids.get(ortc.AUDIO_LEVEL_URI, 0) if audio else 0
        layers = [Layer(index) for index in range(len(parameters.encodings))]
        made = Producer(
            id=producer,
            router_id=found.router_id,
            transport_id=transport,
            leg=found.leg,
            parameters=parameters,
            is_audio=audio,
            payload_type=ortc.PAYLOAD_TYPES[parameters.codec],
            forwarded_ids={
                theirs: ortc.EXTENSION_IDS[uri]
                for uri, theirs in ids.items()
                if uri in sent and uri not in ortc.PER_VIEWER and (parameters.nested or uri != ortc.DEPENDENCY_URI)
            },
            level_id=level_id,
            # VP8 says itself what it says there, and more.
            dependency_id=0 if parameters.codec in (Codec.OPUS, Codec.VP8) else ids.get(ortc.DEPENDENCY_URI, 0),
            level=self._routers[found.router_id].speakers.add(producer) if level_id else None,
            voices=self._routers[found.router_id].voices if level_id else None,
            cname=f"c-{transport}",
            content=content,
            paused=paused,
            layers=layers,
            announced=tuple(layers),
        )
        self._producers[producer] = found.producers[producer] = made
        if made.voices is not None and not paused:
            self._add_voice(made.voices, producer)
        if parameters.feedback.transport_cc and not isinstance(found, PipeTransport):
            found.twcc_id = ids.get(ortc.TRANSPORT_CC_URI, 0) or found.twcc_id  # the same for all of a Transport
            if found.leg.intake is not None:
                found.leg.intake.disarm()

    def pause_producer(self, producer: str) -> None:
        """Drop what it sends."""
        found = _get(self._producers, producer, "producer")
        found.paused = True
        if found.voices is not None:
            found.voices.remove(producer)
        self._refresh(found)

    def resume_producer(self, producer: str) -> None:
        """Forward it again, from a key frame."""
        found = _get(self._producers, producer, "producer")
        found.paused = False
        if found.voices is not None:
            self._add_voice(found.voices, producer)
        self._refresh(found)

    def _add_voice(self, voices: LoudestVoices[str], producer: str) -> None:
        voices.add(producer)
        if voices.choosing:
            for other in self._producers.values():
                if other.voices is voices:
                    for lane in other.layers[0].lanes:
                        lane.disturb()  # from now on each packet is asked about

    def close_producer(self, producer: str) -> None:
        """Close a Producer and its Consumers; idempotent."""
        found = self._producers.get(producer)
        if found is not None:
            self._drop_producer(found)

    def consume(self, transport: str, consumer: str, producer: str, rtp_capabilities: JsonObject) -> JsonObject:
        """Make a paused Consumer: rtp_parameters, producer_paused, kind."""
        found = self._sending(transport, "recv")
        source = _get(self._producers, producer, "producer")
        if source.router_id != found.router_id:
            raise MediaError(MediaErrorCode.NOT_FOUND, "no such producer in this router")
        _refuse_existing(self._consumers, consumer)
        _limit(found.consumers)
        viewer = _ortc(ortc.parse_capabilities, rtp_capabilities)
        ssrc = self._new_ssrc(found, ())
        rtx_ssrc = self._new_ssrc(found, (ssrc,))
        mid = ortc.consumer_mid(found.next_mid)
        agreed = _ortc(ortc.consumer_parameters, source.parameters, viewer, ssrc, rtx_ssrc, mid, source.cname)
        found.next_mid += 1
        made = Consumer(
            id=consumer,
            owner=found.owner,
            producer=source,
            transport_id=transport,
            leg=found.leg,
            ssrc=ssrc,
            rtx_ssrc=rtx_ssrc,
            rtx_payload_type=agreed.rtx_payload_type or 0,
            redundant=agreed.redundant,
            plan=ExtensionPlan(
                ids=frozenset(agreed.extension_ids.values()),
                abs_send_time_id=agreed.extension_ids.get(ortc.ABS_SEND_TIME_URI, 0),
                transport_cc_id=agreed.extension_ids.get(ortc.TRANSPORT_CC_URI, 0),
            ),
            # 15 bits: libsrtp guesses the rollover counter of a first number near the wrap wrongly at the receiver
            numbers=ViewerNumbers(secrets.randbits(15)),
            rtx_seq=secrets.randbits(15),
        )
        self._consumers[consumer] = source.consumers[consumer] = found.consumers[ssrc] = made
        return {
            "rtp_parameters": agreed.rtp_parameters,
            "producer_paused": source.paused,
            "kind": source.parameters.kind,
        }

    def pause_consumer(self, consumer: str) -> None:
        """Stop forwarding to one viewer."""
        found = _get(self._consumers, consumer, "consumer")
        found.paused = True
        self._steering.stop(found, self._clock())

    def resume_consumer(self, consumer: str) -> None:
        """Forward to one viewer from the next key frame, and ask for it."""
        found = _get(self._consumers, consumer, "consumer")
        found.paused = False
        self._steering.steer(found, self._clock())

    def view_consumer(self, consumer: str, width: int, height: int, rank: Literal["main", "tile"]) -> None:
        """Take in what a viewer's screen shows of it; it is moved to the layer that fits."""
        found = _get(self._consumers, consumer, "consumer")
        found.view = View(width, height, rank)
        self._lines.viewed(self._transports[found.transport_id], self._clock())
        self._steering.steer(found, self._clock())

    def close_consumer(self, consumer: str) -> None:
        """Close a Consumer; idempotent."""
        found = self._consumers.get(consumer)
        if found is not None:
            self._drop_consumer(found)

    # ------------------------------------------------------------- data

    def produce_data(
        self,
        transport: str,
        data_producer: str,
        label: str,
        protocol: str,
        sctp_stream_parameters: JsonObject,
        waveform: control.WaveformSource | None,
        vitals: control.VitalsSource | None = None,
    ) -> None:
        """Register an SCTP stream a client sends on."""
        found = self._sending(transport, "send")
        _refuse_existing(self._data_producers, data_producer)
        _limit([p for p in self._data_producers.values() if p.transport is found])
        stream = _ortc(ortc_transport.parse_sctp_stream, sctp_stream_parameters)
        if stream.stream_id >= MAX_STREAMS:
            raise MediaError(MediaErrorCode.BAD_PARAMETERS, f"streamId must be below {MAX_STREAMS}")
        if (label == ECG) != (waveform is not None):
            raise MediaError(MediaErrorCode.BAD_PARAMETERS, f"a waveform has the label {ECG}, and only it")
        if (label == VITALS) != (vitals is not None):
            raise MediaError(MediaErrorCode.BAD_PARAMETERS, f"vital signs have the label {VITALS}, and only they")
        made = DataProducer(
            id=data_producer,
            transport=found,
            label=label,
            protocol=protocol,
            stream=stream,
            waveform_stream=None if waveform is None else waveform.stream_id,
            vitals=None if vitals is None else VitalsGate(vitals.simulated, vitals.context_version),
        )
        self._routers[found.router_id].data.produce(made, waveform)
        self._data_producers[data_producer] = made

    def close_data_producer(self, data_producer: str) -> None:
        """Close a DataProducer and its DataConsumers; idempotent."""
        found = self._data_producers.get(data_producer)
        if found is not None:
            self._drop_data_producer(found)

    def consume_data(self, transport: str, data_consumer: str, data_producer: str) -> JsonObject:
        """Make a paused DataConsumer: sctp_stream_parameters, label, protocol."""
        found = self._sending(transport, "recv")
        _refuse_existing(self._data_consumers, data_consumer)
        source = None if data_producer == CTL else _get(self._data_producers, data_producer, "data producer")
        if source is not None and source.transport.router_id != found.router_id:
            raise MediaError(MediaErrorCode.NOT_FOUND, "no such data producer in this router")
        taken = {c.stream.stream_id for c in self._data_consumers.values() if c.transport is found}
        if len(taken) >= MAX_PER_TRANSPORT:
            raise MediaError(MediaErrorCode.LIMIT, "too many data consumers on one transport")
        made = self._routers[found.router_id].data.consume(data_consumer, found, source, taken)
        self._data_consumers[data_consumer] = made
        found.waveforms += made.is_waveform
        return {
            "sctp_stream_parameters": made.stream.parameters(),
            "label": CTL if source is None else source.label,
            "protocol": "" if source is None else source.protocol,
        }

    def resume_data_consumer(self, data_consumer: str) -> None:
        """The client has its end of the channel: begin to send."""
        _get(self._data_consumers, data_consumer, "data consumer").resumed = True

    def close_data_consumer(self, data_consumer: str) -> None:
        """Close a DataConsumer; idempotent."""
        found = self._data_consumers.get(data_consumer)
        if found is not None:
            self._drop_data_consumer(found)

    def tap_data(self, router: str, path: str, key: str) -> None:
        """Copy a Router's waveforms and vital signs to the application."""
        _get(self._routers, router, "router").data.tap(Path(path), bytes.fromhex(key), self._turns)

    def is_idle(self) -> bool:
        """Nobody is connected, nor has begun to."""
        return not self._transports

    def stats(self) -> dict[str, int]:
        """Counters by name, and what is open now."""
        counters = dict(self.counters.values)
        for router in self._routers.values():
            for name, count in router.data.hub.counters.items():
                counters[f"waveform_{name}"] = counters.get(f"waveform_{name}", 0) + count
        counters["tcp_streams_now"] = self._tcp.streams
        counters["routers_now"] = len(self._routers)
        counters["transports_now"] = len(self._transports)
        counters["transports_connected_now"] = sum(t.connected for t in self._transports.values())
        counters["producers_now"] = len(self._producers)
        counters["consumers_now"] = len(self._consumers)
        counters["data_producers_now"] = len(self._data_producers)
        counters["data_consumers_now"] = len(self._data_consumers)
        return counters

    # ------------------------------------------------------------- what Transports tell

    def transport_ready(self, transport: Transport) -> None:
        """SRTP is up: Consumers may start, and only now a key frame is worth asking for."""
        if transport.closed:
            return
        self._announce(transport, "connected")
        if transport.direction == "recv":
            self._lines.began(transport, self._clock())
        for consumer in transport.consumers.values():
            self._steering.steer(consumer, self._clock())

    def transport_moved(self, transport: Transport) -> None:
        """Media goes another way now; what was lost on the old one is a picture (ORTC trap 15)."""
        self.counters.add("ice_moves")
        for consumer in transport.consumers.values():
            self._steering.steer(consumer, self._clock())
            self._feedback.renew_picture(consumer, self._clock())

    def transport_failed(self, transport: Transport) -> None:
        """It ended by itself: close it and say so."""
        if not transport.closed:
            self._lose_transport(transport)

    # ------------------------------------------------------------- packets and time

    def _datagram(self, offset: int, size: int, address: tuple[Any, ...], now_us: int) -> None:
        try:
            self._mux.datagram(offset, size, address, now_us)
        except Exception:  # a bug met by one datagram must not end the read loop of every consult
            self.counters.broke("datagram_errors")

    def _batch_end(self, now_us: int) -> None:
        self._ingress.flush(now_us)
        self.pipes.flush()

    def _piped_data(self, transport: PipeTransport, identity: str, message: bytes | str) -> None:
        producer = self._data_producers.get(identity)
        if producer is None or producer.transport is not transport:
            self.counters.add("pipe_unknown_data")
        else:
            self._routers[transport.router_id].data.piped(producer, message)

    def _schedule(self) -> None:
        self._calm = not (self._feedback.busy or any(router.data.backlogged for router in self._routers.values()))
        loop = asyncio.get_running_loop()
        due = on_grid(loop.time(), CALM_TICK_S) if self._calm else loop.time() + TICK_S
        self._timer = loop.call_at(due, self._on_timer)

    def _hurry(self) -> None:
        """Something became due soon."""
        if self._calm and self._timer is not None:
            self._timer.cancel()
            self._schedule()

    def _on_timer(self) -> None:
        self._tick(self._clock())
        self._schedule()

    def _tick(self, now_us: int) -> None:
        stages: tuple[Callable[[], None], ...] = (
            lambda: self._feedback.tick(self._transports.values(), now_us),
            lambda: self._steering.tick(self._producers.values(), now_us),
            lambda: self._lines.tick(now_us),
            self._tick_data,
            lambda: self._maps.tick(now_us),
            lambda: self._tick_seldom(now_us),
        )
        for stage in stages:
            try:
                stage()
            except Exception:  # a bug met by one object must not keep what else is due from being done
                self.counters.broke("tick_errors")

    def _tick_data(self) -> None:
        for router in self._routers.values():
            router.data.tick()

    def _tick_seldom(self, now_us: int) -> None:
        if now_us >= self._speakers_due_us:
            self._speakers_due_us = now_us + SPEAKER_INTERVAL_US
            self._update_speakers(now_us)
        if now_us >= self._consent_due_us:
            self._consent_due_us = now_us + CONSENT_INTERVAL_US
            self.judge_consent(now_us)

    def judge_consent(self, now_us: int) -> None:
        """Announce Transports that have become unstable or recovered; close the dead."""
        for transport in list(self._transports.values()):
            consent = transport.judge(now_us // 1000)
            if consent is Consent.CLOSED:
                self._lose_transport(transport)
            elif transport.connected and consent is Consent.UNSTABLE:
                self._announce(transport, "unstable")
            elif transport.connected and consent is Consent.CONNECTED:
                self._announce(transport, "connected")

    def _update_speakers(self, now_us: int) -> None:
        for router in self._routers.values():
            if router.speakers.update(now_us):
                self._notify(control.ActiveSpeaker(router=router.id, producer=router.speakers.active))

    def _announce(self, transport: Transport, state: Literal["connected", "unstable", "closed"]) -> None:
        if transport.announced != state:
            transport.announced = state
            self._notify(
                control.TransportState(
                    router=transport.router_id, owner=transport.owner, transport=transport.id, state=state
                )
            )

    # ------------------------------------------------------------- closing

    def _lose_transport(self, transport: Transport) -> None:
        """Close a Transport of our own accord and tell what went with it."""
        producers = list(transport.producers.values())
        consumers = {c.id: c for c in transport.consumers.values()}
        for producer in producers:
            consumers.update(producer.consumers)
        self._drop_transport(transport)
        for consumer in consumers:
            self._notify(control.ConsumerClosed(router=transport.router_id, consumer=consumer))
        for producer in producers:
            self._notify(control.ProducerClosed(router=transport.router_id, producer=producer.id))
        self._announce(transport, "closed")

    def _drop_transport(self, transport: Transport) -> None:
        transport.closed = True
        for tap in transport.taps:
            tap.close()
        for consumer in list(transport.consumers.values()):
            self._drop_consumer(consumer)
        for producer in list(transport.producers.values()):
            self._drop_producer(producer)
        for data_consumer in [c for c in self._data_consumers.values() if c.transport is transport]:
            self._drop_data_consumer(data_consumer)
        for data_producer in [p for p in self._data_producers.values() if p.transport is transport]:
            self._drop_data_producer(data_producer)
        del self._transports[transport.id]
        self.counters.add("transports_closed")
        del self._routers[transport.router_id].transports[transport.id]
        self._feedback.forget_transport(transport)
        self._lines.ended(transport)
        self._mux.remove(transport)
        self._spawn(transport.close())

    def _drop_producer(self, producer: Producer) -> None:
        for consumer in list(producer.consumers.values()):
            self._drop_consumer(consumer)
        self._producers.pop(producer.id, None)
        self._feedback.forget(producer)
        transport = self._transports[producer.transport_id]
        del transport.producers[producer.id]
        for ssrc in [s for s, stream in transport.streams.items() if stream.producer is producer]:
            del transport.streams[ssrc]
        for layer in producer.layers:  # a stream names its Producer: while others stay nobody looks for such knots
            layer.media = layer.repair = None
        self._routers[producer.router_id].speakers.remove(producer.id)
        self._routers[producer.router_id].voices.remove(producer.id)

    def _drop_consumer(self, consumer: Consumer) -> None:
        self._steering.stop(consumer, self._clock())
        self._consumers.pop(consumer.id, None)
        consumer.producer.consumers.pop(consumer.id, None)
        del self._transports[consumer.transport_id].consumers[consumer.ssrc]
        self._forwarder.forget(consumer)
        if consumer.leg.srtp is not None:
            consumer.leg.srtp.forget_outbound(consumer.ssrc)
            consumer.leg.srtp.forget_outbound(consumer.rtx_ssrc)

    def _drop_data_producer(self, producer: DataProducer) -> None:
        for consumer in list(producer.consumers.values()):
            self._drop_data_consumer(consumer)
        self._data_producers.pop(producer.id, None)
        self._routers[producer.transport.router_id].data.close_producer(producer)

    def _drop_data_consumer(self, consumer: DataConsumer) -> None:
        if self._data_consumers.pop(consumer.id, None) is not None:
            consumer.transport.waveforms -= consumer.is_waveform
        self._routers[consumer.transport.router_id].data.close_consumer(consumer)

    # ------------------------------------------------------------- small things

    def _refresh(self, producer: Producer) -> None:
        for consumer in producer.consumers.values():
            self._steering.steer(consumer, self._clock())

    def _sending(self, transport: str, direction: Direction) -> Transport:
        found = _get(self._transports, transport, "transport")
        if found.direction != direction:
            raise MediaError(MediaErrorCode.BAD_STATE, f"not a {direction} transport")
        return found

    def _refuse_clash(self, transport: Transport, parameters: ortc.ProducerParameters) -> None:
        mine = _announced_ssrcs(parameters)
        for other in transport.producers.values():
            if mine & _announced_ssrcs(other.parameters):
                raise MediaError(MediaErrorCode.BAD_PARAMETERS, "an SSRC is used by another producer")
            if parameters.mid is not None and parameters.mid == other.parameters.mid:
                raise MediaError(MediaErrorCode.BAD_PARAMETERS, "the mid is used by another producer")

    def _new_credentials(self) -> Credentials:
        while True:
            ufrag = secrets.token_hex(8)
            if not self._mux.knows_ufrag(ufrag):
                return Credentials(ufrag, secrets.token_hex(16))

    def _new_ssrc(self, transport: Transport, others: Sequence[int]) -> int:
        taken = {c.rtx_ssrc for c in transport.consumers.values()} | set(transport.consumers) | set(others)
        while True:
            ssrc = secrets.randbits(32)
            if ssrc > ortc.PROBATOR_SSRC and ssrc not in taken:
                return ssrc

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", exc_info=error)


def _get(table: dict[str, T], identity: str, what: str) -> T:
    found = table.get(identity)
    if found is None:
        raise MediaError(MediaErrorCode.NOT_FOUND, f"no such {what}")
    return found


def _refuse_existing(table: dict[str, T], identity: str) -> None:
    if identity in table:
        raise MediaError(MediaErrorCode.EXISTS, "the id is in use")


def _limit(objects: Sized) -> None:
    if len(objects) >= MAX_PER_TRANSPORT:
        raise MediaError(MediaErrorCode.LIMIT, "too many on one transport")


def _ortc(parse: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call a parser of the core; its refusal becomes the protocol's."""
    try:
        return parse(*arguments, **named)
    except OrtcError as error:
        raise MediaError(MediaErrorCode.BAD_PARAMETERS, error.reason) from error


def _announced_ssrcs(parameters: ortc.ProducerParameters) -> set[int]:
    return {s for e in parameters.encodings for s in (e.ssrc, e.rtx_ssrc) if s is not None}
